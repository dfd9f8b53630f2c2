"""Write the report of a build: report.html, fingerprint.json, and what report.json adds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fusion.bundle.text import write_json, write_text
from fusion.fingerprint import compatibility, differences, fingerprint
from fusion.imaging.io import read_image
from fusion.imaging.volume import Volume
from fusion.report import measure
from fusion.report.page import render
from fusion.report.pictures import Drawing, draw, joined

FOLDER, REPORT_FILE, FINGERPRINT_FILE = "report", "report.html", "fingerprint.json"
COVER_FILE = "cases.png"
Row = Mapping[str, Any]
#: Cases drawn per source, and in all sources together.
MOST_CASES, MOST_IN_ALL = 12, 60
#: Bytes of all pictures; beyond it, cases are told in words.
PICTURE_BYTES = 1_900_000
COVER_SOURCES, COVER_CASES = 4, 3


@dataclass
class Gallery:
    """Draws cases, each once, within the limit of bytes."""

    cases: Path
    withheld: Mapping[str, str]  # source -> why its pictures are not shown
    drawn: dict[str, Drawing | str] = field(default_factory=dict)
    spent: int = 0
    values: Mapping[str, int] = field(default_factory=dict)  # concept -> value it is drawn as

    def of(self, case: Row) -> Drawing | str:
        """The case's picture, or why there is none."""
        name = str(case["id"])
        if name not in self.drawn:
            self.drawn[name] = self._draw(case)
        return self.drawn[name]

    def _draw(self, case: Row) -> Drawing | str:
        if why := self.withheld.get(str(case["source"])):
            return why
        if self.spent > PICTURE_BYTES:
            return "not drawn: the report would grow too large"
        files = {row["role"]: self.cases / str(case["id"]) / row["path"] for row in case["files"]}
        label = read_image(files["label"]) if "label" in files else None
        is_solid_only = len(case["shape"]) == 3 and not case["spacing_mm"]  # noqa: PLR2004
        image = read_image(files["image"], form="none" if is_solid_only else None)
        if isinstance(image, Volume):
            image = replace(image, unit=case["unit"])  # NIfTI cannot say it
        boxes = None
        if "boxes" in case:
            boxes = [(self.values[box["concept"]], tuple(box["corners"])) for box in case["boxes"]]
        found = draw(image, label, boxes)
        self.spent += len(found.png)
        return found


def write_report(
    plan: Row,
    final: Path,
    everything: Sequence[Row],
    exclusions: Sequence[Row],
    findings: Sequence[Row],
    out: Path,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, Any]:
    """Write `out`/report.html, fingerprint.json and, with pictures to show, cases.png.

    Args:
        plan: the plan as plain data.
        final: `cases/<id>/case.json` of the cases in the bundle, and the files they name.
        everything: case rows of every case that was read, later excluded ones among them.
        exclusions: rows {source, name, stage, code, detail}.
        findings: rows {code, severity, detail} of the stages before.
        advance: told how many cases have been drawn, of how many.

    Returns:
        What report.json adds: {findings, overview, compatibility, label_shifts, outliers,
        roundtrips, volumes, classes, sample}; its findings are those of this stage alone.
    """
    sources, concepts = plan["sources"], [str(c["id"]) for c in plan["concepts"]]
    used = _used(final)
    by_source = {s["id"]: [c for c in used if c["source"] == s["id"]] for s in sources}
    prints, own = [], []
    for source in sources:
        cases = [case for case in everything if case["source"] == source["id"]]
        lost = sum(row["source"] == source["id"] for row in exclusions
                   if row["stage"] in {"ingest", "harmonise"})  # fmt: skip
        shown = fingerprint(source, cases, len(cases) + lost)
        prints.append(shown)
        own += differences(source, shown, cases)
    fit = compatibility(sources, prints, plan["gates"])
    shifts = measure.label_shifts(by_source, concepts)
    far = measure.outliers(by_source)
    own += [_shift_finding(row) for row in shifts if row["shifted"]]
    own += [_outlier_finding(row) for row in far]
    values = {concept: value for value, concept in enumerate(concepts, 1)}
    gallery = Gallery(final / "cases", withheld(plan), values=values)
    sheets = _sheets(gallery, by_source, advance)
    of_case = {str(case["id"]): case for case in used}
    pictures = [(row, gallery.of(of_case[row["id"]])) for row in far]
    data: dict[str, Any] = {
        "findings": own,
        "overview": overview(prints, fit),
        "compatibility": fit,
        "label_shifts": shifts,
        "outliers": far,
        "roundtrips": measure.roundtrips(by_source, concepts),
        "volumes": measure.volume_table(by_source, concepts),
        "classes": {row["id"]: row["classes"] for row in prints if row["classes"]},
        "sample": {
            source: [str(case["id"]) for case, _ in rows] for source, rows in sheets.items()
        },
    }
    if ignored := measure.ignored_table(by_source):
        data["ignored"] = ignored
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / FINGERPRINT_FILE, {"schema": "imaging-x/fingerprint/1", "sources": prints})
    every = [*findings, *own]
    html = render(plan, by_source, prints, data, exclusions, every, sheets, pictures)
    write_text(out / REPORT_FILE, html)
    if cover := _cover(sheets):
        (out / COVER_FILE).write_bytes(cover)
    return data


def overview(prints: Sequence[Row], fit: Row) -> dict[str, Any]:
    """The little of it that a page about a run or a bundle shows."""

    def middle(row: Row, key: str) -> list[float] | None:
        found: list[float] | None = (row[key] or {}).get("median")
        return found

    return {
        "fit": {key: fit[key] for key in ("S", "C", "band", "catalog")}
        | {"parts": list(fit["parts"].values())}
        if fit["pairs"]
        else None,
        "sources": [
            {key: row[key] for key in ("id", "cases", "read", "subjects")}
            | {key: row["before"][key] for key in ("dtype", "unit", "orientation", "channels")}
            | {
                f"{key}_{state}": middle(row[state], key)
                for key in ("spacing_mm", "size")
                for state in ("before", "after")
            }
            for row in prints
        ],
    }


def withheld(plan: Row) -> dict[str, str]:
    """Sources whose harmonised images or labels are not in the bundle: their pictures are not."""
    return {
        source["id"]: "not drawn: the licence does not allow its pictures to be passed on"
        for source in plan["sources"]
        if any(form != "harmonised" for form in source["ships"].values())
    }


def _used(final: Path) -> list[dict[str, Any]]:
    paths = sorted((final / "cases").glob("*/case.json"))
    return [json.loads(path.read_text("utf-8")) for path in paths]


def _sheets(
    gallery: Gallery, by_source: Mapping[str, Sequence[Row]], advance: Callable[[int, int], None]
) -> dict[str, list[tuple[Row, Drawing | str]]]:
    number = max(1, min(MOST_CASES, MOST_IN_ALL // max(len(by_source), 1)))
    sample = {source: measure.chosen(cases, number) for source, cases in by_source.items()}
    total = sum(len(cases) for cases in sample.values())
    sheets: dict[str, list[tuple[Row, Drawing | str]]] = {source: [] for source in sample}
    for done, case in enumerate((case for cases in sample.values() for case in cases), 1):
        sheets[case["source"]].append((case, gallery.of(case)))
        advance(done, total)
    return sheets


def _cover(sheets: Mapping[str, Sequence[tuple[Row, Drawing | str]]]) -> bytes | None:
    """The first cases of the first sources in one picture, a row per source."""
    shown = [
        [one.png for _, one in rows if isinstance(one, Drawing)][:COVER_CASES]
        for rows in list(sheets.values())
    ]
    return joined([row for row in shown if row][:COVER_SOURCES])


def _shift_finding(row: Row) -> dict[str, str]:
    medians = " and ".join(f"{m:.4g}" for m in row["medians"])
    counts = " and ".join(str(n) for n in row["n"])
    detail = (
        f"{row['concept']}: {row['a']} and {row['b']}: KS {row['ks']:.2f} (p {row['p']:.2g}), "
        f"medians {medians}, cases {counts}"
    )
    return {"code": "label_volume_shift", "severity": "warning", "detail": detail}


def _outlier_finding(row: Row) -> dict[str, str]:
    why = "; ".join(row["why"])
    detail = f"{row['source']}/{row['name']}: {why} (robust z {row['z']:g})"
    return {"code": row["code"], "severity": "info", "source": row["source"], "detail": detail}
