"""Choose datasets by a rule file (MDFP phases 1-4) and say why each other one is dropped."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from catalog.models import Dataset
from catalog.rule_pool import Line
from catalog.rule_selection import Comparison, Selection, compare
from catalog.rules import DEFAULT, PROFILES, Rules, RulesError, parse_rules

STDIN = "-"
FIGURES = ("modality", "rows", "datasets", "organisations", "images", "labelled", "effective")


class Command(BaseCommand):
    help = (
        "Apply a rule file to the catalog: phase by phase, what is kept and by which rule each "
        "other dataset is dropped. Without a file the published default rules are applied."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("rules", nargs="?", help="rule file (JSON); - reads standard input")
        parser.add_argument("--profile", choices=list(PROFILES), default="stated")
        parser.add_argument("--dropped", action="store_true", help="list every dropped dataset")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--default", action="store_true", help="print the default rule file and stop"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["default"]:
            self.stdout.write(json.dumps(dict(DEFAULT), indent=2))
            return
        rules = self._rules(options["rules"])
        facts = Dataset.objects.facts()
        compared = compare(facts, rules)
        selection: Selection = getattr(compared, options["profile"])
        if options["json"]:
            data = {**selection.as_dict(), "comparison": compared.as_dict()}
            self.stdout.write(json.dumps(data, ensure_ascii=False, indent=2))
        else:
            self.stdout.write(_as_text(selection, compared, options["dropped"]), ending="")

    def _rules(self, name: str | None) -> Rules:
        if name is None:
            return Rules()
        try:
            text = sys.stdin.read() if name == STDIN else Path(name).read_bytes()
            return parse_rules(text)
        except OSError as error:
            raise CommandError(f"rules: {name}: {error.strerror}") from error
        except RulesError as error:
            raise CommandError("\n".join(fault.message for fault in error.faults)) from error


def _as_text(selection: Selection, compared: Comparison, dropped: bool) -> str:
    shown = io.StringIO()
    console = Console(file=shown, markup=False, width=shutil.get_terminal_size((100, 24)).columns)
    console.print(_phases(selection))
    for phase in selection.phases[:-1]:  # the last one orders the pool and drops nothing
        title = f"After phase {phase.number}, {phase.title.lower()}"
        console.print(_figures(title, (*phase.lines, phase.total)))
    console.print(_kept(selection))
    if dropped:
        console.print(_dropped(selection))
    other = compared.compatibility if selection is compared.stated else compared.stated
    title = f"Beside it, profile {other.profile}: {PROFILES[other.profile]}"
    console.print(_figures(title, (*other.lines, other.total)))
    for note in selection.notes:
        console.print(f"note: {note}")
    if not dropped:
        number = len(selection.dropped)
        console.print(f"{number} datasets dropped; --dropped lists each with its rules")
    return shown.getvalue()


def _phases(selection: Selection) -> Table:
    table = _table(
        f"{selection.considered} datasets, profile {selection.profile}",
        ("phase", "rule", "asks", "drops first", "drops in all", "left"),
    )
    for phase in selection.phases:
        asked = [rule for rule in phase.rules if rule.asks]
        for rule in asked:
            counts = (str(rule.first), str(rule.all), "")
            table.add_row(str(phase.number), rule.rule, rule.asks, *counts)
        table.add_row(str(phase.number), phase.title, "", "", "", str(phase.left), style="bold")
    return table


def _figures(title: str, lines: tuple[Line, ...]) -> Table:
    table = _table(title, FIGURES)
    for line in lines:
        ratio = "unknown" if line.labelled_ratio is None else f"{line.labelled_ratio:.3f}"
        number = line.effective_datasets
        effective = "unknown" if number is None else f"{number:.2f} of {line.images_datasets}"
        numbers = (line.rows, line.datasets, line.organisations, line.images)
        table.add_row(line.modality, *(f"{number:,}" for number in numbers), ratio, effective)
    return table


def _kept(selection: Selection) -> Table:
    columns = ("slug", "modality", "organisation", "images", "labelled", "year", "licence")
    table = _table(f"{len(selection.kept)} datasets kept", columns)
    labels = {True: "yes", False: "no", None: "unknown"}
    for row in selection.kept:
        images = "unknown" if row.images is None else f"{row.images:,}"
        table.add_row(
            row.slug,
            ", ".join(row.groups),
            row.facts["publisher"] or "unknown",
            images,
            labels[row.facts["labelled"]],
            str(row.facts["year"] or "unknown"),
            row.facts["licence"] or "unknown",
        )
    return table


def _dropped(selection: Selection) -> Table:
    columns = ("slug", "first rule", "found", "asked", "further rules")
    table = _table(f"{len(selection.dropped)} datasets dropped", columns)
    for row in selection.dropped:
        first, *others = row.failures
        further = ", ".join(failure.rule for failure in others)
        table.add_row(row.facts["slug"], first.rule, first.found, first.expected, further)
    return table


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
