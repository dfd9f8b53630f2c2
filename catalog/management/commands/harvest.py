"""Rebuild the table of a harvested source and say what changed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.collection import HARVESTED
from catalog.harvest import compare, read_table, write_table
from catalog.importers import idc, idc_live, openneuro
from catalog.importers.entry import Entry, ImportSourceError
from catalog.records_io import RecordError

SOURCES = {"idc": idc.entries, "openneuro": openneuro.entries}
LIVE = {"idc": idc_live.entries}
SHOWN = 5


class Command(BaseCommand):
    help = "Rebuild catalog/harvested/SOURCE.csv from a folder of metadata or a live source."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", choices=sorted(SOURCES))
        place = parser.add_mutually_exclusive_group(required=True)
        place.add_argument("--folder", type=Path, help="folder with a folder of each source")
        place.add_argument(
            "--live", action="store_true", help="read the installed package idc_index_data"
        )
        parser.add_argument("--table", type=Path, help="file to write, named SOURCE.csv")
        parser.add_argument("--dry-run", action="store_true", help="write nothing")

    def handle(self, *_args: Any, **options: Any) -> None:
        source: str = options["source"]
        table: Path = options["table"] or HARVESTED / f"{source}.csv"
        if options["live"] and source not in LIVE:
            raise CommandError(f"--live: expected one of {', '.join(LIVE)}, found {source}")
        try:
            after = list(LIVE[source]() if options["live"] else SOURCES[source](options["folder"]))
            before = list(read_table(table)) if table.exists() else []
            after.sort(key=lambda entry: entry.ref)
            self._report(before, after)
            if options["dry_run"]:
                self.stdout.write(f"{len(after)} entries; nothing written")
                return
            table.parent.mkdir(parents=True, exist_ok=True)
            written = write_table(after, table)
        except (ImportSourceError, RecordError, ValueError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{written} entries written to {table.name}")

    def _report(self, before: Iterable[Entry], after: Iterable[Entry]) -> None:
        changes = compare(before, after)
        for word in ("new", "changed", "gone", "unchanged"):
            refs: tuple[str, ...] = getattr(changes, word)
            named = ", ".join(refs[:SHOWN]) + (", ..." if len(refs) > SHOWN else "")
            some = f": {named}" if refs and word != "unchanged" else ""
            self.stdout.write(f"{len(refs):6d} {word}{some}")
