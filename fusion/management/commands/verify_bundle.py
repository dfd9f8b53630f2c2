"""`manage.py verify_bundle PATH`: is this bundle whole, and does it keep its promises?"""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fusion.bundle.errors import BundleError
from fusion.bundle.verify import verify_bundle


class Command(BaseCommand):
    help = "Verify a bundle: a folder, or an uncompressed tar of it. Exit code 1 if a check fails."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", help="folder or .tar of the bundle")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *_: Any, path: str, json: bool, **__: Any) -> None:
        try:
            report = verify_bundle(path)
        except BundleError as error:
            raise CommandError(str(error)) from error
        if json:
            self.stdout.write(_as_json(report.as_dict()))
        else:
            for check in report.checks:
                self.stdout.write(
                    f"{'ok    ' if check.ok else 'FAILED'} {check.code}: {check.name}"
                )
                for line in check.detail.splitlines():
                    self.stdout.write(f"         {line}")
        if not report.ok:
            failed = ", ".join(check.code for check in report.checks if not check.ok)
            raise CommandError(f"{path}: failed: {failed}")


def _as_json(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=2, sort_keys=True)
