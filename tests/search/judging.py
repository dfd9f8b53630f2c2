"""Judged queries: what each is meant to find, and how well a ranking does that.

`judged.yaml` states judgements as predicates over the facts of a dataset, so that they hold for
datasets that come later. A predicate is a mapping: every entry must hold, a list of values means
any of them, and `any`, `all` and `not` combine predicates. `only_modality` and its like hold
where the dataset has nothing else of the facet.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import yaml

from catalog import vocab
from catalog.licences import LICENCES, licence
from catalog.search.engine import Engine, search
from catalog.search.query import Query

FILE = Path(__file__).with_name("judged.yaml")
KINDS = (
    "plain", "abbreviation", "synonym", "typo", "constraint", "facet", "hierarchy", "negative",
)  # fmt: skip
GRADES = (3, 2, 1)  # exactly what is meant, satisfies, partly useful
RELEVANT = 2
SHOWN = 20
DEEP = 100
Facts = Mapping[str, Any]
Predicate = Mapping[str, Any]

_LISTS = {
    "modality": "modalities",
    "anatomy": "anatomies",
    "task": "tasks",
    "disease": "diseases",
    "dimension": "dimensions",
}
_COMPARE: Mapping[str, Callable[[int, int], bool]] = MappingProxyType(
    {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
)
_NO_LISTS = ("aliases", "classes", "modality_details", "claims", "counts", "links")
_NO_VALUES = ("licence", "access", "labelled", "family", "year")
_BLANK: Facts = MappingProxyType(
    {"name": "", "slug": ""}
    | dict.fromkeys((*_LISTS.values(), *_NO_LISTS), ())
    | dict.fromkeys(_NO_VALUES)
)
_BOUND = re.compile(r"(>=|<=|>|<) ?(\d+)((?: [a-z]+)*)")
_UNITS = frozenset(
    {"subject", "study", "series", "volume", "image", "slide", "patch", "frame", "video"}
)


class JudgementError(ValueError):
    """The file of judgements says something that cannot be understood."""


@dataclass(frozen=True)
class Judged:
    """One query. `grades` holds slugs with 1-3; `excluded` must not be among strict results.

    `nothing`: no dataset is meant, so that every strict result is wrong.
    """

    query: str
    kind: str
    grades: Mapping[str, int] = field(default_factory=dict)
    excluded: frozenset[str] = frozenset()
    nothing: bool = False

    @property
    def relevant(self) -> frozenset[str]:
        return frozenset(slug for slug, grade in self.grades.items() if grade >= RELEVANT)


@dataclass(frozen=True)
class Found:
    """Slugs as a user sees them: strict results first, then near ones."""

    strict: tuple[str, ...]
    near: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        return (*self.strict, *self.near)[:SHOWN]


@dataclass(frozen=True)
class Score:
    """Figures of one query; None where a figure says nothing about it."""

    ndcg: float | None = None
    recall: float | None = None
    reciprocal_rank: float | None = None
    negative: float | None = None


FIGURES = ("ndcg", "recall", "reciprocal_rank", "negative")
Ranking = Callable[[str], Found]


def read_judged(facts: Mapping[str, Facts], path: Path = FILE) -> list[Judged]:
    """Every query with its judgements over these datasets.

    Raises:
        JudgementError: names the query and what is wrong with it.
    """
    return [judge(row, facts) for row in read_rows(path)]


def read_rows(path: Path = FILE) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = yaml.safe_load(path.read_text("utf-8"))["queries"]
    return rows


_KEYS = frozenset(
    {"query", "kind", "grade3", "grade2", "grade1", "add", "remove", "excluded", "nothing"}
)


def judge(row: Mapping[str, Any], facts: Mapping[str, Facts]) -> Judged:
    """Apply the predicates of one row: the highest grade that holds, then `add` and `remove`."""
    query = str(row.get("query"))
    if unknown := sorted(row.keys() - _KEYS):
        raise JudgementError(f"{query}: found {unknown[0]!r}, expected {', '.join(sorted(_KEYS))}")
    if row.get("kind") not in KINDS:
        raise JudgementError(f"{query}: kind: found {row.get('kind')!r}, expected {KINDS}")
    try:
        tests = {grade: row[f"grade{grade}"] for grade in GRADES if f"grade{grade}" in row}
        for test in (*tests.values(), row.get("excluded", {}), row.get("nothing", {})):
            check(test)
        grades = {}
        for slug, one in facts.items():
            best = next((grade for grade, test in tests.items() if holds(test, one)), 0)
            if best:
                grades[slug] = best
        grades |= _named(row.get("add", {}), facts)
        for slug in row.get("remove", ()):
            _known(slug, facts)
            grades.pop(slug, None)
        return Judged(
            query=query,
            kind=row["kind"],
            grades=grades,
            excluded=_matching(row.get("excluded"), facts),
            nothing=_nothing(row, facts),
        )
    except JudgementError as error:
        raise JudgementError(f"{query}: {error}") from error


def _named(added: Mapping[str, int], facts: Mapping[str, Facts]) -> Mapping[str, int]:
    for slug, grade in added.items():
        _known(slug, facts)
        if grade not in GRADES:
            raise JudgementError(f"add: {slug}: found {grade!r}, expected 1, 2 or 3")
    return added


def _known(slug: str, facts: Mapping[str, Facts]) -> None:
    if slug not in facts:
        raise JudgementError(f"found {slug!r}, which is no dataset")


def _matching(test: Predicate | None, facts: Mapping[str, Facts]) -> frozenset[str]:
    if test is None:
        return frozenset()
    return frozenset(slug for slug, one in facts.items() if holds(test, one))


def _nothing(row: Mapping[str, Any], facts: Mapping[str, Facts]) -> bool:
    """`nothing` says what is asked for; a dataset that has come to satisfy it is an error."""
    if "nothing" not in row:
        return False
    if found := sorted(_matching(row["nothing"], facts)):
        raise JudgementError(f"nothing: {', '.join(found[:3])} satisfy it by now")
    return True


def check(test: Predicate) -> None:
    """Look at every entry of a predicate, also where no dataset leads there.

    Raises:
        JudgementError: the predicate has an entry or a value that is not known.
    """
    for key, value in test.items():
        if key in {"any", "all", "not"}:
            for inner in value if isinstance(value, list) else [value]:
                check(inner)
        else:
            for one in value if isinstance(value, list) else [value]:
                _holds(key, one, _BLANK)


def holds(test: Predicate, facts: Facts) -> bool:
    """Whether a dataset satisfies a predicate.

    Raises:
        JudgementError: the predicate has an entry or a value that is not known.
    """
    return all(_holds(key, value, facts) for key, value in test.items())


def _holds(key: str, value: Any, facts: Facts) -> bool:
    if key == "not":
        return not holds(value, facts)
    if key in {"any", "all"}:
        each = (holds(inner, facts) for inner in value)
        return any(each) if key == "any" else all(each)
    wanted = value if isinstance(value, list) else [value]
    if (facet := key.removeprefix("only_")) != key and facet in _LISTS:
        return _only(facet, wanted, facts)
    if key not in _LEAVES:
        raise JudgementError(f"found {key!r}, expected any, all, not, {', '.join(_LEAVES)}")
    return any(_LEAVES[key](one, facts) for one in wanted)


@cache
def _narrower(facet: str, name: str) -> frozenset[str]:
    """The term and all below it."""
    if name not in vocab.terms(facet):
        raise JudgementError(f"{facet}: {name!r} is no term")
    return frozenset({name, *vocab.descendants(facet, name)})


def _concept(facet: str) -> Callable[[Any, Facts], bool]:
    return lambda name, facts: bool(_narrower(facet, name) & set(facts[_LISTS[facet]]))


def _only(facet: str, names: Iterable[str], facts: Facts) -> bool:
    """The dataset has something of a facet, and all of it is one of the terms or below it."""
    own = set(facts[_LISTS[facet]])
    known = frozenset().union(*(_narrower(facet, name) for name in names))
    return bool(own) and own <= known


def _licence(wanted: Any, facts: Facts) -> bool:
    """A class of licences, `unknown`, or an SPDX identifier."""
    terms = licence(facts["licence"])
    match wanted:
        case "unknown":
            return facts["licence"] is None
        case "permissive":
            return terms.redistribute and terms.commercial and terms.adapt
        case "commercial":
            return terms.commercial
        case "redistributable":
            return terms.redistribute
    if wanted not in LICENCES:
        raise JudgementError(f"licence: {wanted!r} is none")
    return bool(facts["licence"] == wanted)


def _count(wanted: Any, facts: Facts) -> bool:
    """A bound such as ">50" or ">=100 subject study", met by a stated count in a unit named.

    Counts of a split alone are summed over the splits.
    """
    match = _BOUND.fullmatch(str(wanted))
    units = set(match[3].split()) or _UNITS if match else set()
    if match is None or not units <= _UNITS:
        raise JudgementError(f"count: found {wanted!r}, expected such as '>50 volume study'")
    numbers = [c["number"] for c in facts["counts"] if c["unit"] in units and not c["split"]]
    for unit in units:
        parts = [c["number"] for c in facts["counts"] if c["unit"] == unit and c["split"]]
        numbers += [sum(parts)] if parts else []
    return any(_COMPARE[match[1]](number, int(match[2])) for number in numbers)


def _year(wanted: Any, facts: Facts) -> bool:
    """A year, a range "2018-2020", or a bound ">=2020"."""
    year = facts["year"]
    if match := re.fullmatch(r"(\d{4})(?:-(\d{4}))?", str(wanted)):
        return year is not None and int(match[1]) <= year <= int(match[2] or match[1])
    if match := _BOUND.fullmatch(str(wanted)):
        return year is not None and _COMPARE[match[1]](year, int(match[2]))
    raise JudgementError(f"year: found {wanted!r}, expected such as 2020, '2018-2020', '>=2020'")


def _names(facts: Facts) -> list[str]:
    return [facts["name"], *facts["aliases"], facts["slug"]]


def _said(facts: Facts) -> list[str]:
    """Names, classes, and the words of the sources that the facts come from."""
    used = (claim for claim in facts["claims"] if claim["used"] and claim["raw"])
    raw = (claim["raw"] for claim in used if claim["field"] in _LISTS.values())
    return [*_names(facts), *facts["classes"], *facts["modality_details"], *raw]


_folded = cache(vocab.normalise)


def _pattern(texts: Callable[[Facts], list[str]]) -> Callable[[Any, Facts], bool]:
    """A regular expression that begins at a word, over folded text."""

    def test(wanted: Any, facts: Facts) -> bool:
        compiled = re.compile(rf"\b(?:{wanted})")
        return any(compiled.search(_folded(text)) for text in texts(facts))

    return test


def _host(wanted: Any, facts: Facts) -> bool:
    hosts = (urlsplit(link["url"]).hostname or "" for link in facts["links"])
    return any(host == wanted or host.endswith(f".{wanted}") for host in hosts)


_LEAVES: Mapping[str, Callable[[Any, Facts], bool]] = MappingProxyType(
    {
        **{facet: _concept(facet) for facet in _LISTS},
        "licence": _licence,
        "access": lambda wanted, facts: facts["access"] == wanted,
        "labelled": lambda wanted, facts: facts["labelled"] is wanted,
        "family": lambda wanted, facts: facts["family"] == wanted,
        "slug": lambda wanted, facts: facts["slug"] == wanted,
        "count": _count,
        "year": _year,
        "name": _pattern(_names),
        "words": _pattern(_said),
        "host": _host,
    }
)


def ndcg(found: Sequence[str], grades: Mapping[str, int], depth: int = 10) -> float:
    """Discounted gain of the first results over the best possible; gain is the grade (trec_eval).

    Raises:
        ValueError: nothing is relevant.
    """
    ideal = _gain(sorted(grades.values(), reverse=True)[:depth])
    if not ideal:
        raise ValueError("no judgement: nDCG is not defined")
    return _gain([grades.get(slug, 0) for slug in found[:depth]]) / ideal


def _gain(grades: Iterable[int]) -> float:
    return sum(grade / math.log2(place + 2) for place, grade in enumerate(grades))


def recall(found: Sequence[str], relevant: frozenset[str], depth: int = SHOWN) -> float:
    """Share of the relevant among the first results; at most `depth` of them are asked for."""
    return len(relevant & set(found[:depth])) / min(depth, len(relevant))


def reciprocal_rank(found: Sequence[str], relevant: frozenset[str]) -> float:
    """1 / place of the first relevant result; 0 without one."""
    return next((1 / place for place, slug in enumerate(found, 1) if slug in relevant), 0.0)


def score(judged: Judged, found: Found) -> Score:
    """The figures of one query. Exclusions are looked for among all strict results given."""
    negative = None
    if judged.nothing:
        negative = float(not found.strict)
    elif judged.excluded:
        negative = float(judged.excluded.isdisjoint(found.strict))
    if not judged.relevant:
        return Score(negative=negative)
    return Score(
        ndcg=ndcg(found.shown, judged.grades),
        recall=recall(found.shown, judged.relevant),
        reciprocal_rank=reciprocal_rank(found.shown, judged.relevant),
        negative=negative,
    )


def means(scores: Iterable[Score]) -> dict[str, float | None]:
    """The mean of each figure over the queries that have it."""
    rows = list(scores)
    columns = {name: [getattr(row, name) for row in rows] for name in FIGURES}
    known = {name: [v for v in column if v is not None] for name, column in columns.items()}
    return {name: fmean(values) if values else None for name, values in known.items()}


def ranking(engine: Engine) -> Ranking:
    """What a user of our search sees on the first page, with strict results to a greater depth."""

    def ask(text: str) -> Found:
        results = search(Query(text=text, limit=DEEP), using=engine)
        return Found(
            tuple(hit.slug for hit in results.hits), tuple(hit.slug for hit in results.near)
        )

    return ask
