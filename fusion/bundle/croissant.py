"""croissant.json: the bundle as Croissant 1.1, and our own check of what it must hold.

The reference validator accepts a file without name, licence, creator or datePublished, so
`missing_fields` looks for every required field itself. datePublished comes from the plan
(`content.date_published`), so that two builds of one plan are equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from catalog.croissant import CONTEXT
from catalog.licences import licence_url
from fusion.bundle.boxes import BOXES_LIST, is_boxes
from fusion.bundle.content import (
    Content,
    Row,
    citations,
    date_published,
    described,
    known_limits,
    licence_of,
    licences,
    source_name,
    split_names,
)
from fusion.bundle.manifest import has_boxes, role_of
from fusion.bundle.shards import Shard
from fusion.bundle.text import sha256_of

CREATOR = "Imaging-X Portal"
REQUIRED = (
    "@context", "@type", "conformsTo", "name", "description", "url", "license", "creator",
    "datePublished", "distribution",
)  # fmt: skip
REQUIRED_OF_FILE = ("@id", "name", "contentUrl", "encodingFormat", "sha256")
REQUIRED_OF_SET = ("@id", "name", "containedIn", "encodingFormat", "includes")
REQUIRED_RAI = (
    "rai:dataCollection", "rai:dataCollectionType", "rai:dataPreprocessingProtocol",
    "rai:dataAnnotationProtocol", "rai:dataLimitations", "rai:dataBiases", "rai:dataUseCases",
    "rai:dataSocialImpact", "rai:personalSensitiveInformation", "rai:dataReleaseMaintenancePlan",
    "prov:wasDerivedFrom", "usageInfo", "version", "citeAs",
)  # fmt: skip
_TYPES = {".json": "application/json", ".jsonl": "application/jsonlines"}
_SPLIT_URLS = {"train": "Training", "val": "Validation", "test": "Test"}


def build_croissant(content: Content, out: Path, shards: Sequence[Shard]) -> dict[str, Any]:
    """Describe the files that are already in `out`."""
    facts = content.plan
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.1",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": content.title,
        "description": description(content),
        "url": f"urn:sha256:{content.bundle_id}",
        "identifier": content.bundle_id,
        "license": [_licence(content, licence) for licence in licences(content)],
        "sdLicense": licence_url("CC0-1.0"),
        "creator": {"@type": "sc:Organization", "name": CREATOR},
        "datePublished": date_published(content),
        "version": "1.0.0",
        "keywords": sorted({content.task, str(facts["dimension"]), *content.concepts}),
        "citeAs": " ".join(citations(content)),
        "isLiveDataset": False,
        "usageInfo": _usage(content),
        "prov:wasDerivedFrom": [_derived_from(source) for source in content.sources],
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "name": "fusion",
            "description": f"recipe/recipe.json, seed {facts.get('seed', 0)}",
        },
        **_responsible(content),
        "distribution": [*_file_objects(content, out, shards), *_file_sets(shards)],
        "recordSet": [
            _split_records(),
            _case_records(content),
            *([_box_records(content)] if _shows_boxes(content) else ()),
        ],
    }


def description(content: Content) -> str:
    """One sentence that says what the bundle is."""
    names = ", ".join(source_name(source) for source in content.sources)
    return (
        f"{len(content.cases)} {content.plan['dimension']} cases for {content.task} of "
        f"{', '.join(content.concepts)}, fused from {names}."
    )


def missing_fields(data: Mapping[str, Any]) -> list[str]:
    """Every required field that is absent or empty, as a path."""
    missing = [field for field in (*REQUIRED, *REQUIRED_RAI) if not data.get(field)]
    for index, row in enumerate(data.get("distribution") or []):
        required = REQUIRED_OF_FILE if row.get("@type") == "cr:FileObject" else REQUIRED_OF_SET
        missing += [f"distribution[{index}].{field}" for field in required if not row.get(field)]
    for index, creator in enumerate(_as_list(data.get("creator"))):
        if not creator.get("name"):
            missing.append(f"creator[{index}].name")
    return missing


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _licence(content: Content, licence: str) -> Any:
    if url := licence_url(licence):
        return url
    of = [s["id"] for s in content.sources if licence in _both(s)]
    about = f"See LICENSES/ for {', '.join(of)}"
    return {"@type": "sc:CreativeWork", "name": licence, "description": about}


def _both(source: Row) -> tuple[str, str]:
    return licence_of(source, "images"), licence_of(source, "labels")


def _usage(content: Content) -> dict[str, Any]:
    """Use conditions: each source's files keep their own licence; a private build stays private."""
    policy: dict[str, Any] = {
        "@type": "odrl:Policy",
        "name": "Use conditions",
        "description": "Each file keeps the licence of its source (LICENSES/). "
        "Manifest, splits and label maps are CC0-1.0.",
    }
    if content.is_private:
        policy["description"] = "Private build: not to be passed on. " + policy["description"]
        policy["odrl:prohibition"] = {"odrl:action": {"@id": "odrl:distribute"}}
    return policy


def _derived_from(source: Row) -> dict[str, Any]:
    facts = described(source)
    entry: dict[str, Any] = {"@type": "prov:Entity", "name": source_name(source)}
    if doi := str(facts.get("doi") or ""):
        entry["@id"] = doi if doi.startswith("http") else f"https://doi.org/{doi}"
    elif homepage := str(facts.get("homepage") or ""):
        entry["@id"] = homepage
    else:
        entry["@id"] = f"urn:dataset:{source['id']}"
    if url := licence_url(licence_of(source, "images")):
        entry["license"] = url
    if version := str(facts.get("version") or ""):
        entry["version"] = version
    return entry


def _responsible(content: Content) -> dict[str, Any]:
    """Croissant RAI fields."""
    origins = {
        source_name(s): str(described(s).get("annotation") or "unknown") for s in content.sources
    }
    limits = known_limits(content) or ["none stated"]
    return {
        "rai:dataCollectionType": ["Secondary Data analysis"],
        "rai:dataUseCases": f"Training and judging {content.task} of {', '.join(content.concepts)} "
        "over several sources; no clinical use.",
        "rai:dataSocialImpact": "A model may do worse for people whom no source shows; results "
        "of each source are to be compared.",
        "rai:dataCollection": "Fused from published datasets: " + ", ".join(sorted(origins)),
        "rai:dataPreprocessingProtocol": f"Profile {content.plan.get('profile', 'canonical')}; "
        "every step of every case is in manifest.json (cases[].transforms).",
        "rai:dataAnnotationProtocol": "; ".join(
            f"{n}: {how}" for n, how in sorted(origins.items())
        ),
        "rai:dataLimitations": limits,
        "rai:dataBiases": "Sources differ in population, device and labelling; "
        "compare results per source (manifest.json, splits.counts).",
        "rai:personalSensitiveInformation": "Medical images without names: text fields of image "
        "headers are blanked, and the bundle is scanned for identifiers.",
        "rai:dataReleaseMaintenancePlan": "A bundle never changes; a changed plan gives another "
        "bundle with another identifier.",
    }


def _file_objects(content: Content, out: Path, shards: Sequence[Shard]) -> list[dict[str, Any]]:
    rows = [
        _file_object(f"shards/{s.name}", "application/x-tar", s.size_bytes, s.sha256)
        for s in shards
    ]
    names = ["manifest.json", "data-meta.jsonl", f"annotations-{content.task}.jsonl"]
    for name in names + ([BOXES_LIST] if content.task == "detection" else []):
        path = out / name
        rows.append(_file_object(name, _TYPES[path.suffix], path.stat().st_size, sha256_of(path)))
    return rows


def _file_object(path: str, media_type: str, size_bytes: int, sha256: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{size_bytes} B",
        "encodingFormat": media_type,
        "sha256": sha256,
    }


def _file_sets(shards: Sequence[Shard]) -> list[dict[str, Any]]:
    """One set per role and format."""
    found: dict[tuple[str, str], list[Shard]] = {}
    for shard in shards:
        for kind in sorted({_kind(member.name) for member in shard.members}):
            found.setdefault(kind, []).append(shard)
    return [
        _file_set(
            _set_name(role, suffix, found),
            f"*.{role}{suffix}" if role != "record" else "*.json",
            _MEDIA[suffix],
            within,
        )
        for (role, suffix), within in sorted(found.items())
    ]


def _kind(member: str) -> tuple[str, str]:
    """Role and suffix of a member."""
    role = role_of(member)
    return role, ".json" if role == "record" else member.partition(f".{role}")[2]


def _set_name(role: str, suffix: str, found: Mapping[tuple[str, str], Any]) -> str:
    """`images`, `labels`; with the format where a role has several."""
    alone = sum(other == role for other, _ in found) == 1
    many = role if is_boxes(role) else f"{role}s"
    return many if alone else f"{many}{suffix}"


_MEDIA = {
    ".nii.gz": "application/x-nifti",
    ".nii": "application/x-nifti",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".json": "application/json",
    ".csv": "text/csv",
}


def _file_set(name: str, pattern: str, media_type: str, shards: Sequence[Shard]) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "containedIn": [{"@id": f"shards/{shard.name}"} for shard in shards],
        "encodingFormat": media_type,
        "includes": pattern,
    }


def _split_records() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "dataType": "sc:URL"},
        ],
        "data": [
            {"splits/name": name, "splits/url": f"http://mlcommons.org/croissant/{word}Split"}
            for name, word in _SPLIT_URLS.items()
        ],
    }


def _case_records(content: Content) -> dict[str, Any]:
    fields = [_field(name, name) for name in ("id", "source", "group", "t1")]
    if content.has_folds:
        folds = sorted({fold for case in content.cases for fold in split_names(case)})
        fields += [_field(f"split_{fold}", f"split.{fold}", is_split=True) for fold in folds]
    else:
        fields.append(_field("split", "split", is_split=True))
    return {
        "@type": "cr:RecordSet",
        "@id": "cases",
        "name": "cases",
        "description": "One record per case; its files are in the shards, member <id>.*",
        "key": {"@id": "cases/id"},
        "field": fields,
    }


def _shows_boxes(content: Content) -> bool:
    """An empty table has no columns to describe."""
    return any(case.get("boxes") and has_boxes(content, case) for case in content.cases)


def _box_records(content: Content) -> dict[str, Any]:
    """One record per box; Croissant's BoundingBox is that of a picture."""
    corners = _box_field("corners") | {
        "dataType": "cr:BoundingBox",
        "description": "x0, y0, x1, y1 in pixels: x along the columns, pixel n covers n to n + 1",
    }
    if content.plan["dimension"] == "3D":
        corners |= {
            "dataType": "sc:Float",
            "isArray": True,
            "arrayShape": "6",
            "description": "i0, j0, k0, i1, j1, k1 in voxels of the array; n covers n to n + 1",
        }
    case = _box_field("case") | {"references": {"field": {"@id": "cases/id"}}}
    derived = _box_field("derived") | {
        "dataType": "sc:Boolean",
        "description": "made from a mask or an outline, not drawn as a box",
    }
    return {
        "@type": "cr:RecordSet",
        "@id": "boxes",
        "name": "boxes",
        "description": "One record per box of the cases whose labels are in this bundle",
        "field": [case, _box_field("concept"), corners, derived],
    }


def _box_field(column: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"boxes/{column}",
        "name": column,
        "dataType": "sc:Text",
        "source": {"fileObject": {"@id": BOXES_LIST}, "extract": {"column": column}},
    }


def _field(name: str, path: str, *, is_split: bool = False) -> dict[str, Any]:
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"cases/{name}",
        "name": name,
        "dataType": "sc:Text",
        "source": {
            "fileObject": {"@id": "manifest.json"},
            "extract": {"jsonPath": f"$.cases[*].{path}"},
        },
    }
    if is_split:
        field["references"] = {"field": {"@id": "splits/name"}}
    return field
