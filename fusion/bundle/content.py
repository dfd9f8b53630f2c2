"""What a bundle is made of, read once and checked: the plan's facts and the cases."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fusion.bundle.errors import BundleError
from fusion.bundle.names import check_case_id, check_path
from fusion.bundle.text import dump_json, sha256_text

SPLITS = ("train", "val", "test")
FOLDED = ("kfold", "loso")
IGNORE = "ignore"  # what a label map calls voxels that nobody annotated
UNKNOWN_LICENCE = "LicenseRef-unknown"
FIRST_DATE = "2026-01-01"  # datePublished when no source states a year
Row = Mapping[str, Any]
#: Several images of a case (`image`, `image_t2`) are its channels, in this order.
ROLE = re.compile(r"(?:image|label)(?:_[a-z0-9_]+)?")


@dataclass(frozen=True)
class Content:
    """Plan, cases in order of id, and what happened on the way."""

    plan: Row
    bundle_id: str
    cases: tuple[Row, ...]
    workdir: Path
    exclusions: tuple[Row, ...] = ()
    findings: tuple[Row, ...] = ()
    splits: Row = field(default_factory=dict)
    dedup: Row = field(default_factory=dict)
    roots: Mapping[str, Path] = field(default_factory=dict)
    lock: Row = field(default_factory=dict)

    @property
    def title(self) -> str:
        return str(self.plan["title"])

    @property
    def task(self) -> str:
        return str(self.plan["task"])

    @property
    def concepts(self) -> list[str]:
        """Concept ids; value v of a label map is concepts[v - 1]."""
        return [str(concept["id"]) for concept in self.plan["concepts"]]

    @property
    def ignore(self) -> int | None:
        """Value of voxels that nobody annotated; None where no source has such."""
        return ignore_value(self.plan)

    @property
    def sources(self) -> list[Row]:
        return list(self.plan["sources"])

    @property
    def is_private(self) -> bool:
        return bool(self.plan.get("build", "private") == "private")

    @property
    def has_folds(self) -> bool:
        """A case has a split per fold, and none that holds for all."""
        return self.plan.get("protocol") in FOLDED

    @cached_property
    def norm_params(self) -> list[str]:
        """Names of every parameter of a normalisation in this bundle."""
        found = (case["norm"].get("params") for case in self.cases if case.get("norm"))
        return sorted({name for params in found if isinstance(params, Mapping) for name in params})

    def source_of(self, case: Row) -> Row:
        return next(source for source in self.sources if source["id"] == case["source"])

    def owner_of(self, case: Row, role: str) -> Row:
        """The source that a file of this case comes from: another one's for its label layer."""
        named = next((row.get("source") for row in case["files"] if row["role"] == role), None)
        return next(s for s in self.sources if s["id"] == (named or case["source"]))

    def of_source(self, source_id: str) -> list[Row]:
        return [case for case in self.cases if case["source"] == source_id]

    def excluded_of(self, source_id: str) -> list[Row]:
        return [row for row in self.exclusions if row.get("source") == source_id]


def ignore_value(plan: Row) -> int | None:
    """The value of a plan's label maps for voxels that nobody annotated, after all concepts.

    None where no source's labels in use can say so.
    """
    layers = (
        layer
        for source in plan["sources"]
        if source.get("uses", "layers") == "layers"
        for layer in described(source).get("layers") or ()
    )
    says = any(IGNORE in (la.get("concept"), *(la.get("values") or {}).values()) for la in layers)
    return len(plan["concepts"]) + 1 if says else None


def read_content(
    plan: Any,
    workdir: Path,
    *,
    exclusions: Iterable[Any] = (),
    findings: Iterable[Any] = (),
    splits: Row | None = None,
    dedup: Row | None = None,
    roots: Mapping[str, Path] | None = None,
    lock: Row | None = None,
) -> Content:
    """Read `cases/*/case.json` below `workdir` and check what later becomes a name.

    Raises:
        BundleError: no case, an unsafe name, a case of no source, or a case without a split.
    """
    facts = plan_facts(plan)
    known = {str(source["id"]) for source in facts["sources"]}
    cases = [_read_case(path, known) for path in sorted((workdir / "cases").glob("*/case.json"))]
    if not cases:
        raise BundleError("no_cases", "cases: found none, expected at least one")
    return Content(
        plan=facts,
        bundle_id=str(facts["bundle_id"]),
        cases=tuple(sorted(cases, key=lambda case: str(case["id"]))),
        workdir=workdir,
        exclusions=tuple(_plain(row) for row in exclusions),
        findings=tuple(_plain(row) for row in findings),
        splits=splits or {},
        dedup=dedup or {},
        roots=roots or {},
        lock=lock or {},
    )


def plan_facts(plan: Any) -> dict[str, Any]:
    """The plan as plain data with its `bundle_id`; a mapping without one gets the plan's hash."""
    facts = _plain(plan)
    found = getattr(plan, "bundle_id", None) or facts.get("bundle_id")
    text = dump_json(facts, indent=None)
    facts["bundle_id"] = found or hashlib.sha256(text.encode()).hexdigest()
    return facts


def _plain(value: Any) -> dict[str, Any]:
    """JSON data of a mapping, or of an object with `as_dict`."""
    data = value.as_dict() if hasattr(value, "as_dict") else dict(value)
    plain: dict[str, Any] = json.loads(json.dumps(data))
    return plain


def _read_case(path: Path, sources: set[str]) -> dict[str, Any]:
    case: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    case_id = check_case_id(str(case["id"]))
    if case_id != path.parent.name:
        raise BundleError("case_invalid", f"{path.parent.name}: case.json has the id {case_id}")
    if case["source"] not in sources:
        raise BundleError(
            "case_invalid",
            f"{case_id}: found source {case['source']!r}, expected one of {sorted(sources)}",
        )
    named = case["split"].values() if isinstance(case.get("split"), dict) else [case.get("split")]
    if not set(named) <= set(SPLITS):
        raise BundleError(
            "case_invalid",
            f"{case_id}: found split {case.get('split')!r}, expected {', '.join(SPLITS)}",
        )
    check_has_image(case)
    for row in case["files"]:
        check_path(str(row["path"]))
        if not ROLE.fullmatch(str(row["role"])):
            raise BundleError(
                "case_invalid", f"{case_id}: found role {row['role']!r}, expected {ROLE.pattern}"
            )
    for row in origin_files(case):
        check_path(str(row["path"]).removesuffix("/"))  # a DICOM series is a folder
    return case


def origin_files(case: Row) -> list[Row]:
    """The source files of a case: its image, other channels, then its labels."""
    origin = case["origin"]
    return [origin["image"], *origin.get("channels", []), *origin.get("labels", [])]


def part_of(role: str) -> str:
    """`labels` or `images`: which of a source's two licences a file of this role has."""
    return "labels" if "label" in role else "images"


def is_shipped(source: Row, role: str) -> bool:
    """The harmonised file of this role may be in the bundle."""
    ships = source.get("ships") or {}
    return bool(ships.get(part_of(role), "harmonised") == "harmonised")


def ships_original(source: Row, part: str) -> bool:
    """Only the publisher's own bytes may be in the bundle."""
    return bool((source.get("ships") or {}).get(part) == "original")


def file_of(case: Row, role: str) -> Row | None:
    """The harmonised file with this role, if the case has one."""
    return next((row for row in case["files"] if row["role"] == role), None)


def check_has_image(case: Row) -> None:
    """Refuse a case without a harmonised image.

    Raises:
        BundleError: case.json names none.
    """
    if not any(str(row["role"]).partition("_")[0] == "image" for row in case["files"]):
        raise BundleError("image_missing", f"{case['id']}: case.json names no file of role image")


def described(source: Row) -> Row:
    """The source description inside a plan's source entry."""
    description: Row = source.get("description") or {}
    return description


def source_name(source: Row) -> str:
    return str(described(source).get("name") or source.get("dataset") or source["id"])


def licence_of(source: Row, part: str) -> str:
    """SPDX id or LicenseRef of `images` or `labels`; unknown stays unknown."""
    licence = described(source).get("licence") or {}
    value = licence.get(part)
    if isinstance(value, Mapping):
        value = value.get("spdx") or value.get("ref")
    return str(value or UNKNOWN_LICENCE)


def licences(content: Content) -> list[str]:
    """Every licence in the bundle, once, in order of name."""
    return sorted({licence_of(s, part) for s in content.sources for part in ("images", "labels")})


def date_published(content: Content) -> str:
    """A date that depends on the plan alone, never on the clock.

    `published_on` of the plan when it has one; else the first day of the newest year that a
    source states (nothing in the bundle can be older than that); else FIRST_DATE.
    """
    if stated := content.plan.get("published_on"):
        return str(stated)
    years = [int(year) for source in content.sources if (year := described(source).get("year"))]
    return f"{max(years):04d}-01-01" if years else FIRST_DATE


def citations(content: Content) -> list[str]:
    """One line per source: its citation, else what names it best."""
    return [_citation(source) for source in content.sources]


def _citation(source: Row) -> str:
    facts = described(source)
    parts: Sequence[str] = [
        source_name(source),
        str(facts.get("version") or ""),
        str(facts.get("doi") or facts.get("homepage") or ""),
    ]
    return str(facts.get("citation") or ". ".join(part for part in parts if part))


def known_limits(content: Content) -> list[str]:
    """Limits of the plan, then those that each source states."""
    limits = [str(limit) for limit in content.plan.get("known_limits", [])]
    for source in content.sources:
        limits += [
            f"{source['id']}: {limit}" for limit in described(source).get("known_limits", [])
        ]
    return list(dict.fromkeys(limits))


def split_names(case: Row) -> dict[str, str]:
    """Fold -> split; a holdout has the one fold `holdout`."""
    split = case["split"]
    return dict(split) if isinstance(split, Mapping) else {"holdout": str(split)}


def split_id(cases: Iterable[Row]) -> str:
    """Digest of who is in which split; normalisations and the manifest name it."""
    assignment = [[case["id"], case["split"]] for case in sorted(cases, key=lambda c: str(c["id"]))]
    return sha256_text(dump_json(assignment, indent=None))


def shard_prefix(case: Row) -> str:
    """First part of the shard's name: the split, or `all` where it differs by fold."""
    return "all" if isinstance(case["split"], Mapping) else str(case["split"])
