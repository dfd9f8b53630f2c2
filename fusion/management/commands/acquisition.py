"""How datasets are got: one record's plan, or how many each connector can fetch."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog.collection import read_catalog
from fusion.acquisition import asked, count_by_connector, narrowed, plan_of, timed
from fusion.errors import BuildError
from fusion.sources import configured_rules


class Command(BaseCommand):
    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", nargs="?", help="one dataset; without it: counts over all")
        parser.add_argument("--subjects", type=int, help="of the first so many people alone")
        parser.add_argument("--modality", default="", help="of one modality alone, as DICOM says")
        parser.add_argument("--body-part", default="", help="of one body part alone")
        parser.add_argument("--mbit", type=float, help="megabits a second, for the time it takes")
        parser.add_argument("--ask", action="store_true", help="ask the place for files and bytes")
        parser.add_argument(
            "--pattern", action="append", default=[], help="of files that are asked for"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print JSON for one dataset, a table for all."""
        catalog = read_catalog()
        if not options["slug"]:
            records = list(catalog.values())
            free = count_by_connector(records, ["none"])
            self.stdout.write("   all  without account  connector")
            for name, count in count_by_connector(records).items():
                self.stdout.write(f"{count:6,}  {free[name]:15,}  {name}")
            return
        if options["slug"] not in catalog:
            raise CommandError(f"found {options['slug']!r}, expected the slug of a dataset")
        plan = plan_of(catalog[options["slug"]])
        try:
            chosen = {key: options[key] for key in ("subjects", "modality", "body_part")}
            if any(chosen.values()):
                plan = narrowed(plan, **chosen)
            if options["ask"] or options["pattern"]:
                plan = asked(plan, configured_rules(), options["pattern"])
            shown = timed(plan, options["mbit"]).as_dict()
        except BuildError as error:
            raise CommandError(f"{error.code}: {error}") from error
        self.stdout.write(json.dumps(shown, indent=1, ensure_ascii=False))
