"""Search the catalog from the command line, with the query that page and API use."""

from __future__ import annotations

import io
import json
import shutil
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from catalog.search.engine import search
from catalog.search.errors import QueryError, SearchUnavailableError
from catalog.search.facets import FILTERS
from catalog.search.query import RANGES, SORTS, Query
from catalog.search.results import Results


class Command(BaseCommand):
    help = "Find datasets by words and facets."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("words", nargs="*", help="what to look for")
        for name in FILTERS:
            parser.add_argument(f"--{name}", action="append", default=[], metavar="VALUE")
        for name in RANGES:
            parser.add_argument(f"--{name.replace('_', '-')}", default="")
        parser.add_argument("--sort", default="", help=f"one of {', '.join(SORTS)}")
        parser.add_argument("--page", default="")
        parser.add_argument("--limit", default="", metavar="N")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        names = (*FILTERS, *RANGES, "sort", "page", "limit")
        params = {"q": " ".join(options["words"]), **{name: options[name] for name in names}}
        try:
            results = search(Query.from_params(params))
        except (QueryError, SearchUnavailableError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(results.as_dict(), ensure_ascii=False, indent=2))
        else:
            self._show(results)

    def _show(self, results: Results) -> None:
        shown = io.StringIO()
        console = Console(file=shown, width=shutil.get_terminal_size((100, 24)).columns)
        for item in results.understood:
            console.print(f"understood: {item.source} = {item.facet} {item.term}", markup=False)
        table = Table(title=f"{results.total} datasets", title_justify="left")
        for column in ("slug", "name", "score", "why"):
            table.add_column(column, overflow="fold")
        for hit in results.hits:
            table.add_row(hit.slug, hit.name, f"{hit.score:.2f}", "; ".join(hit.why))
        console.print(table)
        if results.near:
            near = Table(title="near matches", title_justify="left")
            for column in ("slug", "name", "differs"):
                near.add_column(column, overflow="fold")
            for close in results.near:
                near.add_row(close.slug, close.name, "; ".join(close.differs))
            console.print(near)
        self.stdout.write(shown.getvalue(), ending="")
