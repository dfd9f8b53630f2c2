"""README.md: what a person must know before using the bundle; limits come first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fusion.bundle.content import Content, Row, known_limits, licence_of, source_name, split_names
from fusion.bundle.croissant import description

PRIVATE = (
    "> **Private build.** It may hold files that must not be passed on. Keep it to yourself and "
    "share `recipe/` instead: who has the sources can rebuild it."
)


def datasheet(content: Content, views: Row) -> str:
    """The datasheet in Markdown."""
    parts = [f"# {content.title}", description(content)]
    if content.is_private:
        parts.append(PRIVATE)
    parts += ["## Known limits", _bullets(known_limits(content) or ["None stated."])]
    parts += ["## Sources", _sources(content)]
    parts += ["## Left out", _exclusions(content)]
    parts += ["## Findings", _findings(content)]
    parts += ["## Concepts", _concepts(content)]
    parts += ["## Splits", _splits(content)]
    parts += ["## Files", _files(content, views)]
    return "\n\n".join(parts) + "\n"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---" for _ in head], *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _sources(content: Content) -> str:
    rows: list[list[object]] = []
    for source in content.sources:
        used = len(content.of_source(str(source["id"])))
        out = len(content.excluded_of(str(source["id"])))
        licence = [licence_of(source, part) for part in ("images", "labels")]
        rows.append([source["id"], source_name(source), *licence, used, out])
    head = ["id", "name", "licence of images", "licence of labels", "cases used", "left out"]
    return _table(head, rows)


def _exclusions(content: Content) -> str:
    counts = Counter((str(r.get("source")), str(r.get("code"))) for r in content.exclusions)
    if not counts:
        return "Nothing was left out."
    rows: list[list[object]] = [[source, code, n] for (source, code), n in sorted(counts.items())]
    return _table(["source", "code", "cases"], rows) + "\n\nEach case is listed in report.json."


def _findings(content: Content) -> str:
    counts = Counter(str(row.get("code")) for row in content.findings)
    if not counts:
        return "None."
    return _bullets(f"{code}: {n}" for code, n in sorted(counts.items()))


def _concepts(content: Content) -> str:
    rows: list[list[object]] = []
    for value, concept in enumerate(content.plan["concepts"], start=1):
        name = str(concept["id"])
        looked = sum(name in case["annotated"] for case in content.cases)
        found = sum((case.get("present") or {}).get(name, 0) > 0 for case in content.cases)
        positive = sum((case.get("classes") or {}).get(name) == 1 for case in content.cases)
        rows.append([value, name, concept.get("label", ""), looked, found or positive])
    head = ["value", "concept", "name", "cases annotated for it", "cases that show it"]
    note = "A concept outside a case's `annotated` list is unknown there, not absent."
    return _table(head, rows) + "\n\n" + note


def _splits(content: Content) -> str:
    cells: Counter[tuple[str, str, str]] = Counter()
    for case in content.cases:
        for fold, split in split_names(case).items():
            cells[fold, str(case["source"]), split] += 1
    keys = sorted({(fold, source) for fold, source, _ in cells})
    rows: list[list[object]] = [
        [fold, source, *(cells[fold, source, split] for split in ("train", "val", "test"))]
        for fold, source in keys
    ]
    return _table(["protocol", "source", "train", "val", "test"], rows)


def _files(content: Content, views: Row) -> str:
    lines = [
        "`manifest.json`: everything above as data, and for each file its SHA-256 and its offset",
        "`shards/`: tar files in WebDataset order (image, label, record)",
        "`SHA256SUMS`: check with `sha256sum -c SHA256SUMS`",
        f"`data-meta.jsonl`, `annotations-{content.task}.jsonl`, `croissant.json`: descriptions",
        "`recipe/`: what to fetch and how to build this again",
        "`LICENSES/`, `CITATION.cff`, `references.bib`: what you owe the sources",
        "`build_info.json`: times and versions; the one file outside SHA256SUMS",
    ]
    view = views.get("nnunet") or {}
    if folder := view.get("folder"):
        lines.append(
            f"`{folder}`: nnU-Net v2 raw data. Copy it to `$nnUNet_raw`, and its "
            "`splits_final.json`, if there is one, to the same folder in `$nnUNet_preprocessed`"
        )
    elif reason := view.get("omitted"):
        lines.append(f"No nnU-Net view: {reason}")
    return _bullets(lines)
