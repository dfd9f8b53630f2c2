"""manifest.json: its schema, and how it follows from the content and the written shards."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from catalog.licences import combine, licence
from fusion.bundle.boxes import BOXES_ROLE
from fusion.bundle.content import (
    IGNORE,
    Content,
    Row,
    citations,
    described,
    is_shipped,
    known_limits,
    licence_of,
    part_of,
    shard_prefix,
    source_name,
    split_id,
    split_names,
)
from fusion.bundle.shards import Member, Shard
from fusion.bundle.text import dump_json, sha256_of
from fusion.plan import BUILDER_VERSION

SCHEMA_VERSION = "imaging-x/bundle/1"
LOCK_FILE = Path(__file__).resolve().parents[2] / "requirements.txt"

#: Keys of case.json that the manifest and the record in a shard take as they are.
_SHARED_KEYS = (
    "id", "source", "group", "split", "t1", "shape", "axcodes", "channels", "dtype", "unit",
    "annotated", "present", "classes", "flags",
)  # fmt: skip
_RECORD_KEYS = (*_SHARED_KEYS, "spacing_mm", "norm")
_CASE_KEYS = (*_SHARED_KEYS, "name", "transforms")

Sha256 = str
_SHA256 = Field(pattern=r"^[0-9a-f]{64}$")


class Part(BaseModel):
    """Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Builder(Part):
    version: str
    lock_sha256: str  # of the pinned requirements; empty when they are not at hand


class PlanPart(Part):
    mode: str
    task: Literal["segmentation", "classification"]
    build: Literal["private", "shareable"]
    dimension: Literal["2D", "3D"]
    profile: str
    target: dict[str, Any]
    channels: list[str]  # names of a case's images in their order; empty: one without a name
    concepts: list[str]
    seed: int
    protocol: Literal["holdout", "kfold", "loso"]
    accept: dict[str, Any]


class DetectionPlan(PlanPart):
    task: Literal["detection"]  # type: ignore[assignment]  # the schema of other bundles stays


class IgnoringPlan(PlanPart):
    """`ignore`: value of label maps where nobody annotated, neither background nor concept."""

    ignore: int = Field(ge=2)


class SourcePart(Part):
    id: str
    name: str
    dataset: str
    version: str
    url: str
    doi: str
    retrieved: str | None
    licence: dict[str, Any]
    citation: str
    publisher: str
    year: int | None
    modality: str
    family: str
    sequence: str
    annotation: str
    ships: dict[str, Literal["harmonised", "original", "recipe"]]
    official_split: bool
    n_cases_in: int = Field(ge=0)
    n_used: int = Field(ge=0)
    excluded: dict[str, int]


class FilePart(Part):
    """`path` is the shard; the bytes are at `offset` in it and form the tar member `member`."""

    path: str
    member: str  # <case>.<role>.<suffix>
    offset: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: Sha256 = _SHA256
    licence: str
    role: str = Field(pattern=r"^(record|(original_)?(image|label)(_[a-z0-9_]+)?)$")


class OriginFile(BaseModel):
    """A file as its publisher gave it; further keys say which part of it was used."""

    model_config = ConfigDict(extra="allow", frozen=True)

    path: str
    sha256: Sha256 = _SHA256
    bytes: int = Field(ge=0)


class Origin(Part):
    """`channels` are the files of further channels, where these are not in `image`."""

    image: OriginFile
    channels: list[OriginFile] = []
    labels: list[OriginFile]


class Use(Part):
    """What the files of this bundle allow together; `recipe_only` names sources without files."""

    redistribute: bool
    commercial: bool
    adapt: bool
    one_file: bool
    share_alike: list[str]
    attribution: list[str]
    recipe_only: list[str]
    original_only: list[str]
    reasons: list[str]


class CasePart(Part):
    id: str
    source: str
    name: str
    group: str
    split: str | dict[str, str]
    origin: Origin
    files: list[FilePart]
    recipe_only: list[str]  # roles that only a rebuild from the sources gives
    t1: Sha256 = _SHA256
    shape: list[int]
    spacing: list[float] | None
    axcodes: str | None
    channels: int
    dtype: str
    unit: str
    annotated: list[str]
    present: dict[str, int]
    classes: dict[str, int] | None
    flags: list[str]
    transforms: list[dict[str, Any]]
    norm_ref: int | None


class IgnoringCase(CasePart):
    """`ignored` counts the voxels of its label map that nobody annotated."""

    ignored: int = Field(ge=0)


class ShardPart(Part):
    path: str
    bytes: int
    sha256: Sha256 = _SHA256
    cases: int


class Manifest(Part):
    """The whole of manifest.json; every field is required."""

    schema_version: Literal["imaging-x/bundle/1"]
    bundle_id: Sha256 = _SHA256
    title: str
    builder: Builder
    plan: PlanPart
    sources: list[SourcePart]
    compatibility: dict[str, Any]
    overlaps: list[dict[str, Any]]
    concepts: list[dict[str, Any]]
    label_maps: list[dict[str, Any]]
    cases: list[CasePart]
    groups: dict[str, Any]
    splits: dict[str, Any]
    norm: list[dict[str, Any]]
    dedup: dict[str, Any]
    checks: dict[str, Any]
    privacy: dict[str, Any]
    known_limits: list[str]
    citations: list[str]
    use: Use
    shards: list[ShardPart]
    views: dict[str, Any]


class BoxPart(Part):
    """One box of a case whose labels are in this bundle's files.

    `corners` are where it begins and where it ends on the stored image, in continuous voxel
    coordinates: voxel n covers n to n + 1. x0, y0, x1, y1 of a picture (x along the columns), i0,
    j0, k0, i1, j1, k1 of a volume. `derived`: made from a mask or an outline.
    """

    case: str
    concept: str
    corners: list[float] = Field(min_length=4, max_length=6)
    derived: bool


class DetectionManifest(Manifest):
    """manifest.json of a bundle for detection; `present` of a case counts voxels in its boxes."""

    plan: DetectionPlan
    boxes: list[BoxPart]


class IgnoringManifest(Manifest):
    """manifest.json of a bundle in which some voxels were not annotated."""

    plan: IgnoringPlan
    cases: list[IgnoringCase]  # type: ignore[assignment]  # the schema of other bundles stays


def ignore_of(manifest: Manifest) -> int | None:
    """The value of label maps where nobody annotated; None where the bundle has none."""
    return manifest.plan.ignore if isinstance(manifest, IgnoringManifest) else None


def ignored_in(case: CasePart) -> int:
    """Voxels of a case's label map that nobody annotated."""
    return case.ignored if isinstance(case, IgnoringCase) else 0


def manifest_of(data: Mapping[str, Any]) -> Manifest:
    """The content of a manifest.json, checked against the schema for its task.

    Raises:
        ValidationError: it does not fit.
    """
    found = data.get("plan")
    plan = found if isinstance(found, Mapping) else {}
    return _kind(str(plan.get("task")), ignores="ignore" in plan).model_validate(data)


def manifest_schema(task: str, *, ignores: bool = False) -> dict[str, Any]:
    """JSON Schema of manifest.json; `ignores` where label maps say what was not annotated."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA_VERSION.replace('/', ':')}",
        **_kind(task, ignores=ignores).model_json_schema(),
    }


def _kind(task: str, *, ignores: bool) -> type[Manifest]:
    if task == "detection":
        return DetectionManifest
    return IgnoringManifest if ignores else Manifest


def boxes_by_case(manifest: Manifest) -> dict[str, list[BoxPart]]:
    """The boxes of each case whose labels are in the bundle; empty for other tasks."""
    if not isinstance(manifest, DetectionManifest):
        return {}
    found: dict[str, list[BoxPart]] = {}
    for case in manifest.cases:
        if any(file.role == BOXES_ROLE for file in case.files):
            found[case.id] = []
    for box in manifest.boxes:
        found[box.case].append(box)
    return found


def build_manifest(
    content: Content, shards: Sequence[Shard], checks: Row, withheld: Sequence[str] = ()
) -> Manifest:
    """The manifest, checked against its schema; its views are still to be added."""
    norms, norm_of = _norms(content)
    members = _members(shards)
    data = {
        "schema_version": SCHEMA_VERSION,
        "bundle_id": content.bundle_id,
        "title": content.title,
        "builder": {"version": BUILDER_VERSION, "lock_sha256": _lock_sha256()},
        "plan": _plan(content),
        "sources": [_source(content, source) for source in content.sources],
        "compatibility": content.plan.get("compatibility")
        or {"S": None, "C": None, "parts": {}, "gates": list(content.plan.get("gates") or [])},
        "overlaps": list(content.plan.get("overlaps") or []),
        "concepts": list(content.plan["concepts"]),
        "label_maps": _label_maps(content),
        "cases": [
            _case(content, case, members.get(str(case["id"]), []), norm_of.get(str(case["id"])))
            for case in content.cases
        ],
        "groups": {
            "n": len({case["group"] for case in content.cases}),
            "merged_by": dict(content.dedup.get("merged_by") or {}),
        },
        "splits": _splits(content),
        "norm": norms,
        "dedup": {"tiers": [], "thresholds": {}, "hits": [], "reviewed": []} | dict(content.dedup),
        "checks": dict(checks),
        "privacy": dict(content.plan.get("privacy") or {})
        | {
            "text_fields": "blanked",
            "header_extensions": "removed",
            "original_names": "kept: paths of the published files, as their publisher named them",
            "originals_withheld": list(withheld),
        },
        "known_limits": known_limits(content),
        "citations": citations(content),
        "use": effective_use(content),
        "shards": [
            {
                "path": f"shards/{shard.name}",
                "bytes": shard.size_bytes,
                "sha256": shard.sha256,
                "cases": len({member.key for member in shard.members}),
            }
            for shard in shards
        ],
        "views": {},
    }
    if content.task == "detection":
        data["boxes"] = list(_boxes(content))
    return manifest_of(data)


def _boxes(content: Content) -> Iterator[dict[str, Any]]:
    """Those that may be passed on, in the order of the cases."""
    for case in content.cases:
        if has_boxes(content, case):
            yield from ({"case": case["id"], **box} for box in case["boxes"])


def has_boxes(content: Content, case: Row) -> bool:
    """The case's boxes are in this bundle's files."""
    source = content.source_of(case)
    is_here = is_shipped(source, "image") and is_shipped(source, BOXES_ROLE)
    return is_here and any(row["role"] == BOXES_ROLE for row in case["files"])


def case_record(content: Content, case: Row) -> dict[str, Any]:
    """What stands in `<case>.json` inside a shard: enough to train on the shard alone.

    All records have the same keys, as tools expect that read them as a table: `classes` is null
    for a concept that nobody looked for.
    """
    classes, norm = case.get("classes"), case.get("norm")
    if norm and isinstance(norm.get("params"), Mapping):
        norm = {**norm, "params": dict.fromkeys(content.norm_params) | norm["params"]}
    return (
        {key: case.get(key) for key in _RECORD_KEYS}
        | _ignored(content, case)
        | {
            "concepts": content.concepts,
            "annotated_mask": [int(c in case["annotated"]) for c in content.concepts],
            "classes": classes and {c: classes.get(c) for c in content.concepts},
            "norm": norm,
        }
    )


def _ignored(content: Content, case: Row) -> dict[str, int]:
    """Only in bundles where some source says what it did not annotate."""
    return {} if content.ignore is None else {"ignored": int(case.get("ignored", 0))}


def effective_use(content: Content) -> dict[str, Any]:
    """The licences of what is in the bundle, taken together."""
    stated = {
        str(source["id"]): {part: licence_of(source, part) for part in ("images", "labels")}
        for source in content.sources
    }
    held = {
        source_id: [
            text for part, text in parts.items() if _form(content, source_id, part) != RECIPE
        ]
        for source_id, parts in stated.items()
    }
    whole = combine(text for texts in held.values() for text in texts)
    reasons = [
        f"{source_id} {part}: {text}: {', '.join(lacks)}"
        for source_id, parts in stated.items()
        for part, text in parts.items()
        if _form(content, source_id, part) != RECIPE and (lacks := _lacks(text))
    ]
    return {
        "redistribute": whole.redistribute,
        "commercial": whole.commercial,
        "adapt": whole.adapt,
        "one_file": whole.one_file,
        "share_alike": list(whole.share_alike),
        "attribution": [
            i for i, texts in held.items() if any(licence(t).attribution for t in texts)
        ],
        "recipe_only": _of_form(content, stated, RECIPE),
        "original_only": _of_form(content, stated, "original"),
        "reasons": reasons,
    }


RECIPE = "recipe"


def _form(content: Content, source_id: str, part: str) -> str:
    source = next(one for one in content.sources if one["id"] == source_id)
    return str((source.get("ships") or {}).get(part, "harmonised"))


def _of_form(content: Content, stated: Iterable[str], form: str) -> list[str]:
    return [
        f"{source_id} {part}"
        for source_id in stated
        for part in ("images", "labels")
        if _form(content, source_id, part) == form
    ]


def _lacks(text: str) -> list[str]:
    """What a licence does not allow, in words."""
    terms = licence(text)
    if not terms.known:
        return ["unknown terms allow nothing"]
    facts = {
        "may not be passed on": not terms.redistribute,
        "no adaptation": not terms.adapt,
        "no commercial use": not terms.commercial,
        "a data use agreement must be signed": terms.dua,
    }
    return [words for words, holds in facts.items() if holds]


def _lock_sha256() -> str:
    return sha256_of(LOCK_FILE) if LOCK_FILE.is_file() else ""


def _plan(content: Content) -> dict[str, Any]:
    plan = content.plan
    return {
        "mode": plan.get("mode", "intersection"),
        "task": plan["task"],
        "build": plan.get("build", "private"),
        "dimension": plan["dimension"],
        "profile": plan.get("profile", "canonical"),
        "target": {"spacing_mm": plan.get("spacing_mm")},
        "channels": list(plan.get("channels") or []),
        "concepts": content.concepts,
        "seed": plan.get("seed", 0),
        "protocol": plan.get("protocol", "holdout"),
        "accept": dict(plan.get("accept") or {}),
    } | ({} if content.ignore is None else {"ignore": content.ignore})


def _source(content: Content, source: Row) -> dict[str, Any]:
    facts, used = described(source), len(content.of_source(str(source["id"])))
    codes = Counter(str(row.get("code")) for row in content.excluded_of(str(source["id"])))
    return {
        "id": str(source["id"]),
        "name": source_name(source),
        "dataset": str(source.get("dataset") or ""),
        "version": str(facts.get("version") or ""),
        "url": str(facts.get("homepage") or ""),
        "doi": str(facts.get("doi") or ""),
        "retrieved": source.get("retrieved"),
        "licence": {
            "images": licence_of(source, "images"),
            "labels": licence_of(source, "labels"),
            "url": str((facts.get("licence") or {}).get("url") or ""),
            "result": source.get("licence_result"),
        },
        "citation": str(facts.get("citation") or ""),
        "publisher": str(facts.get("publisher") or ""),
        "year": facts.get("year"),
        "modality": str(facts.get("modality") or ""),
        "family": str(facts.get("family") or ""),
        "sequence": str(facts.get("sequence") or ""),
        "annotation": str(facts.get("annotation") or "unknown"),
        "ships": source.get("ships") or {"images": "harmonised", "labels": "harmonised"},
        "official_split": bool((facts.get("cases") or {}).get("split")),
        "n_cases_in": used + sum(codes.values()),
        "n_used": used,
        "excluded": dict(codes),
    }


def _label_maps(content: Content) -> list[dict[str, Any]]:
    """Value -> concept in the bundle, then how each source's own labels were read."""
    values = {str(value): concept for value, concept in enumerate(content.concepts, start=1)}
    values |= {} if content.ignore is None else {str(content.ignore): IGNORE}
    maps: list[dict[str, Any]] = [{"source": None, "values": {"0": "background"} | values}]
    for source in content.sources:
        facts = described(source)
        maps.append(
            {
                "source": str(source["id"]),
                "layers": list(facts.get("layers") or []),
                "classes": facts.get("classes"),
                "mapping": dict(source.get("mapping") or {}),
            }
        )
    return maps


def _case(
    content: Content, case: Row, written: Sequence[tuple[str, Member]], norm_ref: int | None
) -> dict[str, Any]:
    files = []
    for shard, member in written:
        role = role_of(member.name)
        files.append(
            {
                "path": f"shards/{shard}",
                "member": member.name,
                "offset": member.offset,
                "bytes": member.size_bytes,
                "sha256": member.sha256,
                "licence": "CC0-1.0"
                if role == "record"
                else licence_of(content.owner_of(case, role), part_of(role)),
                "role": role,
            }
        )
    return (
        {key: case.get(key) for key in _CASE_KEYS}
        | _ignored(content, case)
        | {
            "origin": {
                "image": case["origin"]["image"],
                "channels": case["origin"].get("channels", []),
                "labels": case["origin"].get("labels", []),
            },
            "files": files,
            "recipe_only": [
                str(row["role"])
                for row in case["files"]
                if not is_shipped(content.owner_of(case, row["role"]), str(row["role"]))
            ],
            "spacing": case.get("spacing_mm"),
            "norm_ref": norm_ref,
        }
    )


def role_of(member: str) -> str:
    """Role of a file, from its member's name: `<case>.<role>.<suffix>`, a record `<case>.json`."""
    parts = member.split(".")
    return parts[1] if len(parts) > 2 else "record"  # noqa: PLR2004


def _members(shards: Sequence[Shard]) -> dict[str, list[tuple[str, Member]]]:
    by_case: dict[str, list[tuple[str, Member]]] = defaultdict(list)
    for shard in shards:
        for member in shard.members:
            by_case[member.key].append((shard.name, member))
    return by_case


def _splits(content: Content) -> dict[str, Any]:
    counts: dict[str, dict[str, dict[str, int]]] = {}
    by_concept: dict[str, dict[str, dict[str, int]]] = {}
    for case in content.cases:
        for fold, split in split_names(case).items():
            key = split if fold == "holdout" else f"{fold}/{split}"
            row = counts.setdefault(key, {}).setdefault(str(case["source"]), {"cases": 0})
            row["cases"] += 1
            cells = by_concept.setdefault(key, {}).setdefault(str(case["source"]), {})
            for concept, n in sorted((case.get("present") or {}).items()):
                cells[concept] = cells.get(concept, 0) + int(n > 0)
    extra = {key: value for key, value in content.splits.items() if key not in ("id", "counts")}
    return extra | {
        "id": split_id(content.cases),
        "protocol": content.plan.get("protocol", "holdout"),
        "prefixes": sorted({shard_prefix(case) for case in content.cases}),
        "counts": {
            key: {
                source: {"cases": row["cases"], "with_concept": by_concept[key][source]}
                for source, row in sources.items()
            }
            for key, sources in counts.items()
        },
    }


def _norms(content: Content) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Distinct normalisations, and which one each case refers to."""
    norms: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    of_case = {}
    for case in content.cases:
        norm: Mapping[str, Any] | None = case.get("norm")
        if not norm:
            continue
        key = dump_json(norm, indent=None)
        if key not in norms:
            norms[key] = len(rows)
            rows.append(dict(norm))
        of_case[str(case["id"])] = norms[key]
    return rows, of_case
