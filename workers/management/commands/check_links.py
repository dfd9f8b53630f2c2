"""Check addresses of the catalog."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.links import BAD, links_of, shown, sync_links
from catalog.models import CatalogLink, Dataset
from workers.links import check_due, check_now


class Command(BaseCommand):
    help = "Check addresses that are due, or all of the named datasets; list what is broken."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", nargs="*", help="datasets whose addresses are checked now")
        parser.add_argument("--seconds", type=float, default=300.0, help="for about so long")
        parser.add_argument("--list", action="store_true", help="list broken ones, check nothing")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["list"]:
            self._list()
            return
        if not options["slug"]:
            states = check_due(options["seconds"])
        else:
            sync_links()
            rows = [link for slug in options["slug"] for link in self._links(slug)]
            check_now(rows)
            states = Counter(row.state for row in rows)
        said = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        self.stdout.write(f"{sum(states.values())} checked: {said or 'nothing was due'}")

    def _links(self, slug: str) -> list[CatalogLink]:
        dataset = Dataset.objects.filter(slug=slug).first()
        if dataset is None:
            raise CommandError(f"slug: found {slug!r}, expected a dataset of the catalog")
        return list(links_of(dataset.record))

    def _list(self) -> None:
        rows = shown(CatalogLink.objects.filter(state__in=BAD))
        for row in rows:
            slugs = ", ".join(slug for slug, _ in row.datasets) or "no dataset"
            later = f" -> {row.link.successor}" if row.link.successor else ""
            self.stdout.write(f"{row.link.state} {row.link.url}: {row.link.detail}: {slugs}{later}")
        self.stdout.write(f"{len(rows)} broken or failing")
