"""The Celery application of the production shape."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready
from django.conf import settings

from hub.base.metrics import serve
from hub.events.fair_shares import shares

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")

app = Celery("flotilla")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["hub", "projects", "appsets"])
# For every thread: by default Celery sets the current application only for the thread that creates
# it.
app.set_default()


@worker_ready.connect
def _started(sender: Any, **_: Any) -> None:
    shares.use(sender.controller.concurrency)
    serve(settings.METRICS_PORT)
