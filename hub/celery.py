"""The Celery application of the production shape."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready
from django.conf import settings

from hub.base.metrics import serve

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")

app = Celery("flotilla")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["hub", "projects", "appsets"])
# In every thread: by itself Celery makes an application current for the thread alone that has made it.
app.set_default()


@worker_ready.connect
def _serve_metrics(**_: Any) -> None:
    serve(settings.METRICS_PORT)
