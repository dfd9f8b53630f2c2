"""What the files of a source really hold, and where that differs from what was said of them. Pure.

Metadata first, pixels second: the catalog and the source description speak first; each case, once
it has been read, answers. Places and sizes are told per anatomical axis (R, A, S), so that files
with other axis orders can be set beside each other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from catalog import concepts, vocab
from catalog.describe import plural
from fusion.alignment import concepts_of
from fusion.compatibility import band, near, scores
from fusion.imaging.volume import Array, Picture, Volume, every
from fusion.source import BACKGROUND, IGNORE, Layer

Row = Mapping[str, Any]
#: Quantiles kept of each image: every half percent, the smallest and the largest value included.
LEVELS = 201
MEDIAN, LOW, HIGH = 100, 1, 199
MOST_VOXELS = 1 << 18
#: Medians of voxel sizes that differ by more are different.
SPACING_TOLERANCE = 0.1
#: Units of the catalog's counts that mean what is a case here.
CASE_UNITS = {"3D": ("volume", "series"), "2D": ("image", "slide", "frame", "patch")}
COLOUR_FAMILIES = frozenset(
    {"fundus", "dermoscopy", "clinical photo", "endoscopy", "colposcopy", "histology", "video"}
)
UNSIGNED = frozenset({"MR", "US", "OP", "XC", "SM", "ES", "GM"})


def facts(image: Volume | Picture) -> dict[str, Any]:
    """Shape, place, type and intensities of one image, as JSON data."""
    common = {"dtype": str(image.array.dtype), "intensity": quantiles(image.array)}
    if isinstance(image, Picture):
        flat = {"spacing_mm": None, "axcodes": None, "geometry": "none", "unit": "unknown"}
        shape = list(image.array.shape[:2])
        return {**common, **flat, "shape": shape, "channels": image.channels}
    is_placed = image.geometry != "none"
    return {
        **common,
        "shape": list(image.array.shape),
        "channels": 1,
        "spacing_mm": [_short(size) for size in image.grid.spacing_mm] if is_placed else None,
        "axcodes": image.grid.axcodes if is_placed else None,
        "geometry": image.geometry,
        "unit": image.unit,
    }


def quantiles(array: Array) -> list[float]:
    """The smallest value, each half percent, the largest: LEVELS numbers.

    The ends are exact; between them at most MOST_VOXELS values speak, taken at a fixed step that
    shares no factor with any side of the array, so that no row or channel is favoured.
    """
    step = -(-array.size // MOST_VOXELS)
    while step > 1 and any(math.gcd(step, side) > 1 for side in array.shape):
        step += 1
    taken = np.sort(every(array, step), kind="stable")
    ranks = np.rint(np.linspace(0, len(taken) - 1, LEVELS)).astype(int)
    found = [_short(value) for value in taken[ranks]]
    return [_short(array.min()), *found[1:-1], _short(array.max())]


def _short(value: Any) -> float:
    """Six digits are enough to compare by, and keep rows small."""
    return float(f"{float(value):.6g}")


def fingerprint(source: Row, cases: Sequence[Row], found: int) -> dict[str, Any]:
    """What the cases of one source show.

    Args:
        source: its entry in the plan.
        cases: content of each case.json of this source; `original` holds `facts` of the file.
        found: cases that the files show, those that cannot be used among them.
    """
    originals = [case["original"] for case in cases if case.get("original")]
    description = source["description"]
    named = description["cases"]["subject"] is not None
    return {
        "id": source["id"],
        "dataset": source["dataset"],
        "declared": {key: description[key] for key in ("modality", "family", "dimension")},
        "cases": found,
        "read": len(cases),
        "subjects": len({case["subject"] for case in cases}) if named else None,
        "dimension": _counts(f"{len(one['shape'])}D" for one in originals),
        "before": summary(originals),
        "after": summary(cases),
        "labels": _labels(source, cases),
        "label_values": _values(cases),
        "classes": _classes(source, cases),
    }


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Geometry, types and intensities of images, each row as `facts` gives it."""
    placed = [row for row in rows if row["spacing_mm"]]
    sizes = [
        in_ras(row["shape"], row["axcodes"]) if row["axcodes"] else row["shape"] for row in rows
    ]
    levels = [row["intensity"] for row in rows if row.get("intensity")]
    return {
        "spacing_mm": spread([in_ras(row["spacing_mm"], row["axcodes"]) for row in placed]),
        "size": spread(sizes),
        "orientation": _counts(row["axcodes"] or "none" for row in rows),
        "geometry": _counts(row["geometry"] for row in rows if row.get("geometry")),
        "dtype": _counts(row["dtype"] for row in rows),
        "channels": _counts(str(row["channels"]) for row in rows),
        "unit": _counts(row["unit"] for row in rows),
        "intensity": _intensity(levels),
    }


def _intensity(levels: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """Per percentile the smallest, median and largest over the cases."""
    if not levels:
        return None
    picked = {"p0": 0, "p0.5": LOW, "p50": MEDIAN, "p99.5": HIGH, "p100": -1}
    return {name: spread([[row[i]] for row in levels]) for name, i in picked.items()} | {
        "below_zero": sum(row[0] < 0 for row in levels)
    }


def in_ras(values: Sequence[float], axcodes: str) -> list[float]:
    """One value per array axis, put in the order right-left, front-back, up-down."""
    axis = {letter: n for n, pair in enumerate(("LR", "PA", "IS")) for letter in pair}
    out = [0.0, 0.0, 0.0]
    for value, letter in zip(values, axcodes, strict=True):
        out[axis[letter]] = value
    return out


def spread(values: Sequence[Sequence[float]]) -> dict[str, list[float]] | None:
    """Smallest, median and largest per axis; None where the rows are none or of two kinds."""
    if not values or len({len(row) for row in values}) > 1:
        return None
    table = np.array(values, float)
    ends = {"min": table.min(axis=0), "median": np.median(table, axis=0), "max": table.max(axis=0)}
    return {name: [_short(v) for v in row] for name, row in ends.items()}


def _counts(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def volumes(case: Row) -> dict[str, float]:
    """Size of each concept that was looked for in a case: mm3, or pixels where no size is known."""
    voxel = math.prod(case["spacing_mm"]) if case["spacing_mm"] else 1.0
    return {concept: n * voxel for concept, n in case["present"].items()
            if concept in case["annotated"]}  # fmt: skip


def shares(case: Row) -> dict[str, float]:
    """What can be compared between sources: mm3, or without a voxel size the share of the image."""
    whole = 1.0 if case["spacing_mm"] else float(math.prod(case["shape"]))
    return {concept: size / whole for concept, size in volumes(case).items()}


def _labels(source: Row, cases: Sequence[Row]) -> dict[str, Any]:
    sizes = [(case["present"], volumes(case)) for case in cases if case["present"]]
    placed = any(case["spacing_mm"] for case in cases)
    return {
        concept: {
            "annotated": len(sizes),
            "present": sum(present.get(concept, 0) > 0 for present, _ in sizes),
            "unit": "mm3" if placed else "px",
            "size": spread([[size[concept]] for _, size in sizes if size.get(concept)]),
        }
        for concept in source["annotated"]
        if sizes
    }


def _values(cases: Iterable[Row]) -> dict[str, int]:
    """In how many cases each value of the source's own label maps occurs."""
    seen = Counter(value for case in cases for value in case.get("label_values", ()))
    return {str(value): number for value, number in sorted(seen.items())}


def _classes(source: Row, cases: Sequence[Row]) -> dict[str, int]:
    given = [case["classes"] for case in cases if case.get("classes")]
    return {c: sum(row.get(c) == 1 for row in given) for c in source["annotated"] if given}


def differences(source: Row, found: Row, cases: Sequence[Row]) -> list[dict[str, str]]:
    """Findings: where the catalog, or the source description, says other than the files."""
    name, catalog = source["id"], source.get("catalog")
    rows = [("fingerprint_differs", *row) for row in _from_description(source, found, cases)]
    if catalog:
        rows += [("catalog_differs", *row) for row in _from_catalog(source, catalog, found)]
    return [
        {"code": code, "severity": severity, "source": name, "detail": f"{name}: {detail}"}
        for code, severity, detail in rows
    ]


def _from_catalog(source: Row, catalog: Row, found: Row) -> Iterator[tuple[str, str]]:
    """What the catalog states otherwise; what it leaves open is silent."""
    dimensions = list(found["dimension"])
    if catalog["dimensions"] and (other := set(dimensions) - set(catalog["dimensions"])):
        said = ", ".join(catalog["dimensions"])
        yield "warning", f"the catalog says {said}, the files are {', '.join(sorted(other))}"
    yield from _counts_differ(catalog, found)
    stated = (catalog["spacing"] or {}).get("median_mm")
    spacing = found["before"]["spacing_mm"]
    if stated and spacing and len(stated) == len(spacing["median"]):
        # The catalog's sources list the axes in different orders; sorted, they can be compared.
        pairs = zip(sorted(stated), sorted(spacing["median"]), strict=True)
        if any(abs(a / b - 1) > SPACING_TOLERANCE for a, b in pairs):
            seen = _mm(spacing["median"])
            yield "warning", f"the catalog's median voxel size is {_mm(stated)}, the files' {seen}"
    listed = concepts_of(catalog["classes"])
    own = _shown(found) & set(source["annotated"])
    if listed and own and not any(near(a, b) for a in listed for b in own):
        names = ", ".join(sorted(concepts.concept(c).label for c in own))
        classes = ", ".join(catalog["classes"][:8])
        yield "warning", f"the catalog lists the classes {classes}, the files show {names}"


def _counts_differ(catalog: Row, found: Row) -> Iterator[tuple[str, str]]:
    whole = [row for row in catalog["counts"] if row["split"] is None]
    units = [unit for dimension in found["dimension"] for unit in CASE_UNITS[dimension]]
    for number, words in ((found["cases"], units), (found["subjects"], ["subject"])):
        rows = [row for row in whole if row["unit"] in words]
        if number is None or not rows or any(row["number"] == number for row in rows):
            continue
        unit = rows[0]["unit"]
        numbers = [row["number"] for row in rows if row["unit"] == unit]
        said = " or ".join(f"{one:,}" for one in dict.fromkeys(numbers))
        yield (
            "info",
            f"the catalog counts {said} {plural(unit, numbers[-1])}, the files show {number:,}",
        )


def _from_description(source: Row, found: Row, cases: Sequence[Row]) -> Iterator[tuple[str, str]]:
    description, before = source["description"], found["before"]
    declared = description["dimension"]
    if other := [d for d in found["dimension"] if d != declared]:
        yield "warning", f"declared {declared}, the files are {', '.join(other)}"
    yield from _intensities_differ(description, before, found["read"])
    own = vocab.resolve("modality", description["family"])
    grey = before["channels"].get("1", 0)
    if own and own.family in COLOUR_FAMILIES and grey:
        total = found["read"]
        yield "warning", f"declared {description['family']}, {grey} of {total} images are grey"
    elif len(before["channels"]) > 1:
        seen = ", ".join(f"{n} have {c}" for c, n in before["channels"].items())
        yield "info", f"images differ in their number of channels: {seen}"
    missing = set(source["annotated"]) - _shown(found)
    if (found["labels"] or found["classes"]) and missing:
        names = ", ".join(sorted(concepts.concept(c).label for c in missing))
        yield "warning", f"declared to be labelled for {names}, no case shows it"
    if found["label_values"]:
        never = sorted(_mapped(description) - set(map(int, found["label_values"])))
        if never:
            listed = ", ".join(map(str, never[:12])) + (", ..." if len(never) > 12 else "")  # noqa: PLR2004
            yield "info", f"label values that are mapped to concepts and occur in no case: {listed}"
    splits = {case["official_split"] for case in cases}
    for split in sorted(set(description["cases"]["split"].values()) - splits - {"hidden"}):
        yield "warning", f"an official {split} split is declared, no case is of it"


def _mapped(description: Row) -> set[int]:
    """Values of label maps that mean a concept."""
    layers = [Layer.model_validate(layer) for layer in description["layers"]]
    return {
        value
        for layer in layers
        if layer.kind == "label_map"
        for value, concept in layer.table().items()
        if concept not in {BACKGROUND, IGNORE}
    }


def _intensities_differ(description: Row, before: Row, read: int) -> Iterator[tuple[str, str]]:
    values = before["intensity"]
    if not values:
        return
    low, high = values["p0"]["min"][0], values["p100"]["max"][0]
    modality, below = description["modality"], values["below_zero"]
    if modality == "CT" and not below:
        seen = f"no value below 0 in {read} cases (values {low:g} to {high:g})"
        yield "warning", f"declared CT, but {seen}: not in Hounsfield units as stored"
    if modality in UNSIGNED and below:
        seen = f"{below} of {read} cases hold values below 0 (from {low:g})"
        yield "warning", f"declared {modality}, {seen}: perhaps normalised before"


def _shown(found: Row) -> set[str]:
    """Concepts that at least one case shows."""
    shown = {concept for concept, row in found["labels"].items() if row["present"]}
    return shown | {concept for concept, number in found["classes"].items() if number}


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{size:.3g}" for size in spacing) + " mm"


def compatibility(sources: Sequence[Row], found: Sequence[Row], gates: Sequence[Row]) -> Row:
    """Fit of the sources by what was measured: S and C with their parts, and every pair.

    `parts` holds the pair that decides S. One source fits itself: S and C are None.
    """
    measured = [_measured(source, row) for source, row in zip(sources, found, strict=True)]
    stated = [{**source["catalog"], "slug": source["id"]} for source in sources
              if source.get("catalog")]  # fmt: skip
    pairs = _pairs(measured)
    before = _pairs(stated) if len(stated) == len(sources) else []
    lowest = min(
        pairs, key=lambda pair: (2 if pair["S"] is None else pair["S"], pair["C"]), default=None
    )
    return {
        **_overall(pairs),
        "parts": {part["name"]: part for part in lowest["parts"]} if lowest else {},
        "pairs": pairs,
        "catalog": _overall(before),
        "gates": [dict(gate) for gate in gates],
    }


def _pairs(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [one.as_dict() for one in scores(rows)]


def _overall(pairs: Sequence[Row]) -> dict[str, Any]:
    values = [pair["S"] for pair in pairs]
    whole = min(values) if values and None not in values else None
    known = min((pair["C"] for pair in pairs), default=None)
    return {"S": whole, "C": known, "band": band(whole, known) if known is not None else None}


def _measured(source: Row, found: Row) -> dict[str, Any]:
    """Facts for the score: the catalog's where files cannot tell, else what was measured."""
    description, catalog = source["description"], source.get("catalog") or {}
    family = vocab.resolve("modality", description["family"])
    spacing = found["before"]["spacing_mm"]
    prevalence = {c: row["present"] / row["annotated"] for c, row in found["labels"].items()}
    prevalence |= {c: n / max(found["read"], 1) for c, n in found["classes"].items()}
    return {
        "slug": source["id"],
        "modalities": [family.name if family else description["family"]],
        "modality_details": catalog.get("modality_details") or [],
        "anatomies": sorted({*(catalog.get("anatomies") or ()), *_anatomies(_shown(found))}),
        "dimensions": list(found["dimension"]),
        "classes": sorted(_shown(found)),
        "spacing": {"median_mm": spacing["median"]} if spacing else None,
        "annotation": description["annotation"],
        "prevalence": prevalence,
    }


def _anatomies(shown: Iterable[str]) -> list[str]:
    """Regions that the concepts are or lie in."""
    wide = {up for concept in shown for up in (concept, *concepts.ancestors(concept))}
    terms = (vocab.resolve("anatomy", concepts.concept(one).label) for one in wide)
    return sorted({term.name for term in terms if term})
