"""List what is doubtful or missing in the record files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.audit import CODES, audit, totals
from catalog.collection import HARVESTED, read_catalog
from catalog.records_io import FOLDER, RecordError

SEVERITIES = ("error", "warning", "info")


class Command(BaseCommand):
    help = "Report findings by code; --fail-on error makes errors fail the command."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--records", type=Path, default=FOLDER, help="folder of record files")
        parser.add_argument("--harvested", type=Path, default=HARVESTED, help="folder of tables")
        parser.add_argument("--code", action="append", choices=list(CODES), default=[])
        parser.add_argument("--fail-on", choices=SEVERITIES, help="fail on these and graver ones")
        parser.add_argument("--list", action="store_true", help="print each finding")
        parser.add_argument("--json", action="store_true", help="findings as JSON lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            facts = list(read_catalog(options["records"], options["harvested"]).values())
        except RecordError as error:
            raise CommandError(str(error)) from error
        findings = audit(facts)
        shown = [f for f in findings if not options["code"] or f.code in options["code"]]
        if options["json"]:
            for finding in shown:
                row = {**asdict(finding), "severity": finding.severity}
                self.stdout.write(json.dumps(row, ensure_ascii=False))
        else:
            if options["list"] or options["code"]:
                for finding in shown:
                    self.stdout.write(str(finding))
            for code, number in totals(findings).items():
                severity, meaning = CODES[code]
                self.stdout.write(f"{number:6d} {severity:8s} {code}: {meaning}")
            self.stdout.write(f"{len(facts)} datasets, {len(findings)} findings")
        if options["fail_on"]:
            grave = SEVERITIES[: SEVERITIES.index(options["fail_on"]) + 1]
            bad = [finding for finding in findings if finding.severity in grave]
            if bad:
                raise CommandError(f"{len(bad)} findings at {options['fail_on']} or above")
