"""Remove what nobody needs: scratch, leftovers, caches, and bundles by the retention settings."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from workers.room import size
from workers.tidy import tidy


class Command(BaseCommand):
    help = "Remove scratch, leftovers, caches and bundles by rule (each worker does it hourly)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only tell what would go")

    def handle(self, **options: Any) -> None:
        found = tidy(dry_run=options["dry_run"])
        for one in found:
            self.stdout.write(f"{one.kind} {one.name}: {one.why} ({size(one.bytes)})")
        done = "would be removed" if options["dry_run"] else "removed"
        self.stdout.write(f"{len(found)} {done}, {size(sum(one.bytes for one in found))}")
