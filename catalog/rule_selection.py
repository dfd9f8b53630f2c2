"""Which datasets a rule file keeps, in the four phases of MDFP, and why others are dropped. Pure.

Phases 1 to 3 ask each dataset alone, and all its failures are told; the second half of phase 3
looks at the pool that is left, so that no modality counts datasets which cannot be used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from catalog.facet_values import UNKNOWN
from catalog.rule_checks import CHECKS, VOLUMES, Facts, dimensions
from catalog.rule_pool import (
    BUDGET,
    POOL_RULES,
    TOTAL,
    Failure,
    Line,
    Row,
    fit,
    make_row,
    preference,
    summarise,
)
from catalog.rules import Profile, Rules

PHASES = (
    ("Harmonise", "What the images are: dimension, modality, anatomy, organisation."),
    ("Align", "What they can be used for: tasks and labels."),
    ("Blueprint", "Size, date and licence of each dataset, then the pool as a whole."),
    ("Index", "The datasets that are kept, in the order of preference."),
)
BLUEPRINT = 3  # the phase whose second half looks at the pool
# Table 6 of the paper, for its published rules: datasets, images, organisations, labelled ratio.
TABLE_6: Mapping[str, tuple[int, int, int | None, float | None]] = MappingProxyType(
    {
        "CT": (10, 1_173_965, 4, 1.0),
        "MR": (5, 681_025, 2, 1.0),
        "Fundus photography": (42, 280_311, 17, 0.952),
        TOTAL: (57, 2_135_301, None, None),
    }
)


@dataclass(frozen=True)
class Dropped:
    """A dataset that is not kept, with every rule that it fails, the first one first."""

    facts: Facts
    phase: int
    failures: tuple[Failure, ...]

    @property
    def rule(self) -> str:
        return self.failures[0].rule

    def as_dict(self) -> dict[str, Any]:
        return {
            "slug": self.facts["slug"],
            "name": self.facts["name"],
            "phase": self.phase,
            "rule": self.rule,
            "failed": [asdict(failure) for failure in self.failures],
        }


@dataclass(frozen=True)
class RuleCount:
    """One rule of a phase in words (empty: it asks nothing), and how many datasets it drops.

    `first`: as the first rule that they fail; `all`: alone or beside others.
    """

    rule: str
    asks: str
    first: int
    all: int


@dataclass(frozen=True)
class Phase:
    """How many datasets enter and leave a phase, by which rules, and the pool after it."""

    number: int
    title: str
    about: str
    entered: int
    left: int
    rules: tuple[RuleCount, ...]
    lines: tuple[Line, ...]
    total: Line

    def as_dict(self) -> dict[str, Any]:
        data = asdict(self)
        data["modalities"] = data.pop("lines")
        return data


@dataclass(frozen=True)
class Selection:
    """The answer: kept in the order of preference, dropped in the order of slugs."""

    rules: Rules
    profile: Profile
    considered: int
    phases: tuple[Phase, ...]
    kept: tuple[Row, ...]
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]

    @property
    def lines(self) -> tuple[Line, ...]:
        return self.phases[-1].lines

    @property
    def total(self) -> Line:
        return self.phases[-1].total

    def as_dict(self) -> dict[str, Any]:
        return {
            "profile": self.profile,
            "rules": self.rules.as_dict(),
            "considered": self.considered,
            "phases": [phase.as_dict() for phase in self.phases],
            "notes": list(self.notes),
            "kept": [row.as_dict() for row in self.kept],
            "dropped": [row.as_dict() for row in self.dropped],
        }


def select(datasets: Iterable[Facts], rules: Rules, profile: Profile = "stated") -> Selection:
    """Apply `rules` to the facts of datasets."""
    checks = [(check, asks) for check in CHECKS[profile] if (asks := check.asks(rules))]
    pool: list[Row] = []
    dropped: list[Dropped] = []
    considered = 0
    for facts in datasets:
        considered += 1
        failed = [
            (check.phase, Failure(check.rule, found, asks))
            for check, asks in checks
            if (found := check.found(rules, facts)) is not None
        ]
        if failed:
            dropped.append(Dropped(facts, failed[0][0], tuple(failure for _, failure in failed)))
        else:
            pool.append(make_row(facts, rules, profile))
    pool.sort(key=lambda row: preference(rules, row))
    kept, unfit = fit(pool, rules)
    dropped += [Dropped(row.facts, BLUEPRINT, failures) for row, failures in unfit]
    dropped.sort(key=lambda row: str(row.facts["slug"]))
    return Selection(
        rules=rules,
        profile=profile,
        considered=considered,
        phases=_phases(rules, profile, kept, dropped),
        kept=tuple(kept),
        dropped=tuple(dropped),
        notes=tuple(_notes(rules, profile, kept, dropped)),
    )


def _phases(
    rules: Rules, profile: Profile, kept: Sequence[Row], dropped: Sequence[Dropped]
) -> tuple[Phase, ...]:
    first = Counter(row.rule for row in dropped)
    every = Counter(rule for row in dropped for rule in {one.rule for one in row.failures})
    entered = len(kept) + len(dropped)
    phases = []
    for number, (title, about) in enumerate(PHASES, 1):
        later = [make_row(row.facts, rules, profile) for row in dropped if row.phase > number]
        lines, total = summarise([*kept, *later], rules)
        asked = [
            (check.rule, check.asks(rules)) for check in CHECKS[profile] if check.phase == number
        ]
        if number == BLUEPRINT:
            asked += _asks_of_pool(rules)
        counts = tuple(RuleCount(rule, asks, first[rule], every[rule]) for rule, asks in asked)
        phases.append(Phase(number, title, about, entered, total.datasets, counts, lines, total))
        entered = total.datasets
    return tuple(phases)


def _asks_of_pool(rules: Rules) -> list[tuple[str, str]]:
    part = rules.selection
    asks = (
        f"at least {part.min_datasets_per_modality} datasets in a modality",
        f"at least {part.min_orgs_per_modality} organisations in a modality",
        f"{part.storage_budget_gb:g} GB for all" if part.storage_budget_gb else "",
    )
    return [(rule, ask if part.enable else "") for rule, ask in zip(POOL_RULES, asks, strict=True)]


def _notes(
    rules: Rules, profile: Profile, kept: Sequence[Row], dropped: Sequence[Dropped]
) -> Iterable[str]:
    """What a reader of the figures has to know."""
    if rules.release_date_min and len(rules.release_date_min) > len("YYYY"):
        yield (
            f"release_date_min: the catalog knows years alone; {rules.release_date_min} is read as "
            f"{rules.year_min}"
        )
    if profile == "compatibility":
        if rules.include_mixed or rules.allow_3d_as_2d_sources:
            yield "include_mixed and allow_3d_as_2d_sources are not applied in this profile"
    elif rules.allow_3d_as_2d_sources and rules.dimension != "2D":
        yield "allow_3d_as_2d_sources has no effect: the dimension asked for is not 2D"
    yield from _notes_on_images(rules, kept)
    yield from _notes_on_sizes(rules, kept, dropped)


def _notes_on_images(rules: Rules, kept: Sequence[Row]) -> Iterable[str]:
    volumes = sum(not {*VOLUMES}.isdisjoint(row.facts["dimensions"]) for row in kept)
    if volumes and rules.dimension == "2D":
        yield f"{volumes} of the datasets kept hold volumes; their images are counted as volumes"
    several = sum(row.whole is None and row.images is not None for row in kept)
    if several:
        yield (
            f"{several} of the datasets kept hold several modalities; nobody states how many "
            "images are of which, so they stand apart"
        )


def _notes_on_sizes(rules: Rules, kept: Sequence[Row], dropped: Sequence[Dropped]) -> Iterable[str]:
    if not rules.selection.storage_budget_gb:
        return
    if not rules.selection.enable:
        yield "selection.enable is false: storage_budget_gb is not applied"
        return
    taken = sum(row.facts["size_bytes"] is None for row in kept)
    left = sum(row.rule == BUDGET and row.failures[0].found == UNKNOWN for row in dropped)
    if taken or left:
        yield (
            f"no size is stated of {taken + left} datasets that pass every other rule: "
            f"{taken} kept without knowing whether they fit, {left} dropped"
        )


@dataclass(frozen=True)
class Comparison:
    """One rule file under both profiles, over the same datasets."""

    stated: Selection
    compatibility: Selection

    @property
    def only_stated(self) -> list[str]:
        return _beyond(self.stated, self.compatibility)

    @property
    def only_compatibility(self) -> list[str]:
        return _beyond(self.compatibility, self.stated)

    @property
    def published(self) -> list[dict[str, Any]] | None:
        """The paper's figures, where its own rules are asked."""
        if not self.stated.rules.poses_table_6:
            return None
        names = ("datasets", "images", "organisations", "labelled_ratio")
        return [
            {"modality": modality, **dict(zip(names, figures, strict=True))}
            for modality, figures in TABLE_6.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        return {
            **{
                selection.profile: {
                    "modalities": [asdict(line) for line in selection.lines],
                    "total": asdict(selection.total),
                }
                for selection in (self.stated, self.compatibility)
            },
            "published_table_6": self.published,
            "only_stated": self.only_stated,
            "only_compatibility": self.only_compatibility,
        }


def _beyond(one: Selection, other: Selection) -> list[str]:
    return sorted({row.slug for row in one.kept} - {row.slug for row in other.kept})


def compare(datasets: Iterable[Facts], rules: Rules) -> Comparison:
    """What the recipe gives as stated, and beside it by the logic behind the paper's Table 6."""
    facts = list(datasets)
    return Comparison(select(facts, rules), select(facts, rules, "compatibility"))


def search_params(rules: Rules) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """The rules as parameters of a search, and the keys that a search cannot ask.

    Every dataset that the stated profile keeps is a strict result of that search.
    """
    pairs = [("dimension", name) for name in dimensions(rules)]
    pairs += [("modality", name) for name in rules.modalities]
    pairs += [("task", name) for name in rules.task_types]
    pairs += [("anatomy", name) for name in rules.anatomy_whitelist]
    pairs += [("licence", name) for name in rules.license_allowlist or ()]
    if not rules.include_unlabeled:
        pairs.append(("labelled", "yes"))
    if rules.year_min:
        pairs.append(("year_from", str(rules.year_min)))
    unsaid = {
        "include_mixed": rules.dimension is not None and not rules.include_mixed,
        "min_valid_image_n_per_dataset": bool(rules.min_valid_image_n_per_dataset),
        "selection": rules.selection.enable,
    }
    return pairs, tuple(name for name, holds in unsaid.items() if holds)
