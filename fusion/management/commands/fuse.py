"""`fuse RECIPE --out DIR`: the same stages as a worker runs, in this process."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table

from catalog.collection import read_catalog
from catalog.models import Dataset
from catalog.overlaps import OverlapGraph
from catalog.services import facts_of, overlap_graph
from fusion.baseline.document import PRIMARY_NAMES, figures_of, verdict_words, why_no_figure
from fusion.build import STAGES, Build, run_all
from fusion.bundle.errors import BundleError
from fusion.bundle.summary import summarise
from fusion.errors import BuildError, RecipeError
from fusion.plan import make_plan
from fusion.recipe_check import FactsOf, check_recipe
from fusion.recipe_files import example_recipes, load_recipe
from fusion.results import ResultFolder


class Command(BaseCommand):
    """Fuse the sources of a recipe into a bundle."""

    help = "Build the bundle of RECIPE (a YAML or JSON file, or the name of a shipped recipe)"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("recipe", help="recipe file, or one of the shipped names")
        parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
        parser.add_argument(
            "--data-root", type=Path, help="folder below which local sources lie; default: setting"
        )

    def handle(self, *_: Any, **options: Any) -> None:
        out: Path = options["out"].resolve()
        path = example_recipes().get(options["recipe"], Path(options["recipe"]))
        try:
            recipe = check_recipe(load_recipe(path), *known_catalog())
            plan = make_plan(recipe)
        except RecipeError as error:
            raise CommandError(f"recipe {options['recipe']}:\n{error}", returncode=2) from error
        if out.exists() and (not out.is_dir() or any(out.iterdir())) and not _is_bundle(out):
            raise CommandError(f"--out {out}: found other files, expected a new folder or a bundle")
        root = (options["data_root"] or settings.DATA_ROOT).resolve()
        work = out.with_name(f"{out.name}.work")
        limit = settings.RESULTS_BYTES
        results = ResultFolder(settings.RESULTS_DIR, limit) if limit else None
        build = Build(
            plan,
            root,
            work,
            out,
            results=results,
            device=settings.DEVICE,
            threads=settings.THREADS,
            children=settings.HARMONISE_WORKERS,
        )
        console = Console(stderr=True)
        try:
            with TerminalProgress(console) as progress:
                run_all(build, progress)
            if results:
                results.evict()
        except (BuildError, BundleError) as error:
            if error.code in {"busy", "disk_full"}:
                hint = f"; finished cases are kept in {work.name}, the same command goes on"
                raise CommandError(f"{error.code}: {error}{hint}") from error
            for folder in (work, build.partial):
                shutil.rmtree(folder, ignore_errors=True)
            raise CommandError(f"{error.code}: {error}") from error
        shutil.rmtree(work, ignore_errors=True)
        Console().print(summary_table(summarise(out)))
        self.stdout.write(f"bundle: {out}")


def _is_bundle(folder: Path) -> bool:
    return (folder / "SHA256SUMS").is_file() and (folder / "manifest.json").is_file()


def known_catalog() -> tuple[set[str], OverlapGraph, FactsOf]:
    """Slugs, relations and facts of the loaded catalog, or of the shipped records without one."""
    try:
        if slugs := set(Dataset.objects.values_list("slug", flat=True)):
            return slugs, overlap_graph(), facts_of
    except DatabaseError:
        pass
    facts = read_catalog()
    graph = OverlapGraph({slug: one["relations"] for slug, one in facts.items()})
    return set(facts), graph, lambda _: facts


class TerminalProgress(Bars):
    """One bar per stage on the terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._excluded = 0
        self._bars = {
            name: self.add_task(name, total=None, start=False, note="") for name in STAGES
        }
        self._current = self._bars[STAGES[0]]

    def stage(self, name: str, total: int) -> None:
        self._current = self._bars[name]
        self.start_task(self._current)
        self.update(self._current, total=total)

    def advance(self, done: int) -> None:  # type: ignore[override]
        self.update(self._current, completed=done)

    def case(
        self, source: str, name: str, state: str, *, stage: str, code: str = "", detail: str = ""
    ) -> None:
        if state == "excluded":
            self._excluded += 1
            self.update(self._current, note=f"{self._excluded} excluded")
            self.console.print(f"excluded at {stage}: {source}/{name}: {code}: {detail}")

    def check(self) -> None:
        """Ctrl-C is the cancel button here; nothing to ask."""


def summary_table(summary: dict[str, Any]) -> Table:
    """Sources, cases in, used and excluded by code, the fused figure per source."""
    baseline = summary.get("baseline") or {}
    table = Table(title=f"{summary['cases']} cases: {', '.join(summary['concepts'])}")
    figure = PRIMARY_NAMES[baseline.get("metric", "dice")]
    for column in ("source", "licence", "in", "used", "excluded", figure):
        table.add_column(column)
    for source in summary["sources"]:
        found = ", ".join(f"{c} {value:.2f}" for c, value in figures_of(baseline, source["id"]))
        why = ", ".join(f"{code} {n}" for code, n in source["excluded"].items())
        table.add_row(
            source["id"],
            "\n".join(f"{part}: {name}" for part, name in source["licence"].items()),
            str(source["cases_in"]),
            str(source["used"]),
            why or "none",
            found or why_no_figure(baseline, source["id"]),
        )
    splits = "; ".join(
        f"{split}: " + ", ".join(f"{source} {n}" for source, n in counts.items())
        for split, counts in summary["splits"].items()
    )
    table.caption = f"{splits}\nbaseline verdict: {verdict_words(baseline)}"
    return table
