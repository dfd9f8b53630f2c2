"""README.md, the first page, and datasheet.md: what a person must know before any use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fusion.bundle.content import (
    IGNORE,
    Content,
    Row,
    described,
    known_limits,
    licence_of,
    source_name,
)
from fusion.bundle.content import split_names as folds_of
from fusion.bundle.croissant import description
from fusion.bundle.manifest import Manifest
from fusion.bundle.views import huggingface

PRIVATE = (
    "> **Private build.** It may hold files that must not be passed on. Keep it to yourself and "
    "share `recipe/` instead: who has the sources can rebuild it."
)
SHAREABLE = (
    "> **Shareable build.** It holds pixels only where their licences allow it. The other cases "
    "are listed without files; who has the sources completes them with `rebuild_bundle --complete`."
)
_YES = {True: "yes", False: "no"}


def first_page(content: Content, manifest: Manifest) -> str:
    """README.md: effective use and limits first, then how to use it. Also a Hugging Face card."""
    card = huggingface.front_matter(manifest) if "huggingface" in manifest.views else ""
    parts = [f"# {content.title}", description(content)]
    parts += [PRIVATE if content.is_private else SHAREABLE]
    parts += ["## Effective use", _use(content, manifest)]
    parts += ["## Known limits", _bullets(known_limits(content) or ["None stated."])]
    parts += ["## Sources", _sources(content)]
    parts += ["## Concepts", _concepts(content)]
    parts += ["## Splits", _splits(content)]
    parts += ["## How to use it", _how(manifest)]
    parts += ["## Files", _files(content, manifest)]
    parts += ["More is in `datasheet.md`."]
    return card + "\n\n".join(parts) + "\n"


def datasheet(content: Content, manifest: Manifest) -> str:
    """datasheet.md, in the order of "Datasheets for Datasets"."""
    parts = [f"# Datasheet: {content.title}", f"Bundle `{content.bundle_id}`"]
    parts += ["## Motivation", _motivation(content)]
    parts += ["## Composition", description(content), _sources(content), _concepts(content)]
    parts += ["### Left out", _exclusions(content), "### Findings", _findings(content)]
    parts += ["### Relations between cases", _relations(manifest)]
    parts += ["## Collection", _collection(content)]
    parts += ["## Preprocessing and labelling", _preprocessing(content, manifest)]
    parts += ["## Uses", _uses(content)]
    parts += ["## Distribution", _use(content, manifest)]
    parts += ["## Maintenance", MAINTENANCE]
    parts += ["## Privacy", _privacy(manifest)]
    return "\n\n".join(parts) + "\n"


MAINTENANCE = (
    "A bundle never changes: another plan, or other source files, give another bundle with "
    "another identifier. `recipe/` says what it was made from; `rebuild_bundle` makes it again and "
    "compares."
)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---" for _ in head], *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _use(content: Content, manifest: Manifest) -> str:
    """What holds for all files of the bundle together, and why."""
    use = manifest.use
    rows: list[list[object]] = [
        ["commercial use", _YES[use.commercial]],
        ["passing it on", _YES[use.redistribute and not content.is_private]],
        ["adapting it", _YES[use.adapt]],
        ["one file made of all parts (an average, a stacked array)", _YES[use.one_file]],
        ["share-alike", ", ".join(use.share_alike) or "none"],
        ["must be named", ", ".join(use.attribution) or "nobody"],
        ["only as a recipe", ", ".join(use.recipe_only) or "nothing"],
        ["only as original bytes", ", ".join(use.original_only) or "nothing"],
    ]
    head = _table(["all files together", ""], rows)
    why = f"\n\nWhat holds back:\n\n{_bullets(use.reasons)}" if use.reasons else ""
    note = (
        "\n\nEach file keeps the licence of its source (`manifest.json`, `LICENSES/`). Labels "
        "inherit what restricts their images. Manifest, splits and label maps are CC0-1.0. "
        "Nothing here is legal advice."
    )
    return head + why + note


def _sources(content: Content) -> str:
    rows: list[list[object]] = []
    for source in content.sources:
        used = len(content.of_source(str(source["id"])))
        out = len(content.excluded_of(str(source["id"])))
        licence = [licence_of(source, part) for part in ("images", "labels")]
        ships = source.get("ships") or {}
        held = ", ".join(sorted({str(form) for form in ships.values()})) or "harmonised"
        rows.append([source["id"], source_name(source), *licence, held, used, out])
    head = ["id", "name", "licence of images", "licence of labels", "files", "cases used"]
    return _table([*head, "left out"], rows)


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
    if content.ignore is not None:
        cases = sum(case.get("ignored", 0) > 0 for case in content.cases)
        rows.append([content.ignore, IGNORE, "not annotated", "", cases])
        note += (
            " A voxel of value `ignore` was not annotated: no loss and no metric counts it "
            "(`tools/ignoring.py`)."
        )
    return _table(head, rows) + "\n\n" + note


def _splits(content: Content) -> str:
    cells: Counter[tuple[str, str, str]] = Counter()
    for case in content.cases:
        for fold, split in folds_of(case).items():
            cells[fold, str(case["source"]), split] += 1
    keys = sorted({(fold, source) for fold, source, _ in cells})
    rows: list[list[object]] = [
        [fold, source, *(cells[fold, source, split] for split in ("train", "val", "test"))]
        for fold, source in keys
    ]
    return _table(["protocol", "source", "train", "val", "test"], rows)


_READERS = (
    "Python: put `tools/` on the path and `from read_bundle import Bundle`; it needs numpy, and "
    "nibabel (volumes) or Pillow (pictures); nothing is installed. `tools/masked.py` holds loss "
    "and metrics that count a concept only where somebody looked for it"
)


def _how(manifest: Manifest) -> str:
    lines = [_READERS, "Any WebDataset reader: `shards/<split>-*.tar`"]
    lines += [_line(name, view) for name, view in sorted(manifest.views.items())]
    lines.append("Whole? `sha256sum -c SHA256SUMS`, or `verify_bundle` of the portal")
    return _bullets(lines)


def _line(name: str, view: Row) -> str:
    if reason := view.get("omitted"):
        return f"{name}: no view: {reason}"
    if name == "huggingface":
        return "Hugging Face: `datasets.load_dataset('<this folder>')`"
    made = f"`manage.py bundle_view <this folder> {name} --out <folder>`"
    note = ""
    if left := view.get("left_out"):
        note = f"; without {', '.join(left)}, not annotated in every case (or `--lossy`)"
    return (
        f"{name}: {made} writes the files that it wants, descriptions are in `views/{name}`{note}"
    )


def _files(content: Content, manifest: Manifest) -> str:
    lines = [
        "`manifest.json`: all of this as data, with SHA-256 and offset of each file",
        "`manifest.schema.json`: its JSON schema",
        "`shards/`: tar files in WebDataset order (image, label, record), every pixel once",
        f"`data-meta.jsonl`, `annotations-{content.task}.jsonl`, `croissant.json`: descriptions",
        "`recipe/`: what to fetch and how to build this again",
        "`LICENSES/`, `CITATION.cff`, `references.bib`: what you owe the sources",
        "`report.json`, and `report/` where there is one: checks, exclusions, findings",
        "`build_info.json`: versions, outside SHA256SUMS",
        "`baseline/`, where one was run: figures, page, weights; with sums of its own",
    ]
    if manifest.views:
        lines.insert(2, "`views/`: the small files of each view; its pixels are in `shards/`")
    return _bullets(lines)


def _motivation(content: Content) -> str:
    about = str(content.plan.get("about") or "").strip()
    goal = f"Made to train and judge {content.task} of {', '.join(content.concepts)} over sources."
    return f"{about}\n\n{goal}" if about else goal


def _relations(manifest: Manifest) -> str:
    lines = [
        f"{manifest.groups['n']} groups: cases of one group are always in one split",
        *(
            f"{row['a']} and {row['b']}: {row.get('class', 'related')} overlap"
            for row in manifest.overlaps
        ),
    ]
    return _bullets(lines)


def _collection(content: Content) -> str:
    rows: list[list[object]] = []
    for source in content.sources:
        facts = described(source)
        where = facts.get("doi") or facts.get("homepage") or "unknown"
        how = facts.get("annotation") or "unknown"
        rows.append([source["id"], facts.get("publisher") or "unknown", where, how])
    return _table(["source", "publisher", "from", "labelled"], rows)


def _preprocessing(content: Content, manifest: Manifest) -> str:
    steps = Counter(
        str(step.get("op")) for case in content.cases for step in case.get("transforms") or []
    )
    done = ", ".join(f"{op} ({n} cases)" for op, n in sorted(steps.items())) or "none"
    lines = [
        f"Profile {manifest.plan.profile}. Steps: {done}; `manifest.json` says what undoes each.",
        "Voxels are not normalised: `norm` says how to, fitted on training cases.",
        f"Mode {manifest.plan.mode}; `label_maps` says how labels became these concepts.",
    ]
    return _bullets(lines)


def _uses(content: Content) -> str:
    lines = [
        "Compare results per source: sources differ in population, device and labelling.",
        "No clinical use: nothing was checked for it.",
        *known_limits(content),
    ]
    return _bullets(lines)


def _privacy(manifest: Manifest) -> str:
    rows = [
        f"{key.replace('_', ' ')}: {value if isinstance(value, str) else len(value)}"
        for key, value in sorted(manifest.privacy.items())
        if isinstance(value, str | list)
    ]
    return _bullets(rows)
