"""`manage.py rebuild_bundle BUNDLE --data-root DIR --out DIR`: make it again and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console

from fusion.bundle.errors import BundleError
from fusion.errors import BuildError
from fusion.management.commands.fuse import TerminalProgress
from fusion.rebuild import rebuild


class Command(BaseCommand):
    help = "Rebuild a bundle from its recipe and your own copies of its sources, and compare."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("bundle", type=Path, help="a bundle folder, or its recipe folder")
        parser.add_argument("--out", type=Path, required=True, help="a new folder")
        parser.add_argument(
            "--data-root", type=Path, help="folder below which local sources lie; default: setting"
        )
        parser.add_argument(
            "--complete",
            action="store_true",
            help="fill in the cases that a shareable bundle lists without files; a private build",
        )

    def handle(self, *_: Any, bundle: Path, out: Path, complete: bool, **options: Any) -> None:
        out = out.resolve()
        if out.exists():
            raise CommandError(f"--out {out}: found something, expected a new folder")
        root = (options["data_root"] or settings.DATA_ROOT).resolve()
        try:
            with TerminalProgress(Console(stderr=True)) as progress:
                made = rebuild(bundle, root, out, progress, complete=complete)
        except (BuildError, BundleError) as error:
            raise CommandError(f"{error.code}: {error}") from error
        self.stdout.write(f"{made.equal}: {made.cases} cases: {'; '.join(made.lines)}")
        self.stdout.write(f"bundle: {out}")
