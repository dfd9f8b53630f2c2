"""Seal the credentials of all users under the first of IMAGINGX_CREDENTIAL_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fusion.errors import BuildError
from workers.credentials import reseal


class Command(BaseCommand):
    help = __doc__ or ""

    def handle(self, *_args: Any, **_options: Any) -> None:
        """All or none: one that no key opens is named, and must be removed first."""
        try:
            number = reseal()
        except BuildError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{number} credentials sealed under the first key")
