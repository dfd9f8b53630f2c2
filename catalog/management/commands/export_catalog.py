"""Write the catalog to a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.export import FORMATS
from catalog.models import Dataset


class Command(BaseCommand):
    help = "Write every dataset of the catalog to a file, in slug order."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=sorted(FORMATS), required=True)
        parser.add_argument("--out", type=Path, required=True, help="file to write")

    def handle(self, *_args: Any, **options: Any) -> None:
        out: Path = options["out"]
        if not out.absolute().parent.is_dir():
            raise CommandError(f"--out: {out.parent} is no folder")
        partial = out.with_name(out.name + ".partial")
        datasets = list(Dataset.objects.facts())
        _, _, write = FORMATS[options["format"]]
        partial.write_bytes(write(datasets))
        os.replace(partial, out)  # noqa: PTH105
        self.stdout.write(f"{len(datasets)} datasets written to {out}")
