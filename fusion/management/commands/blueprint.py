"""May datasets of the catalog be fused, and how well do they fit? Asked before any file."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from catalog.search import QueryError
from fusion.blueprint import MODES, PROFILES, Blueprint
from fusion.errors import RecipeError
from fusion.partners import LIMIT
from fusion.recipe_files import load_description
from fusion.services import blueprint, choice, goal, partners


class Command(BaseCommand):
    help = (
        "Draw the blueprint of two to six datasets: eligibility, fit, labels, licence. With one "
        "dataset, list its best partners; with --goal, find the best set for it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", nargs="*", help="slugs of datasets")
        parser.add_argument(
            "--goal", nargs=3, metavar=("MODALITY", "ANATOMY", "TASK"), help="e.g. CT liver seg"
        )
        parser.add_argument(
            "--local", action="append", default=[], metavar="NAME=FILE",
            help="a folder with its source description; NAME may be the slug of its dataset",
        )  # fmt: skip
        parser.add_argument("--mode", choices=MODES, default=MODES[0], help="how labels join")
        parser.add_argument("--profile", choices=PROFILES, default="canonical")
        parser.add_argument("--task", default="", help="target task; the first in common if absent")
        parser.add_argument("--accept-confounding", action="store_true")
        parser.add_argument("--limit", type=int, default=LIMIT, help="partners listed")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            slugs = list(dict.fromkeys(options["slug"]))
            if options["goal"]:
                slugs += self._for_goal(options["goal"])
            described = dict(_described(text) for text in options["local"])
            if len(slugs) == 1 and not options["goal"] and not described:
                self._partners(slugs[0], options)
                return
            chosen = choice(
                options["mode"], options["profile"], options["task"],
                accept_confounding=options["accept_confounding"],
            )  # fmt: skip
            drawn = blueprint(slugs, chosen, described)
        except (QueryError, RecipeError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(drawn.as_dict(), ensure_ascii=False, indent=2))
        else:
            self._show(drawn)

    def _for_goal(self, words: list[str]) -> tuple[str, ...]:
        found = partners().for_goal(goal(*words))
        if not found.slugs:
            raise CommandError(
                f"goal: no two of {len(found.pool)} datasets that serve it fit well enough"
            )
        return found.slugs

    def _partners(self, slug: str, options: dict[str, Any]) -> None:
        known = partners()
        if slug not in known:
            raise CommandError(f"dataset: found {slug!r}, expected a slug of the catalog")
        found = known.of(slug, options["limit"])
        if options["json"]:
            data = {"dataset": slug, "total": found.total, "blocked": found.blocked,
                    "results": [one.as_dict() for one in found.partners]}  # fmt: skip
            self.stdout.write(json.dumps(data, ensure_ascii=False, indent=2))
            return
        turned = ", ".join(f"{code} {number}" for code, number in found.blocked.items())
        self.stdout.write(f"{found.total} partners; turned away by rule: {turned or 'none'}")
        for one in found.partners:
            self.stdout.write(
                f"{one.slug}: {one.score.band}, S {one.score.value}, C {one.score.known}: {one.why}"
                + (f" ({one.note})" if one.note else "")
            )

    def _show(self, drawn: Blueprint) -> None:
        codes = ", ".join(rule.code for rule in drawn.blocked)
        state = f"blocked by {codes}" if codes else "eligible as far as the catalog knows"
        self.stdout.write(f"{state}; fit: {drawn.band}, S {drawn.value}, C {drawn.known}")
        table = Table("rule", "verdict", "why")
        for rule in drawn.rules:
            table.add_row(f"{rule.code} {rule.title}", rule.verdict, rule.detail)
        text = io.StringIO()
        Console(file=text, width=120).print(table)
        self.stdout.write(text.getvalue(), ending="")
        for pair in drawn.scores:
            known = [f"{part.name} {part.value}" for part in pair.parts if part.value is not None]
            self.stdout.write(f"{pair.a} and {pair.b}: {pair.band}: {', '.join(known)}")
        for one in drawn.alignment.common:
            meet = "; ".join(f"{slug}: {', '.join(v)}" for slug, v in one.classes.items())
            self.stdout.write(f"{one.label}: {meet}")
        for asked in drawn.alignment.to_confirm():
            self.stdout.write(f"would meet if confirmed: {asked}")
        if drawn.splits:
            parts = ", ".join(f"{name} {number}" for name, number in drawn.splits.items())
            self.stdout.write(f"expected cases: {parts}")


def _described(text: str) -> tuple[str, dict[str, Any]]:
    """NAME=FILE: the name and the description in the file, or a shipped one of that name."""
    name, _, file = text.rpartition("=")
    return name or Path(file).stem, load_description(file)
