"""Bring a list of overlaps between datasets into the curated record files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.collection import read_tables, relation_problems, slug_of_row
from catalog.importers.entry import ImportSourceError
from catalog.importers.relations import join, read_aliases, read_overlaps
from catalog.records_io import FOLDER, RecordError, read_folder, write_folder

SHOWN = 20


class Command(BaseCommand):
    help = (
        "Add the relations of overlaps.csv to the records; names are matched by themselves or "
        "through aliases.yaml. What the records already relate is left alone."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, help="folder with overlaps.csv")
        parser.add_argument("--records", type=Path, default=FOLDER, help="folder of record files")
        parser.add_argument("--dry-run", action="store_true", help="report, write nothing")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            records = read_folder(options["records"])
            rows = read_overlaps(options["folder"])
            joined = join(records, rows, read_aliases(records))
            harvested: dict[str, Any] = {slug_of_row(*key): [] for key in read_tables()}
        except (ImportSourceError, RecordError) as error:
            raise CommandError(str(error)) from error
        relations = {
            slug: [row.model_dump() for row in record.relations]
            for slug, record in joined.records.items()
        }
        if problems := relation_problems(harvested | relations):
            raise CommandError("\n".join(map(str, problems)))
        lost = len(rows) - joined.added - joined.known
        self.stdout.write(
            f"{len(rows)} overlaps: {joined.added} new, {joined.known} known to the records, "
            f"{lost} of names that no record bears"
        )
        for name, number in joined.unmatched.most_common(SHOWN):
            self.stdout.write(f"  {number:4d} x {name}")
        if options["dry_run"]:
            self.stdout.write("dry run: nothing written")
            return
        written = write_folder(joined.records.values(), options["records"])
        self.stdout.write(f"{written.changed} records changed, {written.unchanged} unchanged")
