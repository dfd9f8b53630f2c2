"""Write record files with the accepted corrections, to be sent upstream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.curation import corrected_records
from catalog.records_io import write_folder


class Command(BaseCommand):
    help = "Write the record file of every dataset with an accepted correction."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--out", type=Path, required=True, help="folder, as catalog/records")

    def handle(self, *_args: Any, **options: Any) -> None:
        out: Path = options["out"]
        if not out.absolute().parent.is_dir():
            raise CommandError(f"--out: {out.parent} is no folder")
        done = write_folder(corrected_records(), out)
        self.stdout.write(
            f"{done.created} created, {done.changed} changed, {done.unchanged} unchanged in {out}"
        )
