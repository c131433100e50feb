"""`manage.py create_admin`: the first account of the production shape."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from hub.demo import make_admin
from projects.objects.specs import default_project, home_cluster


class Command(BaseCommand):
    """Create `admin`, the project `default` and the destination `in-cluster`, unless they exist."""

    help = (
        "Create the account admin; its password is written to initial-admin-password "
        "in the data folder."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Create the missing ones."""
        del args, options
        folder = Path(settings.DATA_DIR)
        folder.mkdir(parents=True, exist_ok=True)
        home_cluster()
        default_project()
        path = make_admin(folder)
        self.stdout.write(
            f"the password of admin is in {path}" if path.exists() else "the account admin exists"
        )
