"""The report as one HTML page: what each table says, in words; the template lays it out."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from django.template import Context, Engine
from django.utils.safestring import mark_safe

from catalog.describe import number
from fusion.codes import MEANINGS
from fusion.fingerprint import shares
from fusion.report import charts, measure
from fusion.report.pictures import Drawing, colour_of, hex_of

Row = Mapping[str, Any]
Sheets = Mapping[str, Sequence[tuple[Row, Drawing | str]]]
ROWS_SHOWN, CHARTS_SHOWN, CONCEPTS_NAMED = 40, 16, 3
SPLITS = ("train", "val", "test")
DIFFERS = frozenset({"catalog_differs", "fingerprint_differs"})
NARROW = 200  # pixels of a picture without outlines beside it
FEW = 8  # rows that need not be folded away
LITRE = 1000  # mm3 in a millilitre


def render(
    plan: Row,
    by_source: Mapping[str, Sequence[Row]],
    prints: Sequence[Row],
    data: Row,
    exclusions: Sequence[Row],
    findings: Sequence[Row],
    sheets: Sheets,
    outliers: Sequence[tuple[Row, Drawing | str]],
) -> str:
    """The page. Every text in it is escaped; nothing in it is fetched."""
    names = {str(c["id"]): str(c["label"]) for c in plan["concepts"]}
    descriptions = {s["id"]: s["description"] for s in plan["sources"]}
    drawn = [*names.values(), *(["not annotated"] if data.get("ignored") else [])]
    used = sum(len(cases) for cases in by_source.values())
    context = {
        "title": plan["title"],
        "about": plan["about"],
        "bundle_id": plan["bundle_id"],
        "private": plan["build"] == "private",
        "figures": [
            (f"{used:,}", "cases used"),
            (f"{len(by_source)}", "sources"),
            (f"{len(names)}", "concepts"),
            (f"{len(exclusions):,}", "left out"),
            (f"{len(findings):,}", "findings"),
        ],
        "sources": [
            {
                "id": row["id"],
                "name": descriptions[row["id"]]["name"],
                "found": f"{row['cases']:,}",
                "used": f"{len(by_source[row['id']]):,}",
                "subjects": "unknown" if row["subjects"] is None else f"{row['subjects']:,}",
                "declared": f"{row['declared']['family']}, {row['declared']['dimension']}",
                "files": _counted(row["before"]["dtype"]),
                "channels": _counted(row["after"]["channels"]),
                "header": _counted(row["before"]["geometry"]),
            }
            for row in prints
        ],
        "fit": _fit(data["compatibility"]),
        "legend": [(hex_of(colour_of(n)), label) for n, label in enumerate(drawn, 1)],
        "sheets": [_sheet(source, rows, by_source, names) for source, rows in sheets.items()],
        "is_3d": plan["dimension"] == "3D",
        "geometry": [row for one in prints for row in _geometry(one)],
        "histograms": [
            {"source": source, "svg": svg}
            for source, cases in by_source.items()
            if (svg := _histogram(source, cases))
        ],
        "normalised": _overlaid(by_source),
        "intensity": [row for one in prints for row in _intensity(one)],
        **_labels(by_source, data, names, plan["dimension"] == "3D"),
        **_classes(prints, names),
        **_splits(by_source),
        "roundtrips": [
            {
                "concept": names[row["concept"]],
                "source": row["source"],
                "n": row["n"],
                "dice": [f"{row['dice'][key]:.3f}" for key in ("min", "median", "max")],
                "low": row["flagged"],
            }
            for row in data["roundtrips"]
        ],
        "outliers": [
            {
                "source": row["source"],
                "name": row["name"],
                "z": f"{row['z']:g}",
                "why": row["why"],
                "picture": _picture(found, f"{row['source']}, case {row['name']}"),
            }
            for row, found in outliers
        ],
        "differences": [row for row in findings if row["code"] in DIFFERS],
        "findings": _grouped([row for row in findings if row["code"] not in DIFFERS]),
        "exclusions": _grouped(exclusions),
        "limits": plan["known_limits"],
        "rules": {
            "cases": max((len(rows) for rows in sheets.values()), default=0),
            "far": measure.FAR,
            "shift": measure.SHIFT,
            "enough": measure.ENOUGH,
            "chance": measure.CHANCE,
            "outliers": measure.MOST_OUTLIERS,
        },
    }
    return _engine().get_template("page.html").render(Context(context, use_l10n=False))


@cache
def _engine() -> Engine:
    return Engine(dirs=[str(Path(__file__).resolve().parent)], autoescape=True)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{word} ({number:,})" for word, number in counts.items()) or "none"


def _fit(fit: Row) -> dict[str, Any] | None:
    """S and C of the catalog and of the files, and the parts of the pair that decides."""
    if not fit["pairs"]:
        return None

    def both(row: Row) -> dict[str, str]:
        value = "unknown" if row["S"] is None else f"{row['S']:.2f}"
        known = "unknown" if row["C"] is None else f"{row['C']:.2f}"
        return {"S": value, "C": known, "band": row["band"] or "not enough metadata"}

    return {
        "files": both(fit),
        "catalog": both(fit["catalog"]),
        "parts": [
            {
                "name": part["name"],
                "weight": f"{part['weight']:.2f}",
                "value": "unknown" if part["value"] is None else f"{part['value']:.2f}",
                "why": part["why"],
            }
            for part in fit["parts"].values()
        ],
        "pairs": [{"a": pair["a"], "b": pair["b"], **both(pair)} for pair in fit["pairs"]],
    }


def _sheet(
    source: str,
    rows: Sequence[tuple[Row, Drawing | str]],
    by_source: Mapping[str, Sequence[Row]],
    names: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "source": source,
        "shown": len(rows),
        "narrow": all(one.width <= NARROW for _, one in rows if isinstance(one, Drawing)),
        "of": f"{len(by_source[source]):,}",
        "cases": [
            {
                "name": case["name"],
                "split": _split_of(case),
                "says": _says(case, names),
                "picture": _picture(found, f"{source}, case {case['name']}", _says(case, names)),
                "images": sum(file["role"].startswith("image") for file in case["files"]),
            }
            for case, found in rows
        ],
    }


def _picture(found: Drawing | str, of: str, says: str = "") -> dict[str, Any]:
    if isinstance(found, str):
        return {"reason": found}
    planes = ", ".join(found.planes)
    if found.planes == ("picture", "contours"):
        planes = "image, and the image with the outlines of its labels"
    elif len(found.planes) > 1:
        planes += " slice with the outlines of the labels; patient left is on the right"
    return {
        "src": mark_safe("data:image/png;base64," + base64.b64encode(found.png).decode()),  # noqa: S308
        "width": found.width,
        "height": found.height,
        "alt": f"{of}: {planes}" + (f"; {says}" if says else ""),
        "window": found.window,
    }


def _split_of(case: Row) -> str:
    split = case["split"]
    if isinstance(split, str):
        return split
    return ", ".join(f"{fold}: {name}" for fold, name in split.items())


def _says(case: Row, names: Mapping[str, str]) -> str:
    """What the case shows, largest first."""
    if case.get("classes"):
        found = [names[c] for c, value in case["classes"].items() if value == 1 and c in names]
        return ", ".join(found) or "none of the classes"
    found_sizes = {c: size for c, size in shares(case).items() if size > 0}
    if not case["present"]:
        return ""
    ranked = sorted(found_sizes.items(), key=lambda row: (-row[1], row[0]))
    words = [f"{names[c]} {_size(size, case)}" for c, size in ranked[:CONCEPTS_NAMED]]
    if more := len(ranked) - CONCEPTS_NAMED:
        words += [f"{more} more"] if more > 0 else []
    return ", ".join(words) or "no label"


def _size(size: float, case: Row) -> str:
    return _volume(size) if case["spacing_mm"] else f"{size:.1%}"


def _volume(mm3: float) -> str:
    return f"{number(mm3 / LITRE)} ml" if mm3 >= LITRE else f"{number(mm3)} mm³"


def _geometry(row: Row) -> list[dict[str, Any]]:
    return [
        {
            "source": row["id"],
            "state": words,
            "spacing": _ends(row[key]["spacing_mm"]),
            "size": _ends(row[key]["size"]),
            "orientation": _counted(row[key]["orientation"]),
            "unit": _counted(row[key]["unit"]),
        }
        for key, words in (("before", "original"), ("after", "harmonised"))
    ]


def _ends(spread: Row | None) -> list[dict[str, Any]]:
    """Cells for the smallest, median and largest; one for all three where they agree."""
    if not spread:
        return [{"text": "none", "span": 3}]
    names = ("min", "median", "max")
    cells = [" \u00d7 ".join(f"{value:.4g}" for value in spread[name]) for name in names]
    if len(set(cells)) == 1:
        return [{"text": f"{cells[0]} in all", "span": 3}]
    return [{"text": cell, "span": 1} for cell in cells]


def _intensity(row: Row) -> list[dict[str, Any]]:
    found = []
    for key, words in (("before", "original"), ("after", "harmonised")):
        if values := row[key]["intensity"]:
            keys = ("p0", "p0.5", "p50", "p99.5", "p100")
            cells = [_middle(values[name]) for name in keys]
            found.append({"source": row["id"], "state": words, "cells": cells})
    return found


def _middle(spread: Row) -> str:
    low, middle, high = (spread[name][0] for name in ("min", "median", "max"))
    if low == high:
        return number(middle)
    return f"{number(middle)} ({number(low)} to {number(high)})"


def _histogram(source: str, cases: Sequence[Row]) -> str:
    before = [c["original"]["intensity"] for c in cases if c.get("original")]
    after = [c["intensity"] for c in cases if c.get("intensity")]
    if not before or not after:
        return ""
    edges, logarithmic = measure.axis_of([*before, *after])
    title = f"Intensities of {source}: originals as an area, harmonised as a line"
    shares_of = [measure.mixed(rows, edges) for rows in (before, after)]
    svg = charts.histogram(shares_of[0], shares_of[1], edges, logarithmic, title)
    return mark_safe(svg)  # noqa: S308 - charts escape what they are given


def _overlaid(by_source: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """All sources on one axis: as they are stored, and as a trainer should scale them."""
    stored = {s: [c["intensity"] for c in cases if c.get("intensity")]
              for s, cases in by_source.items()}  # fmt: skip
    scaled = {s: [n for c in cases if (n := measure.normalised(c))]
              for s, cases in by_source.items()}  # fmt: skip
    if not all(scaled.values()):
        return []
    found = []
    for words, rows in (("as stored", stored), ("after the normalisation", scaled)):
        edges, logarithmic = measure.axis_of([one for levels in rows.values() for one in levels])
        lines = [measure.mixed(levels, edges) for levels in rows.values()]
        title = f"Intensities of all sources on one axis, {words}"
        svg = charts.overlaid(lines, edges, logarithmic, title)
        found.append({"words": words, "svg": mark_safe(svg)})  # noqa: S308
    return found


def _labels(
    by_source: Mapping[str, Sequence[Row]], data: Row, names: Mapping[str, str], placed: bool
) -> dict[str, Any]:
    farthest: dict[str, float] = dict.fromkeys(names, 0.0)
    for row in data["label_shifts"]:
        farthest[row["concept"]] = max(farthest[row["concept"]], row["ks"])
    order = sorted(names, key=lambda concept: (-farthest[concept], concept))
    found = []
    for concept in order[:CHARTS_SHOWN]:
        values = {source: measure.sizes(cases, concept) for source, cases in by_source.items()}
        if not any(values.values()):
            continue
        scale, unit = (1 / LITRE, "ml") if placed else (100.0, "% of the image")
        scaled = {source: [v * scale for v in row] for source, row in values.items()}
        title = f"Size of {names[concept]} per source, {unit}, logarithmic axis"
        svg = mark_safe(charts.strips(scaled, unit, title))  # noqa: S308
        found.append({"concept": names[concept], "svg": svg})
    return {
        "strips": found,
        "more_strips": max(0, len(order) - CHARTS_SHOWN),
        "shifts": [
            {
                "concept": names[row["concept"]],
                "pair": f"{row['a']} and {row['b']}",
                "n": f"{row['n'][0]} and {row['n'][1]}",
                "medians": " and ".join(
                    _volume(m) if placed else f"{m:.2%}" for m in row["medians"]
                ),
                "ks": f"{row['ks']:.2f}",
                "p": f"{row['p']:.2g}",
                "shifted": row["shifted"],
            }
            for row in data["label_shifts"]
        ],
        "volumes": [
            {
                "concept": names[row["concept"]],
                "source": row["source"],
                "shown": f"{row['shown']:,} of {row['looked']:,}",
                "unit": "mm³" if row["unit"] == "mm3" else "pixels",
                "size": [number(v) for v in row["size"] or []],
            }
            for row in data["volumes"]
        ],
        "ignored": [
            {
                "source": row["source"],
                "some": f"{row['some']:,} of {row['cases']:,}",
                "shares": [f"{row['share'][place]:.2%}" for place in (0, 2, 4)],
            }
            for row in data.get("ignored", ())
        ],
    }


def _classes(prints: Sequence[Row], names: Mapping[str, str]) -> dict[str, Any]:
    given = [row for row in prints if row["classes"]]
    return {
        "class_names": list(names.values()) if given else [],
        "class_rows": [
            {
                "source": row["id"],
                "cells": [
                    {"n": f"{n:,}", "share": f"{n / max(row['read'], 1):.0%}"}
                    if (n := row["classes"].get(concept)) is not None
                    else {"n": "not looked for", "share": ""}
                    for concept in names
                ],
            }
            for row in given
        ],
    }


def _splits(by_source: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    counts: dict[str, Counter[tuple[str, str]]] = {source: Counter() for source in by_source}
    groups: dict[tuple[str, str], set[str]] = {}
    for source, cases in by_source.items():
        for case in cases:
            split = case["split"]
            for fold, name in ({"": split} if isinstance(split, str) else split).items():
                counts[source][fold, name] += 1
                groups.setdefault((fold, name), set()).add(case["group"])
    keys = sorted(
        {key for found in counts.values() for key in found},
        key=lambda key: (key[0], SPLITS.index(key[1])),
    )
    return {
        "split_names": [" ".join(part for part in key if part) for key in keys],
        "split_rows": [
            {"source": source, "cells": [f"{found[key]:,}" for key in keys]}
            for source, found in counts.items()
        ],
        "split_groups": [f"{len(groups[key]):,}" for key in keys],
    }


def _grouped(rows: Sequence[Row]) -> list[dict[str, Any]]:
    by_code: dict[str, list[Row]] = {}
    for row in rows:
        by_code.setdefault(str(row["code"]), []).append(row)
    return [
        {
            "code": code,
            "meaning": MEANINGS.get(code, ""),
            "cases": f"{len(found):,}",
            "rows": [
                {
                    "who": " / ".join(
                        str(r[k]) for k in ("source", "name") if k in r and "name" in r
                    ),
                    "detail": r["detail"],
                }
                for r in found[:ROWS_SHOWN]
            ],
            "more": max(0, len(found) - ROWS_SHOWN),
            "open": len(found) <= FEW,
        }
        for code, found in sorted(by_code.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
