"""The blueprint of a fusion (MDFP phase 3), drawn from what the catalog says. Pure.

It asks every eligibility rule of the datasets, tells what each rule saw, and says what is unknown:
a rule that needs the files is answered by the source descriptions and the files of a recipe, never
guessed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from statistics import median
from typing import Any, Literal, get_args

from catalog import vocab
from catalog.comparison import families_of_modality
from catalog.licences import CombinedLicence, combine, licence
from catalog.overlaps import Overlap, OverlapGraph
from fusion.alignment import Alignment, align
from fusion.compatibility import WEIGHTS, Band, Facts, Score, band, scores

Verdict = Literal["pass", "warn", "recipe only", "unknown", "block"]
Mode = Literal["intersection", "union"]
Profile = Literal["native", "canonical", "grid"]
MODES: tuple[Mode, ...] = get_args(Mode)
PROFILES: tuple[Profile, ...] = get_args(Profile)
FEWEST, MOST = 2, 6
TITLES = {
    "E01": "Same species, and real people or not",
    "E02": "Same dimension",
    "E03": "Same family of modality",
    "E04": "A task in common",
    "E05": "Labels that meet",
    "E06": "Units that the profile needs",
    "E07": "No shared people or images",
    "E08": "No licence forbids combination",
    "E09": "Licences allow what is built",
    "E10": "No class tells the source",
    "E11": "People can be told apart",
    "E12": "No personal data",
    "E13": "Labels made by people",
}
CONVERSIONS: Mapping[str, tuple[str, ...]] = {
    "Segmentation": ("Classification", "Detection", "Localization"),  # presence and box of a mask
    "Detection": ("Classification", "Localization"),
    "Localization": ("Classification",),
}
BY_CLASS = frozenset({"Segmentation", "Classification", "Detection", "Localization"})
NEEDS_UNITS = {"CT": "Hounsfield units", "CBCT": "Hounsfield units", "PET": "SUV",
               "Histopathology": "microns per pixel"}  # fmt: skip
SPLITS = {"train": 0.7, "val": 0.1, "test": 0.2}
CASE_UNITS = {
    "3D": ("volume", "series", "study", "subject"),
    "2D": ("image", "slide", "frame", "patch", "study", "subject"),
}
OTHER_UNITS = ("video", "series", "study", "subject", "image")


@dataclass(frozen=True)
class Choice:
    """What somebody wants to build. Without a `task` the first one in common is taken."""

    mode: Mode = "intersection"
    profile: Profile = "canonical"
    task: str = ""
    accept_confounding: bool = False


@dataclass(frozen=True)
class Rule:
    """One eligibility rule: its verdict, why, and the value it saw of each dataset."""

    code: str
    verdict: Verdict
    detail: str
    seen: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return TITLES[self.code]

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "title": self.title, **asdict(self)}


@dataclass(frozen=True)
class Source:
    """One dataset's share: cases as far as a count with a fitting unit is stated."""

    slug: str
    name: str
    cases: int | None
    unit: str
    size_bytes: int | None
    licence: str
    access: str
    homepage: str


@dataclass(frozen=True)
class Blueprint:
    """What would be fused, whether it may be, and how well it fits."""

    choice: Choice
    sources: tuple[Source, ...]
    rules: tuple[Rule, ...]
    scores: tuple[Score, ...]
    overlaps: tuple[Overlap, ...]
    licence: CombinedLicence
    alignment: Alignment
    dimensions: tuple[str, ...]
    families: tuple[str, ...]
    tasks: tuple[str, ...]
    spacing_mm: tuple[float, ...] | None

    @property
    def blocked(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.verdict == "block")

    @property
    def value(self) -> float | None:
        """S: the smallest over all pairs; None while a pair has none."""
        each = [one.value for one in self.scores]
        known = [value for value in each if value is not None]
        return min(known) if len(known) == len(each) else None

    @property
    def known(self) -> float:
        """C: the smallest over all pairs."""
        return min(one.known for one in self.scores)

    @property
    def band(self) -> Band:
        return band(self.value, self.known)

    @property
    def cases(self) -> int | None:
        """Cases of all that state some; None when none does."""
        known = [one.cases for one in self.sources if one.cases is not None]
        return sum(known) if known else None

    @property
    def splits(self) -> dict[str, int] | None:
        """Expected cases of each split, before duplicates are dropped and people kept together."""
        if self.cases is None:
            return None
        parts = {name: round(self.cases * share) for name, share in SPLITS.items()}
        return {**parts, "train": self.cases - parts["val"] - parts["test"]}

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "choice": asdict(self.choice),
            "verdict": "blocked" if self.blocked else "eligible as far as the catalog knows",
            "blocked_by": [rule.code for rule in self.blocked],
            "S": self.value,
            "C": self.known,
            "band": self.band,
            "sources": [asdict(one) for one in self.sources],
            "rules": [rule.as_dict() for rule in self.rules],
            "scores": [one.as_dict() for one in self.scores],
            "overlaps": [asdict(one) for one in self.overlaps],
            "licence": {**asdict(self.licence), "one_file": self.licence.one_file},
            "alignment": self.alignment.as_dict(),
            "target": {
                "dimensions": self.dimensions,
                "families": self.families,
                "tasks": self.tasks,
                "spacing_mm": self.spacing_mm,
            },
            "expected": {
                "cases": self.cases,
                "splits": self.splits,
                "size_bytes": sum(one.size_bytes or 0 for one in self.sources),
                "size_unknown": [one.slug for one in self.sources if one.size_bytes is None],
                "cases_unknown": [one.slug for one in self.sources if one.cases is None],
            },
        }


def draw(
    datasets: Sequence[Facts],
    overlaps: OverlapGraph,
    choice: Choice | None = None,
    weights: Mapping[str, float] = WEIGHTS,
) -> Blueprint:
    """The blueprint of two to six datasets of the catalog.

    Raises:
        ValueError: another number of datasets, or one of them twice.
    """
    slugs = [one["slug"] for one in datasets]
    if not FEWEST <= len(slugs) <= MOST or len(set(slugs)) < len(slugs):
        msg = f"datasets: found {', '.join(slugs) or 'none'}, expected {FEWEST} to {MOST} of them"
        raise ValueError(msg)
    wanted = choice or Choice()
    common_dimensions = _common(datasets, "dimensions")
    families = families_of_modality(datasets)
    tasks = common_tasks(datasets)
    alignment = align({one["slug"]: one["classes"] for one in datasets})
    known = [
        overlap
        for a, b in combinations(slugs, 2)
        if (overlap := overlaps.between(a, b)) is not None
    ]
    task = wanted.task or next(iter(tasks), "")
    rules = (
        _species(datasets),
        _listed("E02", datasets, "dimensions", common_dimensions),
        _listed("E03", datasets, "modalities", families, "family of modality"),
        _task(datasets, tasks, wanted.task),
        _labels(datasets, alignment, wanted.mode, task),
        _units(datasets, wanted.profile),
        _shared(known),
        *_licences(datasets, wanted.profile),
        _confounded(datasets, alignment, task, accepted=wanted.accept_confounding),
        _people(datasets),
        _safety(datasets),
        _made_by(datasets),
    )
    return Blueprint(
        choice=wanted,
        sources=tuple(_source(one, common_dimensions) for one in datasets),
        rules=rules,
        scores=scores(datasets, weights),
        overlaps=tuple(known),
        licence=combine(part for one in datasets for part in _parts(one)),
        alignment=alignment,
        dimensions=common_dimensions,
        families=families,
        tasks=tasks,
        spacing_mm=_spacing(datasets),
    )


def common_tasks(datasets: Sequence[Facts]) -> tuple[str, ...]:
    """Tasks that every dataset's labels serve, as they are first, then after a conversion."""
    own = [set(one["tasks"]) for one in datasets]
    reach = [reachable(one["tasks"]) for one in datasets]
    stated = set.intersection(*own)
    return (*sorted(stated), *sorted(frozenset.intersection(*reach) - stated))


def reachable(tasks: Sequence[str]) -> frozenset[str]:
    """Tasks that labels for `tasks` serve, converted ones too."""
    known = vocab.terms("task")
    wide = {up for t in tasks for up in (t, *(vocab.ancestors("task", t) if t in known else ()))}
    return frozenset(wide).union(*(CONVERSIONS.get(task, ()) for task in wide))


def _common(datasets: Sequence[Facts], key: str) -> tuple[str, ...]:
    return tuple(sorted(set.intersection(*(set(one[key]) for one in datasets))))


def _seen(datasets: Sequence[Facts], key: str) -> dict[str, str]:
    return {one["slug"]: ", ".join(map(str, one[key] or ())) or "unknown" for one in datasets}


def _names(rows: Sequence[str]) -> str:
    return ", ".join(rows)


def _species(datasets: Sequence[Facts]) -> Rule:
    """The catalog records no species; descriptions of local folders do."""
    seen = {one["slug"]: one.get("species") or "unknown" for one in datasets}
    known = {value for value in seen.values() if value != "unknown"}
    if len(known) > 1:
        return Rule("E01", "block", f"they differ: {_names(sorted(known))}", seen)
    if "unknown" in seen.values():
        detail = "the catalog records no species; the source descriptions of a recipe do"
        return Rule("E01", "unknown", detail, seen)
    return Rule("E01", "pass", f"all {known.pop()}", seen)


def _listed(
    code: str, datasets: Sequence[Facts], key: str, common: Sequence[str], what: str = ""
) -> Rule:
    """A field that may not be unknown, and of which something must be in common."""
    seen = _seen(datasets, key)
    missing = [one["slug"] for one in datasets if not one[key]]
    if missing:
        return Rule(code, "block", f"{key} of {_names(missing)}: unknown, which never passes", seen)
    if not common:
        return Rule(code, "block", f"they have no {what or key[:-1]} in common", seen)
    mixed = [one["slug"] for one in datasets if len(one[key]) > 1]
    only = f"; of {_names(mixed)} only that part" if mixed else ""
    return Rule(code, "pass", f"in common: {_names(common)}{only}", seen)


def _task(datasets: Sequence[Facts], tasks: Sequence[str], wanted: str) -> Rule:
    seen = _seen(datasets, "tasks")
    if missing := [one["slug"] for one in datasets if not one["tasks"]]:
        detail = f"tasks of {_names(missing)}: unknown or none, which never passes"
        return Rule("E04", "block", detail, seen)
    if not tasks:
        return Rule("E04", "block", "no task in common, not even after a conversion", seen)
    if wanted and wanted not in tasks:
        detail = f"{wanted} is not in common; {_names(tasks)} would be"
        return Rule("E04", "block", detail, seen)
    task = wanted or tasks[0]
    converted = [one["slug"] for one in datasets if task not in one["tasks"]]
    how = f"; converted from other labels of {_names(converted)}" if converted else ""
    return Rule("E04", "pass", f"{task}{how}", seen)


def _labels(datasets: Sequence[Facts], found: Alignment, mode: Mode, task: str) -> Rule:
    seen = _seen(datasets, "classes")
    if task and task not in BY_CLASS:
        return Rule("E05", "pass", f"{task} needs no classes", seen)
    if found.silent:
        detail = f"the catalog lists no classes of {_names(found.silent)}"
        return Rule("E05", "unknown", detail, seen)
    unmapped = {slug: len(found.unmapped(slug)) for slug in found.classes}
    left = [f"{number} of {slug}" for slug, number in unmapped.items() if number]
    rest = f"; classes not understood: {_names(left)}" if left else ""
    asked = _names(found.to_confirm())
    if mode == "intersection" and not found.common:
        verdict: Verdict = "unknown" if left else "block"
        yet = f" yet; these would meet if confirmed: {asked}" if asked else ""
        return Rule("E05", verdict, f"no concept in common{yet}{rest}", seen)
    nothing = [slug for slug, rows in found.classes.items() if not any(r.is_sure for r in rows)]
    if mode == "union" and nothing:
        detail = f"no class of {_names(nothing)} means a known concept{rest}"
        return Rule("E05", "unknown", detail, seen)
    meetings = found.common if mode == "intersection" else found.every
    more = f"; would meet, too, if confirmed: {asked}" if asked else ""
    return Rule("E05", "pass", f"{_names([one.label for one in meetings])}{more}{rest}", seen)


def _units(datasets: Sequence[Facts], profile: Profile) -> Rule:
    seen = {
        one["slug"]: _names([NEEDS_UNITS[m] for m in one["modalities"] if m in NEEDS_UNITS]) or "-"
        for one in datasets
    }
    if profile == "native" or all(value == "-" for value in seen.values()):
        return Rule("E06", "pass", "no unit is needed", seen)
    stated = {one["slug"]: one["unit"] for one in datasets if one.get("unit")}
    if len(stated) == len(datasets) and len(set(stated.values())) > 1:
        return Rule("E06", "block", "their stated units differ; native would do", seen | stated)
    return Rule("E06", "unknown", "the unit is read from the files", seen)


def _shared(known: Sequence[Overlap]) -> Rule:
    seen = {f"{one.a}, {one.b}": f"{one.certainty}: {one.evidence}" for one in known}
    sure = [one for one in known if one.certainty != "possible"]
    if sure:
        pairs = "; ".join(
            f"{one.a} and {one.b} ({one.certainty}: {one.kind.replace('_', ' ')}, "
            f"{' > '.join(one.path)})"
            for one in sure
        )
        return Rule("E07", "block", f"{pairs}; accept it in the recipe with a reason", seen)
    if known:
        return Rule("E07", "warn", "a common origin: images are compared before a split", seen)
    return Rule("E07", "pass", "no overlap is known, which is no proof", seen)


def _parts(one: Facts) -> tuple[str, ...]:
    """Licences of images and, where they differ, labels; an empty one is unknown."""
    return tuple(
        dict.fromkeys((one["licence"] or "", one["licence_labels"] or one["licence"] or ""))
    )


def _licences(datasets: Sequence[Facts], profile: Profile) -> tuple[Rule, Rule]:
    seen = {one["slug"]: _names([part or "unknown" for part in _parts(one)]) for one in datasets}
    terms = {one["slug"]: [licence(part) for part in _parts(one)] for one in datasets}
    never = [slug for slug, rows in terms.items() if any(row.no_combination for row in rows)]
    unsure = [slug for slug, rows in terms.items() if not all(row.known for row in rows)]
    if never:
        first = Rule("E08", "block", f"{_names(never)}: the terms forbid combination", seen)
    elif unsure:
        first = Rule("E08", "unknown", f"licence of {_names(unsure)}: unknown", seen)
    else:
        first = Rule("E08", "pass", "no licence forbids combination", seen)
    lacking = [
        slug
        for slug, rows in terms.items()
        if not all(row.redistribute and (row.adapt or profile == "native") for row in rows)
    ]
    if lacking:
        detail = f"{_names(lacking)}: a shareable bundle holds the recipe of it, not its files"
        return first, Rule("E09", "recipe only", detail, seen)
    return first, Rule("E09", "pass", "every licence lets its files be changed and passed on", seen)


def _confounded(datasets: Sequence[Facts], found: Alignment, task: str, *, accepted: bool) -> Rule:
    seen = _seen(datasets, "classes")
    if task != "Classification":
        return Rule("E10", "pass", "asked for classification alone", {})
    if found.silent:
        detail = f"the catalog lists no classes of {_names(found.silent)}"
        return Rule("E10", "unknown", detail, seen)
    alone = [f"{one.label} ({next(iter(one.classes))})" for one in found.every
             if len(one.classes) == 1]  # fmt: skip
    if not alone:
        return Rule("E10", "pass", "every class occurs in more than one dataset", seen)
    detail = f"only one dataset has: {_names(alone)}"
    return Rule("E10", "warn" if accepted else "block", detail, seen)


def _people(datasets: Sequence[Facts]) -> Rule:
    people = {
        one["slug"]: next(
            (f"{row['number']} subjects" for row in one["counts"] if row["unit"] == "subject"),
            "unknown",
        )
        for one in datasets
    }
    for one in datasets:
        if (known := one.get("subjects_known")) is not None:
            people[one["slug"]] = "ids in the file names" if known else "no ids"
    if nobody := [slug for slug, seen in people.items() if seen == "no ids"]:
        detail = f"{_names(nobody)}: goes whole into one split unless that is accepted"
        return Rule("E11", "warn", detail, people)
    if all(one.get("subjects_known") for one in datasets):
        return Rule("E11", "pass", "every description tells people apart", people)
    detail = "ids of people are in the files; a source without them goes whole into one split"
    return Rule("E11", "unknown", detail, people)


def _safety(datasets: Sequence[Facts]) -> Rule:
    detail = "files are searched for personal data when they are read"
    seen = {one["slug"]: f"faces {one.get('faces', 'unknown')}" for one in datasets}
    return Rule("E12", "unknown", detail, seen)


def _made_by(datasets: Sequence[Facts]) -> Rule:
    seen = {one["slug"]: one["annotation"] or "unknown" for one in datasets}
    if pseudo := [slug for slug, how in seen.items() if how == "pseudo"]:
        detail = f"{_names(pseudo)}: labels made by a model, for training alone"
        return Rule("E13", "warn", detail, seen)
    if mined := [slug for slug, how in seen.items() if how == "text-mined"]:
        detail = f"{_names(mined)}: labels from reports; every figure on them is marked silver"
        return Rule("E13", "warn", detail, seen)
    if "unknown" in seen.values():
        return Rule("E13", "unknown", "how some labels were made is unknown", seen)
    return Rule("E13", "pass", "no labels made by a model", seen)


def _source(one: Facts, dimensions: Sequence[str]) -> Source:
    units = CASE_UNITS.get(dimensions[0], OTHER_UNITS) if len(dimensions) == 1 else OTHER_UNITS
    whole = {row["unit"]: row["number"] for row in one["counts"] if row["split"] is None}
    unit = next((unit for unit in units if unit in whole), "")
    return Source(
        slug=one["slug"],
        name=one["name"],
        cases=whole.get(unit),
        unit=unit,
        size_bytes=one["size_bytes"],
        licence=one["licence"] or "",
        access=one["access"],
        homepage=one["homepage"] or "",
    )


def _spacing(datasets: Sequence[Facts]) -> tuple[float, ...] | None:
    """The median of the stated median voxel sizes, mm per axis, axes sorted; None without any."""
    stated = [sorted(one["spacing"]["median_mm"]) for one in datasets
              if (one["spacing"] or {}).get("median_mm")]  # fmt: skip
    if not stated or len({len(row) for row in stated}) > 1:
        return None
    return tuple(round(median(axis), 4) for axis in zip(*stated, strict=True))
