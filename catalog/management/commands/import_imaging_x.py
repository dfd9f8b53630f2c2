"""Convert the Project-Imaging-X table into record files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.importers.imaging_x import SOURCE, convert
from catalog.importers.tables import ImportSourceError, read_tables
from catalog.records_io import FOLDER, write_folder


class Command(BaseCommand):
    help = "Write one record file per distinct dataset of the Project-Imaging-X table."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", type=Path, help="folder with project_imaging_x/, vocabulary/")
        parser.add_argument("--records", type=Path, default=FOLDER, help="folder to write to")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            tables = read_tables(options["source"])
        except ImportSourceError as error:
            raise CommandError(str(error)) from error
        records = convert(tables)
        written = write_folder(records, options["records"], source=SOURCE)
        self.stdout.write(
            f"{len(tables.rows)} rows, {len(records)} datasets: {written.created} created, "
            f"{written.changed} changed, {written.unchanged} unchanged, {written.deleted} deleted"
        )
