"""`manage.py doctor`: check an installation and name the next steps."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from projects.diagnostics import CHECKS


class Command(BaseCommand):
    """Run every check, print one line each, and fail when one does."""

    help = "Check the set-up of this hub and say what to do."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the checks."""
        del args, options
        bad = 0
        for title, check in CHECKS:
            problem = check()
            bad += bool(problem)
            self.stdout.write(
                f"{'FAIL' if problem else 'ok  '}  {title}{f': {problem}' if problem else ''}"
            )
        if bad:
            raise CommandError(f"{bad} of {len(CHECKS)} checks failed")
