"""`manage.py bundle_view BUNDLE VIEW... --out DIR`: the bundle's pixels as another tool wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fusion.bundle.errors import BundleError
from fusion.bundle.materialise import write_views
from fusion.bundle.views import VIEWS


class Command(BaseCommand):
    help = "Write views of a bundle folder; several share their files by hard links."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("bundle", type=Path, help="folder of the bundle")
        parser.add_argument("views", nargs="+", choices=sorted(VIEWS))
        parser.add_argument("--out", type=Path, required=True, help="a new folder")
        parser.add_argument(
            "--lossy",
            action="store_true",
            help="nnunet: every concept, with an ignore value where one was not looked for",
        )

    def handle(
        self, *_: Any, bundle: Path, views: list[str], out: Path, lossy: bool, **__: Any
    ) -> None:
        try:
            made = write_views(bundle, views, out, lossy=lossy)
        except BundleError as error:
            raise CommandError(f"{error.code}: {error}") from error
        for name, view in made.items():
            self.stdout.write(f"{name}: {len(view.pixels)} pixel files, {len(view.files)} others")
