"""Look for datasets where they are kept; says which of them the catalog has."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog.models import Dataset
from fusion.errors import BuildError
from fusion.sources import SEARCHED, configured_rules, connector


class Command(BaseCommand):
    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("words", nargs="+")
        parser.add_argument("--place", action="append", choices=SEARCHED, help="default: each")
        parser.add_argument("--most", type=int, default=10, help="of each place")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print a line for each hit; a place that cannot be asked is named, the others go on."""
        known = [
            (slug, {link["url"] for link in links or ()})
            for slug, links in Dataset.objects.values_list("slug", "record__links")
        ]
        faults = []
        for name in options["place"] or SEARCHED:
            try:
                hits = connector(name).search(
                    " ".join(options["words"]), options["most"], configured_rules()
                )
            except BuildError as error:
                faults.append(f"{name}: {error.code}: {error}")
                continue
            for hit in hits:
                slug = next(
                    (slug for slug, urls in known if hit.url in urls), "not by this address"
                )
                self.stdout.write(
                    f"{name}  {hit.title}  {hit.url}  {hit.licence or 'no licence stated'}  "
                    f"catalog: {slug}"
                )
        if faults:
            raise CommandError("\n".join(faults))
