"""What is doubtful or missing in the catalog, and how complete a record is. Pure.

Codes are stable. A finding names a dataset, a field, the value found and what was expected. Errors
are contradictions that mislead a user; warnings want a person's eye; infos are gaps.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from rapidfuzz import fuzz, process

from catalog import licences, vocab
from catalog.importers.link import name_key, numbers, place

Facts = Mapping[str, Any]
Severity = Literal["error", "warning", "info"]
FIRST_YEAR = 1980
ALIKE = 92  # per cent of rapidfuzz.fuzz.ratio
PAIR = 2  # a DOI of more datasets is that of a collection
DISTINCT = Path(__file__).resolve().parent / "distinct.yaml"

CODES: Mapping[str, tuple[Severity, str]] = MappingProxyType(
    {
        "year_out_of_range": ("error", f"a year outside {FIRST_YEAR} to now"),
        "disease_is_anatomy": ("error", "a disease that is a body part"),
        "url_malformed": ("error", "an address that no browser opens"),
        "same_name": ("error", "two datasets of one name that no relation tells apart"),
        "parts_exceed_whole": ("error", "parts of a split that add up to more than the whole"),
        "unlabelled_but_supervised": ("error", "said to have no labels, yet listed for labelling"),
        "count_without_unit": ("warning", "a size of which no source says what it counts"),
        "url_retired": ("warning", "the only address is a page that was closed or moved"),
        "url_mirror": ("warning", "the only address is a copy on another site"),
        "same_homepage": ("warning", "one address for datasets that no relation connects"),
        "possible_twin": ("warning", "two records that may be one dataset, not yet told apart"),
        "modality_foreign": ("warning", "a modality that does not image any of the body parts"),
        "open_licence_closed_access": ("warning", "free terms, yet access by application"),
        "conflict": ("warning", "sources that exclude each other, not yet weighed by a curator"),
        "licence_unknown": ("info", "no source states the terms of use"),
        "access_unknown": ("info", "no source states how to get the files"),
        "year_unknown": ("info", "no source states when it was released"),
        "size_unknown": ("info", "no source states how large it is"),
        "modality_unknown": ("info", "no source states a modality that the vocabulary knows"),
        "anatomy_unknown": ("info", "no source states a body part that the vocabulary knows"),
        "homepage_unknown": ("info", "no source gives an address"),
    }
)
SUPERVISED = frozenset({"Segmentation", "Classification", "Detection", "Localization"})
# Modalities that image one region; any other body part beside it is a slip.
REGIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "Fundus photography": frozenset({"Eye"}),
        "OCTA": frozenset({"Eye", "Skin", "Brain"}),
        "Dermoscopy": frozenset({"Skin"}),
        "Mammography": frozenset({"Breast"}),
        "Colposcopy": frozenset({"Pelvis", "Cervix"}),
    }
)
ANYWHERE = frozenset({"Animal model", "Multi-organ", "Whole body", "Phantom"})
# Sources may name other works to cite, or measure other copies: nobody has to choose.
NOT_WEIGHED = frozenset({"citation", "spacing", "classes", "size_bytes", "doi"})
RETIRED_HOSTS = frozenset({"wiki.cancerimagingarchive.net"})
PARTS: Mapping[str, int] = MappingProxyType(
    {
        "address": 10,
        "identifier": 5,
        "year": 5,
        "licence": 20,
        "access": 15,
        "size with unit": 15,
        "modality and body part": 10,
        "labels described": 10,
        "evidence": 10,
    }
)


@dataclass(frozen=True)
class Finding:
    """One doubt about one dataset."""

    code: str
    slug: str
    field: str
    found: str
    expected: str

    @property
    def severity(self) -> Severity:
        return CODES[self.code][0]

    def __str__(self) -> str:
        return (
            f"{self.severity} {self.code} {self.slug}: {self.field}: "
            f"found {self.found}, expected {self.expected}"
        )


@dataclass(frozen=True)
class Assessment:
    """How complete a record is: 0-100, and which parts earned what of which."""

    score: int
    parts: tuple[tuple[str, int, int], ...]
    findings: tuple[Finding, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "score": self.score,
            "parts": [{"name": n, "earned": e, "of": of} for n, e, of in self.parts],
            "findings": [{**asdict(row), "severity": row.severity} for row in self.findings],
        }


def assess(facts: Facts) -> Assessment:
    """Score and findings of one record by itself; an error finding halves the score."""
    findings = tuple(_single(facts))
    earned = {name: round(PARTS[name] * share) for name, share in _shares(facts).items()}
    total = round(100 * sum(earned.values()) / sum(PARTS.values()))
    wrong = any(finding.severity == "error" for finding in findings)
    parts = tuple((name, earned[name], of) for name, of in PARTS.items())
    return Assessment(total // 2 if wrong else total, parts, findings)


def audit(catalog: Iterable[Facts]) -> list[Finding]:
    """Every finding over the catalog, by slug and code."""
    rows = list(catalog)
    found = [finding for facts in rows for finding in _single(facts)]
    found += [*_same_name(rows), *_same_homepage(rows), *_twins(rows)]
    return sorted(found, key=lambda f: (f.slug, f.code, f.field, f.found))


def totals(findings: Iterable[Finding]) -> dict[str, int]:
    """How often each code was found, every code listed."""
    counted = Counter(finding.code for finding in findings)
    return {code: counted[code] for code in CODES}


def _shares(facts: Facts) -> dict[str, float]:
    official = any(link["kind"] == "official" for link in facts["links"])
    labels = facts["labelled"] is False or (facts["labelled"] is True and bool(facts["tasks"]))
    weighed = any(claim["basis"] in {"read", "file"} for claim in facts["claims"])
    sources = {ref["id"] for ref in facts["sources"]} - {"curation"}
    publisher = sources & {"idc", "openneuro"}
    described = facts["annotation"] is not None or bool(facts["classes"])
    return {
        "address": 1.0 if official else 0.5 if facts["homepage"] else 0.0,
        "identifier": float(facts["doi"] is not None),
        "year": float(facts["year"] is not None),
        "licence": float(facts["licence"] is not None),
        "access": float(facts["access"] != "unknown"),
        "size with unit": float(bool(facts["counts"])),
        "modality and body part": (bool(facts["modalities"]) + bool(facts["anatomies"])) / 2,
        "labels described": 0.7 * labels + 0.3 * described,
        "evidence": 1.0 if weighed or publisher else 0.5 if len(sources) > 1 else 0.0,
    }


def _single(facts: Facts) -> Iterator[Finding]:
    for check in _CHECKS:
        yield from check(facts)


def _finding(facts: Facts, code: str, field: str, found: object, expected: str) -> Finding:
    return Finding(code, facts["slug"], field, str(found), expected)


def _year(facts: Facts) -> Iterator[Finding]:
    year, now = facts["year"], dt.datetime.now(tz=dt.UTC).year
    if year is None:
        yield _finding(facts, "year_unknown", "year", "nothing", "a year")
    elif not FIRST_YEAR <= year <= now:
        yield _finding(facts, "year_out_of_range", "year", year, f"{FIRST_YEAR} to {now}")


def _diseases(facts: Facts) -> Iterator[Finding]:
    for name in facts["diseases"]:
        if vocab.resolve("anatomy", name):
            yield _finding(facts, "disease_is_anatomy", "diseases", name, "a disease")


def _urls(facts: Facts) -> Iterator[Finding]:
    for link in facts["links"]:
        if problem := url_problem(link["url"]):
            yield _finding(facts, "url_malformed", "links", link["url"], problem)
    home = facts["homepage"]
    if home is None:
        yield _finding(facts, "homepage_unknown", "homepage", "nothing", "an address")
        return
    kinds = {link["kind"] for link in facts["links"] if link["kind"] != "paper"}
    host = urlsplit(home).hostname
    if kinds <= {"retired"} or host in RETIRED_HOSTS:
        yield _finding(facts, "url_retired", "homepage", home, "the page that took its place")
    elif kinds <= {"retired", "mirror"}:
        yield _finding(facts, "url_mirror", "homepage", home, "the publisher's page")


def url_problem(url: str) -> str | None:
    """What an address lacks to be opened; None for a sound one."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return "a host and port that can be read"
    if parts.scheme not in {"http", "https"}:
        return "http or https"
    if "." not in host or not re.fullmatch(r"[\w.-]+", host):
        return "a host name"
    if re.search(r"[\s\\<>\"{}|^`]", url):
        return "no blanks, backslashes or brackets"
    return None


def _sizes(facts: Facts) -> Iterator[Finding]:
    claims = [claim for claim in facts["claims"] if claim["field"] == "counts"]
    if not facts["counts"]:
        bare = [claim["value"]["number"] for claim in claims]
        code = "count_without_unit" if bare else "size_unknown"
        found = ", ".join(map(str, dict.fromkeys(bare))) or "nothing"
        yield _finding(facts, code, "counts", found, "a number and its unit")
    whole = {
        (count["source"], count["unit"]): count["number"]
        for count in reversed(facts["counts"])
        if not count["split"] and not count["what"]
    }
    parts: dict[tuple[str, str], int] = defaultdict(int)
    for count in facts["counts"]:
        if count["split"] and not count["what"]:
            parts[count["source"], count["unit"]] += count["number"]
    for key, total in parts.items():
        if key in whole and total > whole[key]:
            expected = f"at most {whole[key]} {key[1]}"
            yield _finding(facts, "parts_exceed_whole", "counts", total, expected)


def _labels(facts: Facts) -> Iterator[Finding]:
    tasks = sorted(SUPERVISED.intersection(facts["tasks"]))
    if facts["labelled"] is False and tasks:
        found = f"labelled: no, tasks: {', '.join(tasks)}"
        yield _finding(facts, "unlabelled_but_supervised", "labelled", found, "labels or no task")


def _modality(facts: Facts) -> Iterator[Finding]:
    if not facts["modalities"]:
        yield _finding(facts, "modality_unknown", "modalities", "nothing", "a modality")
    if not facts["anatomies"]:
        yield _finding(facts, "anatomy_unknown", "anatomies", "nothing", "a body part")
        return
    around = {
        name for term in facts["anatomies"] for name in (term, *vocab.ancestors("anatomy", term))
    }
    for modality in facts["modalities"]:
        regions = REGIONS.get(modality)
        if regions and not (regions | ANYWHERE) & around:
            found = f"{modality} of {', '.join(facts['anatomies'])}"
            expected = " or ".join(sorted(regions))
            yield _finding(facts, "modality_foreign", "modalities", found, expected)


def _terms(facts: Facts) -> Iterator[Finding]:
    licence, access = facts["licence"], facts["access"]
    if licence is None:
        yield _finding(facts, "licence_unknown", "licence", "nothing", "SPDX id or LicenseRef")
    elif access == "application" and licences.licence(licence).redistribute:
        found = f"{licence}, by application"
        yield _finding(facts, "open_licence_closed_access", "access", found, "terms that agree")
    if access == "unknown":
        expected = "open, registration or application"
        yield _finding(facts, "access_unknown", "access", "nothing", expected)


def _conflicts(facts: Facts) -> Iterator[Finding]:
    for field in facts["conflicts"]:
        if field in NOT_WEIGHED:
            continue
        claims = [claim for claim in facts["claims"] if claim["field"] == field]
        if any(claim["source"] == "curation" for claim in claims):
            continue
        said = "; ".join(f"{c['source']}: {_short(c['value'])}" for c in claims if c["value"])
        yield _finding(facts, "conflict", field, said, "one value, by a curator's claim")


def _short(value: object) -> str:
    if isinstance(value, dict) and "number" in value:
        return f"{value['number']} {value['unit'] or '?'}"
    return ", ".join(value) if isinstance(value, list) else str(value)


_CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _year,
    _diseases,
    _urls,
    _sizes,
    _labels,
    _modality,
    _terms,
    _conflicts,
)


def _connected(first: Facts, second: Facts) -> bool:
    if first["family"] and first["family"] == second["family"]:
        return True
    if frozenset((first["slug"], second["slug"])) in told_apart():
        return True
    return any(row["to"] == second["slug"] for row in first["relations"])


def _same_name(rows: list[Facts]) -> Iterator[Finding]:
    named: dict[str, list[Facts]] = defaultdict(list)
    for facts in rows:
        for key in {name_key(name) for name in (facts["name"], *facts["aliases"])}:
            named[key].append(facts)
    for same in named.values():
        for place_, facts in enumerate(same):
            for other in same[:place_]:
                if "harvested" in {facts["tier"], other["tier"]} or _connected(facts, other):
                    continue
                found = f"{facts['name']!r} as of {other['slug']}"
                yield _finding(facts, "same_name", "name", found, "one record, or a relation")


def _same_homepage(rows: list[Facts]) -> Iterator[Finding]:
    at: dict[str, list[Facts]] = defaultdict(list)
    for facts in rows:
        where = place(facts["homepage"]) if facts["homepage"] else None
        if where is not None:
            at[where].append(facts)
    for same in at.values():
        for index, facts in enumerate(same):
            for other in same[:index]:
                if not _connected(facts, other):
                    found = f"{facts['homepage']} as of {other['slug']}"
                    yield _finding(
                        facts, "same_homepage", "homepage", found, "a page each, or a relation"
                    )


@cache
def told_apart() -> frozenset[frozenset[str]]:
    """Pairs that a person compared and found to be two datasets."""
    rows: list[dict[str, Any]] = yaml.safe_load(DISTINCT.read_text("utf-8")) or []
    return frozenset(frozenset(row["pair"]) for row in rows)


def twins(rows: Iterable[Facts]) -> list[tuple[str, str, str]]:
    """Pairs of slugs that share a DOI or have names alike but for small marks, and why."""
    kept = [facts for facts in rows if facts["tier"] == "curated"]
    found: dict[frozenset[str], str] = {}
    by_doi: dict[str, list[str]] = defaultdict(list)
    for facts in kept:
        if facts["doi"]:
            by_doi[facts["doi"].casefold()].append(facts["slug"])
    for doi, slugs in by_doi.items():
        if len(slugs) == PAIR:
            found[frozenset(slugs)] = f"DOI {doi}"
    keys = [name_key(facts["name"]) for facts in kept]
    for i, facts in enumerate(kept):
        for _, score, j in process.extract(
            keys[i], keys[i + 1 :], scorer=fuzz.ratio, score_cutoff=ALIKE, limit=None
        ):
            other = kept[i + 1 + j]
            if keys[i] != keys[i + 1 + j] and numbers(facts["name"]) == numbers(other["name"]):
                found.setdefault(frozenset((facts["slug"], other["slug"])), f"names {score:.0f} %")
    return sorted((min(pair), max(pair), why) for pair, why in found.items())


def _twins(rows: list[Facts]) -> Iterator[Finding]:
    by_slug = {facts["slug"]: facts for facts in rows}
    for one, other, why in twins(rows):
        if not _connected(by_slug[one], by_slug[other]):
            expected = f"one record, a relation, or the pair in {DISTINCT.name}"
            yield Finding("possible_twin", other, "name", f"{why} as of {one}", expected)
