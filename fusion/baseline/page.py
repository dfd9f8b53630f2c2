"""The baseline as one HTML page: what each table says, in words; the template lays it out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from django.template import Context, Engine
from django.utils.safestring import mark_safe

from catalog.describe import plural
from fusion.baseline.cases import FUSED, SINGLE, WITHOUT
from fusion.report import charts
from fusion.report.pictures import Drawing, colour_of, compare, hex_of

Row = Mapping[str, Any]
PICTURES = "pictures"
METRICS = {
    "dice": "Dice",
    "nsd": "Surface Dice (NSD)",
    "lesion_f1": "Lesion F1",
    "auroc": "AUROC",
    "ap": "Average precision",
    "balanced_accuracy": "Balanced accuracy",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
    "box_ap": "Average precision of boxes",
}
LOWER_IS_BETTER = frozenset({"brier", "ece"})
MOST_ROWS = 20


def arm_name(arm: str) -> str:
    """An arm in words."""
    if arm.startswith(SINGLE):
        return f"{arm.removeprefix(SINGLE)} alone"
    if arm.startswith(WITHOUT):
        return f"all but {arm.removeprefix(WITHOUT)}"
    return "all together" if arm == FUSED else arm


def heat_tables(data: Row) -> list[dict[str, Any]]:
    """A table per metric and concept, the primary one over all concepts first."""
    names = {None: "mean over the concepts", **data["concepts"]}
    found: dict[tuple[str, str | None], list[Row]] = {}
    for row in data["matrix"]:
        found.setdefault((row["metric"], row["concept"]), []).append(row)
    if len(data["concepts"]) == 1:  # the mean is that of the one concept
        found = {key: rows for key, rows in found.items() if key[1] is None}
        names[None] = next(iter(data["concepts"].values()))
    tables = [
        {
            "metric": METRICS[metric],
            "lower": metric in LOWER_IS_BETTER,
            "concept": names[concept],
            "first": metric == data["metric"] and concept is None,
            "sources": data["sources"],
            "rows": _heat_rows(rows, data["sources"]),
            "silver": any(row["silver"] for row in rows),
        }
        for (metric, concept), rows in found.items()
    ]
    return sorted(tables, key=lambda table: not table["first"])


def _heat_rows(rows: Sequence[Row], sources: Sequence[str]) -> list[dict[str, Any]]:
    by_arm: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_arm.setdefault(row["arm"], {})[row["source"]] = row
    return [
        {
            "arm": arm,
            "name": arm_name(arm),
            "cells": [_heat_cell(cells[source], arm, source) for source in sources],
        }
        for arm, cells in by_arm.items()
    ]


def _heat_cell(row: Row, arm: str, source: str) -> dict[str, Any]:
    value, cases, groups = row["value"], row["n_cases"], row["n_groups"]
    return {
        "value": "" if value is None else f"{value:.3f}",
        "heat": 0 if value is None else round(min(max(value, 0), 1), 3),
        "shade": 0 if value is None else round(10 * min(max(value, 0), 1)),
        "ci": interval_words(row["ci"]),
        "n": f"{cases} {plural('case', cases)}, {groups} {plural('group', groups)}"
        + (f", {row['n_empty_excluded']} empty left out" if row["n_empty_excluded"] else ""),
        "reason": row["reason"],
        "own": arm == SINGLE + source,
    }


def interval_words(ci: object) -> str:
    """A 95 % interval for people."""
    if isinstance(ci, list | tuple):
        return f"{ci[0]:.3f} to {ci[1]:.3f}"
    return f"interval {ci}" if ci else ""


def gain_rows(data: Row) -> list[dict[str, Any]]:
    """G and U of each source and the mean of U, in words and as numbers."""
    found = data["gains"]
    if not found or len(data["sources"]) == 1:
        return []
    own, unseen = found["G"], found["U"]
    rows = [(f"G {s}", f"fused against {s} alone, on {s}", own[s]) for s in data["sources"]]
    rows += [
        (f"U {s}", f"all but {s} against the best other source alone, on {s}", unseen[s])
        for s in data["sources"]
    ]
    rows.append(("mean U", "over the sources", found["mean"]))
    return [
        {
            "name": name,
            "about": about,
            "value": "" if row["value"] is None else f"{row['value']:+.3f}",
            "ci": interval_words(row["ci"]),
            "reason": row["reason"],
            "row": row,
        }
        for name, about, row in rows
    ]


def render(data: Row, work: Path, withheld: Mapping[str, str]) -> str:
    """The page. Every text in it is escaped; nothing in it is fetched.

    Args:
        data: baseline.json.
        work: folder with pictures/<case>.npz of image, reference and prediction.
        withheld: source -> why its pictures may not be shown.
    """
    gained = gain_rows(data)
    quality = data["label_quality"] or {}
    context = {
        "data": data,
        "verdict": data["verdict"] or "no verdict",
        "gains": gained,
        "forest": _forest(gained, data),
        "tables": heat_tables(data),
        "delta": (data["gains"] or {}).get("delta"),
        "metric": METRICS[data["metric"]],
        "shift": _shift(data["shift"], data["concepts"]),
        "calibration": _calibration(data["calibration"]),
        "shifts": [
            {**_named(row, data["concepts"]), "ks": _number(row["ks"])}
            for row in quality.get("volume_shifts", [])
            if row["shifted"]
        ],
        "shifts_of": len(quality.get("volume_shifts", [])),
        "duplicates": quality.get("duplicates"),
        "doubtful": [_named(row, data["concepts"]) for row in quality.get("doubtful", [])],
        "outliers": quality.get("outliers", [])[:MOST_ROWS],
        "worst": [_worst(row, work, withheld) for row in data["worst"]],
        "legend": [
            (hex_of(colour_of(n)), label) for n, label in enumerate(data["concepts"].values(), 1)
        ],
        "arms": [{**arm, "name": arm_name(arm["arm"])} for arm in data["arms"]],
        "has_folds": any(arm["fold"] for arm in data["arms"]),
    }
    return _engine().get_template("baseline.html").render(Context(context, use_l10n=False))


@cache
def _engine() -> Engine:
    here = Path(__file__).resolve().parent
    return Engine(dirs=[str(here), str(here.parent / "report")], autoescape=True)


def _forest(gained: Sequence[Row], data: Row) -> str:
    rows = [
        (one["name"], one["row"]["value"], one["row"]["ci"] if "to" in one["ci"] else None)
        for one in gained
        if one["row"]["value"] is not None
    ]
    if not rows:
        return ""
    title = f"Gain in {METRICS[data['metric']]} by fusing, with 95 % intervals"
    return mark_safe(charts.forest(rows, data["gains"]["delta"], title))  # noqa: S308


def _named(row: Row, names: Mapping[str, str]) -> dict[str, Any]:
    """The row with its concept as people call it."""
    return {**row, "concept": names.get(row["concept"], row["concept"])}


def _shift(shift: Row | None, names: Mapping[str, str]) -> dict[str, Any] | None:
    if not shift:
        return None
    return {
        "rows": [
            {
                "state": words,
                "value": _number(shift[key]["value"]),
                "accuracy": _number(shift[key]["balanced_accuracy"]),
                "p": "" if shift[key]["p"] is None else f"{shift[key]['p']:.3f}",
                "reason": shift[key]["reason"],
            }
            for key, words in (("before", "original"), ("after", "harmonised"))
        ],
        "matched": shift["matched"],
        "cases": ", ".join(f"{source} {n}" for source, n in shift["n_cases"].items()),
        "v": [
            (names.get(one, one), _number(value) or "not defined: all cases alike")
            for one, value in shift["cramers_v"].items()
        ],
        "risk": shift["shortcut_risk"],
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _calibration(rows: Sequence[Row]) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        name = row["source"] or "all sources"
        line = [(one["said"], one["seen"]) for one in row["bins"]]
        svg = mark_safe(charts.reliability(line, f"Reliability, {name}"))  # noqa: S308
        found.append({**row, "name": name, "svg": svg})
    return found


def _worst(row: Row, work: Path, withheld: Mapping[str, str]) -> dict[str, Any]:
    return {**row, "picture": _picture(row, work, withheld)}


def _picture(row: Row, work: Path, withheld: Mapping[str, str]) -> dict[str, Any]:
    if why := withheld.get(row["source"]):
        return {"reason": why}
    path = work / PICTURES / f"{row['case']}.npz"
    if not path.is_file():
        return {"reason": "no picture was kept"}
    with np.load(path, allow_pickle=False) as kept:
        found = compare(kept["image"], *(_array(kept, k) for k in ("reference", "prediction")))
    return {
        "src": _data_url(found),
        "width": found.width,
        "height": found.height,
        "alt": f"{row['source']}, case {row['name']}: {', '.join(found.planes)}; {row['says']}",
        "planes": ", ".join(found.planes),
    }


def _array(kept: Mapping[str, Any], name: str) -> Any:
    return kept.get(name)


def _data_url(found: Drawing) -> str:
    return mark_safe("data:image/png;base64," + base64.b64encode(found.png).decode())  # noqa: S308
