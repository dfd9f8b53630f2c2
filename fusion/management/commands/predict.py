"""`manage.py predict BUNDLE IMAGE... --out DIR`: what a bundle's network finds in new images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from fusion.imaging.errors import CaseError


class Command(BaseCommand):
    help = (
        "Predict IMAGES with the weights of a bundle's baseline: label maps on their own grids, "
        "or a table of probabilities or of boxes"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("bundle", type=Path, help="folder of a bundle, or its baseline/")
        parser.add_argument(
            "images", nargs="+", help="files, or DICOM folders; channels of a case: A,B"
        )
        parser.add_argument("--out", type=Path, required=True, help="folder of the predictions")

    def handle(self, *_: Any, bundle: Path, images: list[str], out: Path, **__: Any) -> None:
        from fusion.baseline.predict import predict_files  # it loads torch

        cases = [[Path(one) for one in image.split(",")] for image in images]
        try:
            for path in predict_files(bundle, cases, out, device=settings.DEVICE):
                self.stdout.write(str(path))
        except CaseError as error:
            raise CommandError(f"{error.code}: {error}") from error
        except (OSError, ValueError) as error:
            raise CommandError(str(error)) from error
