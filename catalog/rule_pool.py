"""The pool of datasets that pass every rule about one dataset: its figures, and what it must hold.

Pure. `summarise` counts, `fit` leaves out modalities that are too small and what has no room.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from catalog.describe import plural
from catalog.facet_values import UNKNOWN
from catalog.rule_checks import Facts, group_of, organisation_of
from catalog.rules import GB, Profile, Rules
from catalog.statistics import images_of

TOTAL = "total"
POOL_RULES = (
    "selection.min_datasets_per_modality",
    "selection.min_orgs_per_modality",
    "selection.storage_budget_gb",
)
MIN_DATASETS, MIN_ORGANISATIONS, BUDGET = POOL_RULES


@dataclass(frozen=True)
class Failure:
    """A rule that a dataset does not pass: what the dataset has, and what was asked."""

    rule: str
    found: str
    expected: str


@dataclass(frozen=True)
class Row:
    """A dataset in the pool.

    `stated`: each of its modalities with the asked one that it counts in, None for none.
    """

    facts: Facts
    stated: tuple[tuple[str, str | None], ...]
    images: int | None
    organisation: str | None

    @property
    def slug(self) -> str:
        return str(self.facts["slug"])

    @property
    def groups(self) -> tuple[str, ...]:
        """The asked modalities that the dataset counts in."""
        return tuple(dict.fromkeys(group for _, group in self.stated if group is not None))

    @property
    def whole(self) -> str | None:
        """The group that all its images belong to; None when they lie in several or outside."""
        groups = {group for _, group in self.stated}
        return next(iter(groups)) if len(groups) == 1 else None

    def without(self, barred: Collection[str]) -> Row:
        """The same without modalities that were left out."""
        kept = tuple((name, None if group in barred else group) for name, group in self.stated)
        return replace(self, stated=kept)

    def as_dict(self) -> dict[str, Any]:
        keys = ("slug", "name", "year", "tasks", "labelled", "licence", "access", "size_bytes")
        return {
            **{key: self.facts[key] for key in keys},
            "modalities": list(self.groups),
            "images": self.images,
            "organisation": self.facts["publisher"],
        }


def make_row(facts: Facts, rules: Rules, profile: Profile) -> Row:
    """A dataset with the modalities it counts in; an unknown modality is a group of its own."""
    stated = tuple((name, group_of(rules, name, profile)) for name in facts["modalities"])
    return Row(facts, stated or ((UNKNOWN, UNKNOWN),), images_of(facts), organisation_of(facts))


def preference(rules: Rules, row: Row) -> tuple[Any, ...]:
    """A key for sorting, best first."""
    order = {True: 0, None: 1, False: 2}
    labels = order[row.facts["labelled"]] if rules.prefer_labeled else 0
    images = -1 if row.images is None else row.images
    return labels, -images, -(row.facts["year"] or 0), row.slug


@dataclass(frozen=True)
class Line:
    """Figures of one modality, or of the whole pool.

    `rows` counts a dataset once for each of its modalities, `datasets` once. Images are added where
    all of them belong here; `images_undivided` are those of datasets that hold other modalities
    too. `labelled_ratio` is over datasets whose labels are known. `effective_datasets` is the
    inverse Simpson number over `images` of the `images_datasets` datasets that have them.
    `size_bytes` leaves out the `size_unknown` datasets without a stated size.
    """

    modality: str
    rows: int
    datasets: int
    organisations: int
    organisation_unknown: int
    images: int
    images_datasets: int
    images_undivided: int
    images_unknown: int
    labelled: int
    unlabelled: int
    labelled_unknown: int
    labelled_ratio: float | None
    effective_datasets: float | None
    size_bytes: int
    size_unknown: int


def summarise(pool: Sequence[Row], rules: Rules) -> tuple[tuple[Line, ...], Line]:
    """A line for each modality, and the total, in which each dataset counts once.

    Lines stand in the order asked, most datasets first when no modality was.
    """
    counted: dict[str, int] = dict.fromkeys(rules.modalities, 0)
    for row in pool:
        for group in row.groups:
            counted[group] = counted.get(group, 0) + 1
    asked = list(counted)
    if not rules.modalities:
        asked.sort(key=lambda group: (group == UNKNOWN, -counted[group], group))
    lines = tuple(_line(group, [row for row in pool if group in row.groups]) for group in asked)
    return lines, _line(None, pool)


def _line(group: str | None, pool: Sequence[Row]) -> Line:
    """Figures of datasets that have `group`; None is all groups together."""
    numbers: list[int] = []
    undivided = without = 0
    for row in pool:
        if row.images is None:
            without += 1
        elif _belongs(row, group):
            numbers.append(row.images)
        else:
            undivided += row.images
    pairs = [one for row in pool for _, one in row.stated if one is not None]
    labels = [row.facts["labelled"] for row in pool]
    known = len(labels) - labels.count(None)
    sizes = [row.facts["size_bytes"] for row in pool]
    return Line(
        modality=group or TOTAL,
        rows=sum(group in {None, one} for one in pairs),
        datasets=len(pool),
        organisations=len({row.organisation for row in pool} - {None}),
        organisation_unknown=sum(row.organisation is None for row in pool),
        images=sum(numbers),
        images_datasets=len(numbers),
        images_undivided=undivided,
        images_unknown=without,
        labelled=labels.count(True),
        unlabelled=labels.count(False),
        labelled_unknown=labels.count(None),
        labelled_ratio=round(labels.count(True) / known, 4) if known else None,
        effective_datasets=effective_number(numbers),
        size_bytes=sum(size or 0 for size in sizes),
        size_unknown=sizes.count(None),
    )


def _belongs(row: Row, group: str | None) -> bool:
    if group is None:
        return all(one is not None for _, one in row.stated)
    return row.whole == group


def effective_number(numbers: Sequence[int]) -> float | None:
    """Inverse Simpson: how many datasets of one size are as diverse as these; None for none."""
    whole = sum(numbers)
    return round(whole**2 / sum(n**2 for n in numbers), 2) if whole else None


def fit(
    pool: Sequence[Row], rules: Rules
) -> tuple[list[Row], list[tuple[Row, tuple[Failure, ...]]]]:
    """What `selection` keeps of a pool in the order of preference, and why not the rest.

    Modalities that are too small are left out, then datasets that the budget has no room for. The
    budget may make a modality too small: it is left out as well, the smallest one first, and the
    others are filled anew.
    """
    part = rules.selection
    if not part.enable:
        return list(pool), []
    barred: dict[str, tuple[Failure, ...]] = {}
    over: dict[str, Failure] = {}
    taken = list(pool)
    for budget in (None, part.storage_budget_gb):
        while True:
            live = [row for row in (row.without(barred) for row in pool) if row.groups]
            taken, no_room = _fill(live, budget, include_unknown=part.include_unknown_size)
            over.update(no_room)
            small = _too_small(taken, rules, within=" within the budget" if budget else "")
            if not small:
                break
            group = min(small, key=lambda name: (small[name][0], name))
            barred[group] = small[group][1]
    kept = {row.slug for row in taken}
    return taken, [(row, _why(row, barred, over)) for row in pool if row.slug not in kept]


def _why(
    row: Row, barred: Mapping[str, tuple[Failure, ...]], over: Mapping[str, Failure]
) -> tuple[Failure, ...]:
    """No room first: it is what makes modalities too small within a budget."""
    small = dict.fromkeys(one for group in row.groups for one in barred.get(group, ()))
    ranked = sorted(small, key=lambda failure: POOL_RULES.index(failure.rule))
    return (*((over[row.slug],) if row.slug in over else ()), *ranked)


def _fill(
    pool: Sequence[Row], budget_gb: float | None, *, include_unknown: bool
) -> tuple[list[Row], dict[str, Failure]]:
    """Datasets that fit, taken in their order, and by slug why others do not."""
    if budget_gb is None:
        return list(pool), {}
    left = int(budget_gb * GB)
    taken: list[Row] = []
    over: dict[str, Failure] = {}
    for row in pool:
        size: int | None = row.facts["size_bytes"]
        if size is None and not include_unknown:
            expected = f"a stated size, {budget_gb:g} GB for all"
            over[row.slug] = Failure(BUDGET, UNKNOWN, expected)
        elif size is not None and size > left:
            expected = f"at most {left / GB:.3g} GB, what is left of {budget_gb:g} GB"
            over[row.slug] = Failure(BUDGET, f"{size / GB:.3g} GB", expected)
        else:
            left -= size or 0
            taken.append(row)
    return taken, over


def _too_small(
    pool: Sequence[Row], rules: Rules, within: str
) -> dict[str, tuple[int, tuple[Failure, ...]]]:
    """Modalities with too few datasets or organisations: their number of datasets, and why."""
    least = rules.selection.min_datasets_per_modality
    orgs_least = rules.selection.min_orgs_per_modality
    found = {}
    for group in dict.fromkeys(name for row in pool for name in row.groups):
        members = [row for row in pool if group in row.groups]
        orgs = len({row.organisation for row in members} - {None})
        if group == UNKNOWN and (least or orgs_least):
            failures = [Failure(MIN_DATASETS, UNKNOWN, "a known modality")]
        else:
            failures = [
                Failure(
                    rule,
                    f"{group}: {number} {plural(what, number)}{within}",
                    f"at least {minimum} {plural(what, minimum)}",
                )
                for rule, number, minimum, what in (
                    (MIN_DATASETS, len(members), least, "dataset"),
                    (MIN_ORGANISATIONS, orgs, orgs_least, "organisation"),
                )
                if number < minimum
            ]
        if failures:
            found[group] = (len(members), tuple(failures))
    return found
