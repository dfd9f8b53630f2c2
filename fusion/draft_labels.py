"""What label files and tables hold, and which concepts their values may mean."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from catalog.vocab import normalise
from fusion.alignment import BACKGROUND as NO_CONCEPT
from fusion.alignment import map_class
from fusion.imaging.errors import CaseError
from fusion.imaging.io import label_names, read_image, read_shapes
from fusion.imaging.volume import Array, Picture
from fusion.source import BACKGROUND, IGNORE, Table
from fusion.tables import TABLE_SUFFIXES, Sheet, sheet

SAMPLE = 5  # label files that are read
MOST_VALUES = 12  # more greys than this are a mask that went through JPEG, or a soft map
_WHOLE = 1e-3  # farther from an integer is no label value
_RINGING = 16  # greys that JPEG adds to black and white
_CLASS_WORDS = frozenset({
    "label", "labels", "class", "finding", "findings", "diagnosis", "dx", "category", "grade",
    "target", "type", "pathology", "level", "disease",
})  # fmt: skip
_SUBJECT_WORDS = frozenset({"patient", "patientid", "patient_id", "subject", "subject_id"})
_NUMBERED = re.compile(r"\s*\"?(\d+)\"?[\s,;:]+\"?([A-Za-z0-9][^\",;\t\n]*?)\"?\s*(?:[,;\t].*)?$")
_SPLIT_COLUMNS = frozenset({"split", "fold", "set", "subset", "partition", "usage"})
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val",
           "validation": "val", "test": "test", "testing": "test"}  # fmt: skip
_UNSEEN = frozenset({"void", "unlabelled", "unlabeled"})
_OFTEN_IGNORED = 255


@dataclass(frozen=True)
class Proposal:
    """A concept for a word of the dataset; one that is not sure starts with "?"."""

    concept: str
    why: str

    @property
    def is_sure(self) -> bool:
        return not self.concept.startswith("?")


def propose(word: str) -> Proposal:
    """The concept that a class name means, may mean, or none."""
    if normalise(word) in NO_CONCEPT:
        return Proposal(BACKGROUND, repr(word))
    found = map_class(word)
    if found.concept and found.is_sure:
        return Proposal(found.concept, f"{word!r}, {found.how}")
    if found.concept:
        return Proposal(f"?{found.concept}", f"confirm: {word!r} looks like it, {found.score:g}")
    return Proposal("?", f"concept of {word!r}")


@dataclass(frozen=True)
class LayerDraft:
    """Label files that fit a template, and the names of their values where a file states them."""

    path: str
    files: Sequence[str]
    names: Mapping[str, str] = field(default_factory=dict)
    shapes: bool = False


def is_label_like(array: Array) -> bool:
    """Few whole values in plateaus: most voxels equal their neighbour, on the things, too."""
    if array.dtype.kind == "f" and (np.abs(array - np.rint(array)) > _WHOLE).any():
        return False
    inside = array
    if array.ndim == 3 and array.shape[2] == 3:  # noqa: PLR2004
        _, flat = np.unique(array.reshape(-1, 3), axis=0, return_inverse=True)
        inside = flat.reshape(array.shape[:2])
        if flat.max() > 4 * MOST_VALUES:
            return False
    pairs = inside[:-1], inside[1:]
    things = pairs[0] != inside.min()
    return bool(things.any() and (pairs[0] == pairs[1])[things].mean() > 0.7)  # noqa: PLR2004


def layer_of(
    folder: Path, label: LayerDraft, files: Sequence[str], words: Sequence[str]
) -> tuple[dict[str, Any], dict[tuple[Any, ...], str]]:
    """A layer, with the values that a sample of its files hold, and remarks by key."""
    counts: Counter[int] = Counter()
    colours: Counter[str] = Counter()
    soft, read = 0.0, 0
    for path in label.files[:: max(1, len(label.files) // SAMPLE)][:SAMPLE]:
        try:
            image = read_image(folder / path)
        except CaseError:
            continue
        read += 1
        array = image.array
        if isinstance(image, Picture) and image.grey_if_equal().channels > 1:
            values, n = np.unique(array.reshape(-1, 3), axis=0, return_counts=True)
            for (red, green, blue), count in zip(values.tolist(), n.tolist(), strict=True):
                colours[f"#{red:02x}{green:02x}{blue:02x}"] += count
            continue
        array = image.grey_if_equal().array if isinstance(image, Picture) else array
        if array.dtype.kind == "f" and (np.abs(array - np.rint(array)) > _WHOLE).any():
            soft = max(soft, float(array.max()))
            continue
        values, n = np.unique(np.rint(array).astype(np.int64), return_counts=True)
        counts.update(dict(zip(values.tolist(), n.tolist(), strict=True)))
    what = {("path",): f"{len(label.files)} files, {read} read"}
    if soft:
        return _soft(label, words, what, 1.0 if soft <= 1.001 else 255.0)  # noqa: PLR2004
    if colours and len(colours) <= 4 * MOST_VALUES:
        return _coloured(label, colours, what)
    if colours:
        counts.update({0: 1, 255: 1})
    return _valued(folder, label, files, words, counts, what)


Made = tuple[dict[str, Any], dict[tuple[Any, ...], str]]


def _soft(
    label: LayerDraft, words: Sequence[str], what: dict[tuple[Any, ...], str], scale: float
) -> Made:
    one = _by_words(label, words)
    layer = {"path": label.path, "kind": "probability", "concept": one.concept, "scale": scale}
    return layer, what | {("concept",): one.why}


def _coloured(label: LayerDraft, colours: Counter[str], what: dict[tuple[Any, ...], str]) -> Made:
    named = [(colour, n) for colour, n in colours.most_common() if colour != "#000000"]
    layer = {"path": label.path, "kind": "colour_map", "values": {c: "?" for c, _ in named}}
    return layer, what | {("values", c): f"concept of {n} pixels" for c, n in named}


def _valued(
    folder: Path,
    label: LayerDraft,
    files: Sequence[str],
    words: Sequence[str],
    counts: Counter[int],
    what: dict[tuple[Any, ...], str],
) -> Made:
    values = sorted(v for v in counts if v)
    largest = max(values, default=0)
    ends = counts[0] + sum(
        n for v, n in counts.items() if v >= largest - _RINGING or 0 < v <= _RINGING
    )
    is_grey = largest == 255 and (len(values) == 1 or (  # noqa: PLR2004
        len(values) > MOST_VALUES and ends > 0.95 * counts.total()))  # fmt: skip
    names = dict(label.names) or _names(folder, label, files, values)
    if not names and (is_grey or values in ([1], [])):
        one = _by_words(label, words)
        layer: dict[str, Any] = {"path": label.path, "kind": "mask"}
        layer |= {"threshold": 127} if is_grey else {}
        return layer | {"concept": one.concept}, what | {("concept",): one.why}
    if not names and largest == 255 and len(values) > MOST_VALUES:  # noqa: PLR2004
        return _soft(label, words, what, 255.0)
    mapping, remarks = {}, dict(what)
    for value in dict.fromkeys([*values, *(int(v) for v in names if v.isdigit() and int(v))]):
        word = names.get(str(value), "")
        one = _of_value(value, word)
        seen = f"{counts[value]} voxels" if counts[value] else "not in the files read"
        mapping[str(value)], remarks["values", str(value)] = one.concept, f"{one.why}; {seen}"
    return {"path": label.path, "kind": "label_map", "values": mapping}, remarks


def _of_value(value: int, word: str) -> Proposal:
    """What a value of a label map means, by its name; never surely that somebody looked there."""
    if normalise(word) == IGNORE:
        return Proposal(IGNORE, repr(word))
    if normalise(word) in _UNSEEN:
        return Proposal("?", f"{word!r}: background, or ignore where nobody looked")
    if word:
        return propose(word)
    often = ", often ignore (nobody looked there)" if value == _OFTEN_IGNORED else ""
    return Proposal("?", f"concept of this value{often}")


def _by_words(label: LayerDraft, words: Sequence[str]) -> Proposal:
    """A concept from words around a mask; never sure."""
    near = re.split(r"[^A-Za-z]+", f"{label.path} " + " ".join(words))
    phrases = [PurePosixPath(label.path).name, *(w.replace("_", " ") for w in words), *near]
    for phrase in (p for p in phrases if len(p) > 1):
        found = map_class(phrase)
        if found.concept and found.is_sure:
            return Proposal(f"?{found.concept}", f"confirm: from the word {phrase!r}")
    return Proposal("?", "what does the mask show?")


def _names(
    folder: Path, label: LayerDraft, files: Sequence[str], values: Sequence[int]
) -> dict[str, str]:
    """Names of values: in the label file's header, else in a small table beside it."""
    for path in label.files[:1]:
        if ".nii" in path and (found := label_names(folder / path)):
            return {str(value): name for value, name in found.items()}
    for path in files:
        if path.lower().endswith((".txt", ".csv", ".tsv", ".lut", ".ctbl")):
            names = _numbered(folder / path)
            if values and sum(str(v) in names for v in values) >= 0.8 * len(values):
                return {v: n for v, n in names.items() if int(v) in set(values)}
    return {}


def _numbered(path: Path) -> dict[str, str]:
    """Lines of a number and a name."""
    if path.stat().st_size > 1 << 20:
        return {}
    found = {}
    for line in path.read_text("utf-8", errors="replace").splitlines():
        if match := _NUMBERED.match(line):
            name = re.sub(r"\s+[\d.\s]+$", "", match[2])
            if re.search("[A-Za-z]{2}", name):
                found[match[1]] = name
    return found


@dataclass
class Found:
    """What tables say of the images."""

    classes: dict[str, Any] | None = None
    subject: dict[str, Any] | None = None
    split: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


def tables_of(folder: Path, files: Iterable[str], names: Sequence[str]) -> Found:
    """Columns of tables that name the images: a class, the person, the publisher's split."""
    out = Found()
    for path in files:
        if PurePosixPath(path).suffix.lower() not in TABLE_SUFFIXES or not names:
            continue
        try:
            one = sheet(folder / path, Table())
        except CaseError:
            continue
        if key := _key(one, names):
            base = {"table": path, **key}
            _read_columns(out, base, one)
            matched = key["key"]
            out.notes.append(f"{path}: {len(one.rows)} rows, column {matched!r} names the images")
    return out


def _key(one: Sheet, names: Sequence[str]) -> dict[str, str] | None:
    """The column that names images, and how."""
    stems = {name.partition(".")[0] for name in names}
    bare = {stem.lstrip("0") or "0" for stem in stems if stem.isdigit()}
    endings = {name.partition(".")[2] for name in names}
    best: tuple[int, dict[str, str]] = (0, {})
    for column in one.columns:
        cells = {row[column] for row in one.rows}
        ways = [({"key": column}, len(cells & stems))]
        ways.append(({"key": column, "pattern": r"0*(\d+)"}, len(cells & bare)))
        if len(endings) == 1:
            whole = {"key": column, "match": "{name}." + next(iter(endings))}
            ways.append((whole, len(cells & set(names))))
        for how, hits in ways:
            if hits > best[0] and hits >= 0.5 * len(stems):
                best = (hits, how)
    return best[1] or None


def _read_columns(out: Found, base: Mapping[str, str], one: Sheet) -> None:
    columns = [c for c in one.columns if c and c != base["key"]]
    states = {"", "0", "1", "-1", "0.0", "1.0", "-1.0"}
    findings = [c for c in columns if (seen := _cells(one, c)) <= states and "1" in
                {s.removesuffix(".0") for s in seen}]  # fmt: skip
    for column in columns:
        word = normalise(column).replace(" ", "_")
        if word in _SUBJECT_WORDS and out.subject is None:
            out.subject = {**base, "column": column}
        said = _cells(one, column)
        if word in _SPLIT_COLUMNS and {s.lower() for s in said} <= {*_SPLITS, ""}:
            values = {s: _SPLITS[s.lower()] for s in sorted(said) if s}
            out.split = {**base, "column": column, "values": values}
    if out.classes is not None:
        return
    if len(findings) > 1:
        proposed = {c: propose(c) for c in findings}
        rule: dict[str, Any] = {**base, "exclusive": "?"}
        rule["columns"] = {c: p.concept for c, p in proposed.items()}
        remarks: dict[tuple[Any, ...], str]
        remarks = {("columns", c): p.why for c, p in proposed.items()}
        remarks["exclusive",] = "true: one of them is 1 in each row; false: any may be"
        out.classes = {"rule": rule, "remarks": remarks}
        return
    named = [c for c in columns if set(re.split(r"[^a-z]+", c.lower())) & _CLASS_WORDS]
    if not named:
        return
    counts = Counter(row[named[0]] for row in one.rows)
    proposed = {word: propose(word) for word in sorted(counts) if word}
    rule = {**base, "column": named[0]}
    rule["values"] = {word: p.concept for word, p in proposed.items()}
    remarks = {("values", w): f"{p.why}; {counts[w]} rows" for w, p in proposed.items()}
    if counts[""]:
        remarks["column",] = f"{counts['']} rows are blank, which is not normal: they are left out"
    out.classes = {"rule": rule, "remarks": remarks}


def _cells(one: Sheet, column: str) -> set[str]:
    return {row[column] for row in one.rows}


def drawn_by(folder: Path, files: Sequence[str], images: Sequence[str]) -> list[LayerDraft]:
    """Annotation files that speak of the images: one for all, or one for each."""
    if not images:
        return []
    stems = {PurePosixPath(path.rstrip("/")).name.partition(".")[0] for path in images}
    each: dict[tuple[str, str], list[str]] = {}
    out = []
    for path in files:
        place = PurePosixPath(path)
        if place.suffix.lower() not in {".json", ".geojson", ".xml", ".txt"}:
            continue
        if place.stem in stems:
            each.setdefault((str(place.parent), place.suffix), []).append(path)
        elif place.suffix.lower() == ".json":
            try:
                found = read_shapes(folder / path)
            except CaseError:
                continue
            if sum(found.of(image) is not None for image in images) >= 0.5 * len(images):
                out.append(LayerDraft(path, [path], shapes=True))
    for (parent, suffix), paths in each.items():
        if len(paths) >= 0.5 * len(stems):
            where = "" if parent == "." else f"{parent}/"
            out.append(LayerDraft(f"{where}{{name}}{suffix}", paths, shapes=True))
    return out


def shapes_layer(folder: Path, label: LayerDraft, _: Sequence[str], __: Sequence[str]) -> Made:
    """A layer of outlines or boxes by class name."""
    counts: Counter[str] = Counter()
    areas = 0
    for path in label.files[:: max(1, len(label.files) // SAMPLE)][:SAMPLE]:
        try:
            found = read_shapes(folder / path)
        except CaseError:
            continue
        shapes = [shape for one in found.drawings.values() for shape in one.shapes]
        counts.update(shape.name for shape in shapes)
        areas += sum(shape.is_area for shape in shapes)
    proposed = {word: propose(word) for word in sorted(counts)}
    layer: dict[str, Any] = {"path": label.path, "kind": "shapes"}
    layer["values"] = {word: one.concept for word, one in proposed.items()}
    remarks: dict[tuple[Any, ...], str] = {("path",): f"{len(label.files)} files"}
    if areas < counts.total():
        remarks["path",] += "; some are boxes: boxes: fill lets a box stand for what is in it"
    named = {("values", w): f"{p.why}; {counts[w]} shapes" for w, p in proposed.items()}
    return layer, remarks | named
