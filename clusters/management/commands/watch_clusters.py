"""Watch clusters until stopped."""

import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from clusters.watching.watcher import Watcher
from hub.base.metrics import serve


class Command(BaseCommand):
    """`manage.py watch_clusters`: the watcher process of the production shape."""

    help = "Watch registered clusters and keep the live store true."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        del args, options
        serve(settings.METRICS_PORT)
        watcher = Watcher()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: watcher.stop())
        watcher.run()
