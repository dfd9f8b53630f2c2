"""Build the search index anew from the database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog.search.engine import reindex
from catalog.search.errors import SearchUnavailableError


class Command(BaseCommand):
    help = "Build the search index anew from the database; searches go on meanwhile."

    def handle(self, *_args: Any, **_options: Any) -> None:
        try:
            number = reindex()
        except SearchUnavailableError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{number} datasets indexed")
