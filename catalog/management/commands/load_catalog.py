"""Load the records of catalog/records/ into the database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.collection import HARVESTED
from catalog.records_io import FOLDER, RecordError
from catalog.services import load_catalog


class Command(BaseCommand):
    help = "Load the dataset records into the database; safe to run again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--records", type=Path, default=FOLDER, help="folder of record files (*.yaml)"
        )

        parser.add_argument(
            "--harvested", type=Path, default=HARVESTED, help="folder of harvested tables (*.csv)"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        folder: Path = options["records"]
        if not folder.is_dir():
            raise CommandError(f"--records: {folder} is no folder")
        try:
            report = load_catalog(folder, options["harvested"])
        except RecordError as error:
            files = len({problem.file for problem in error.problems})
            raise CommandError(f"{error}\n{files} rejected, nothing loaded") from error
        self.stdout.write(
            f"{report.total} datasets: {report.created} created, {report.updated} updated, "
            f"{report.unchanged} unchanged, {report.deleted} deleted, 0 rejected"
        )
