"""`describe_source FOLDER`: draft a source description from what lies in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fusion.draft import draft
from fusion.management.commands.fuse import known_catalog


class Command(BaseCommand):
    help = (
        "Draft the source description of FOLDER: layout, label values with their counts, and "
        "proposed concepts. What is marked TODO starts with '?' and is refused until confirmed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, help="folder of one dataset")
        parser.add_argument("--out", type=Path, help="file to write; default: print it")
        parser.add_argument("--dataset", default="", help="slug of the dataset in the catalog")

    def handle(self, *_: Any, **options: Any) -> None:
        folder: Path = options["folder"]
        if not folder.is_dir():
            raise CommandError(f"folder: found no folder {folder}")
        slug, facts = options["dataset"], None
        if slug:
            slugs, _graph, facts_of = known_catalog()
            if slug not in slugs:
                raise CommandError(f"dataset: found {slug!r}, expected a slug of the catalog")
            facts = facts_of([slug]).get(slug)
        text = draft(folder, slug, facts).text()
        if options["out"] is None:
            self.stdout.write(text, ending="")
            return
        options["out"].write_text(text, encoding="utf-8")
        self.stdout.write(f"draft: {options['out']}: {text.count('# TODO')} places to confirm")
