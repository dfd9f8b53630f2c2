"""A source description drafted from a folder: what can be seen is stated, the rest is asked.

What a person must confirm starts with "?" and is refused by the recipe check until they do.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from catalog import vocab
from fusion.cases import path_regex
from fusion.draft_labels import (
    LayerDraft,
    drawn_by,
    is_label_like,
    layer_of,
    propose,
    shapes_layer,
    tables_of,
)
from fusion.imaging.errors import CaseError
from fusion.imaging.io import dicom_facts, read_array, read_image
from fusion.imaging.volume import Volume

IMAGE = re.compile(
    r"\.(nii|nii\.gz|nrrd|mha|mhd|mgz|mgh|mnc|hdr|png|jpe?g|tiff?|bmp|ppm|pgm|webp|ppm\.gz|pgm\.gz)$",
    re.IGNORECASE,
)
LABEL_WORDS = frozenset({
    "mask", "masks", "label", "labels", "lbl", "labelmap", "seg", "segs", "segmentation",
    "segmentations", "gt", "groundtruth", "truth", "manual", "annotation", "annotations",
    "annotated", "lesion", "lesions", "atlas", "roi", "rois", "contour", "contours", "dseg",
    "labeled", "labelled", "gmseg", "goldstandard", "outline", "tumor", "tumour", "multiclass",
    "ot", "brainmask",
})  # fmt: skip
IMAGE_WORDS = frozenset({"image", "images", "img", "imgs", "jpegimages", "imagestr", "original"})
_MR_WORDS = frozenset({"t1", "t2", "t1w", "t2w", "t1c", "t1ce", "t2s", "flair", "adc", "dwi"})
SPLIT_WORDS: Mapping[str, str] = {
    "train": "train", "training": "train", "trainset": "train", "val": "val", "valid": "val",
    "validation": "val", "dev": "val", "test": "test", "testing": "test", "testset": "test",
}  # fmt: skip
_FEW = 12  # files of one case's folder
_ALIKE = 0.6  # share of files that cases have in common
_MOST = 0.9  # share of images that have a label where the others are exceptions
_FEWEST = 3  # images of a folder that may be a class
_TAIL = re.compile(
    rf"[_\-. ]?(?:{'|'.join(sorted(LABEL_WORDS, key=len, reverse=True))})(?:[_\-. ].*|\d*)?$",
    re.IGNORECASE,
)
_UNSURE = "?"


@dataclass
class Draft:
    """A description as data, and remarks by the path of keys that they stand beside."""

    data: dict[str, Any]
    remarks: dict[tuple[Any, ...], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The draft as YAML; a TODO stands beside everything that a person must confirm."""
        head = [f"# {note}" for note in self.notes]
        return "\n".join([*head, *self._lines(self.data, (), 0)]) + "\n"

    def _lines(self, value: Any, path: tuple[Any, ...], depth: int) -> Iterator[str]:
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            here = (*path, key)
            lead = "  " * depth + ("- " if isinstance(value, list) else f"{_scalar(key)}: ")
            remark = self.remarks.get(here, "")
            if isinstance(one, str) and one.startswith(_UNSURE):
                remark = f"TODO {remark or 'not known'}"
            remark = f"  # {remark}" if remark else ""
            if isinstance(one, dict | list) and one and not isinstance(value, list):
                yield lead.rstrip() + remark
                yield from self._lines(one, here, depth + 1)
            elif isinstance(one, dict) and one:
                first, *rest = self._lines(one, here, depth + 1)
                yield "  " * depth + "- " + first.strip() + remark
                yield from rest
            else:
                yield lead + _scalar(one) + remark


def _scalar(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


@dataclass
class Layout:
    """Where the images and labels of a folder are, as far as names tell."""

    cases: dict[str, Any]
    images: list[str]
    labels: list[LayerDraft] = field(default_factory=list)
    classes: dict[str, Any] | None = None
    facts: dict[str, Any] = field(default_factory=dict)  # of the description: modality, ...
    notes: list[str] = field(default_factory=list)


def draft(folder: Path, dataset: str = "", facts: Mapping[str, Any] | None = None) -> Draft:
    """Look at `folder` and describe it.

    Args:
        folder: one distribution of a dataset.
        dataset: its slug in the catalog, if known.
        facts: what the catalog knows of it.
    """
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not any(p.startswith((".", "__MACOSX")) for p in path.parts[-4:])
    )
    layout = next(
        found
        for look in (_arrays, _decathlon, _bids, _by_names)
        if (found := look(folder, files)) is not None
    )
    out = Draft({"schema": "imaging-x/source/1", "name": dataset or folder.name})
    out.notes = [f"Drafted from {len(files)} files. Confirm what is marked TODO.", *layout.notes]
    known = facts or {}
    if dataset:
        out.data["dataset"] = dataset
    out.data["licence"] = {"images": None, "labels": None}
    said = f"TODO; the catalog says {known['licence']}" if known.get("licence") else "TODO"
    out.remarks["licence",] = f"{said}; null is unknown and is shown as unknown"
    _kind(out, folder, layout, known)
    out.data["annotation"] = known.get("annotation") or "unknown"
    out.data["cases"] = layout.cases
    if "subject" in layout.cases and layout.cases["subject"] is None:
        out.remarks["cases", "subject"] = "TODO subject ids, if a name or a table holds them"
    words = [folder.name, dataset, *known.get("classes", ())]
    for number, label in enumerate(layout.labels):
        make = shapes_layer if label.shapes else layer_of
        layer, remarks = make(folder, label, files, words)
        if "{" in label.path and len(label.files) < _MOST * len(layout.images):
            layer["missing"] = _UNSURE
            counts = f"{len(label.files)} files for {len(layout.images)} images"
            remarks["missing",] = f"{counts}: exclude the others, absent or unknown there?"
        out.data.setdefault("layers", []).append(layer)
        out.remarks |= {("layers", number, *path): text for path, text in remarks.items()}
    _tables(out, folder, files, layout)
    return out


def draft_text(folder: Path) -> str:
    """The draft of files that nobody has vouched for, as YAML; for the guarded child."""
    return draft(folder).text()


def _kind(out: Draft, folder: Path, layout: Layout, known: Mapping[str, Any]) -> None:
    """Modality, family and dimension."""
    said = layout.facts.get("modality") or next(iter(known.get("modalities", ())), "")
    term = vocab.resolve("modality", str(said)) if said else None
    if term is None:
        words = re.split(r"[^A-Za-z0-9]+", folder.name)
        guesses = [t for w in (folder.name.replace("_", " "), *words) if (t := _modality(w))]
        if any(_sequence(path) for path in layout.images[:1]):
            guesses.append(vocab.resolve("modality", "MR"))
        guess = guesses[0] if guesses else None
        out.data["modality"] = f"?{guess.code or guess.name}" if guess else _UNSURE
        out.data["family"] = f"?{guess.name}" if guess else _UNSURE
        seen = "from names of the folder and its files" if guess else "such as CT, MR, OP, US, DX"
        out.remarks["modality",] = f"confirm: {seen}"
        out.remarks["family",] = "confirm: sources of one recipe share it"
    else:
        out.data["modality"], out.data["family"] = term.code or term.name, term.name
    out.data["dimension"] = layout.facts.get("dimension") or _dimension(folder, layout.images)


def _sequence(path: str) -> bool:
    """The name of an MR sequence stands in a file's path."""
    return bool(_MR_WORDS & set(re.split(r"[^a-z0-9]+", path.lower())))


def _modality(word: str) -> Any:
    return vocab.resolve("modality", word) if len(word) > 1 else None


def _dimension(folder: Path, images: Sequence[str]) -> str:
    for path in images[:1]:
        try:
            return "3D" if isinstance(read_image(folder / path, channel=None), Volume) else "2D"
        except CaseError:
            return "3D" if re.search(r"\.(nii|nrrd|mha|mhd|mgz)", path) else "2D"
    return _UNSURE


def _tables(out: Draft, folder: Path, files: Sequence[str], layout: Layout) -> None:
    """Classes, subjects and splits from the folders and from tables that name the images."""
    names = [PurePosixPath(path.rstrip("/")).name for path in layout.images]
    found = tables_of(folder, [f for f in files if f not in layout.images], names)
    for note in found.notes:
        out.notes.append(note)
    if found.subject and layout.cases.get("subject") is None:
        layout.cases.pop("subject", None)
        layout.cases["subject_column"] = found.subject
        out.remarks["cases", "subject_column"] = "TODO is this column the person?"
    if found.split and "split_from" not in layout.cases:
        layout.cases["split_from"] = found.split
    classes = found.classes or layout.classes
    if classes:
        out.data["classes"] = classes["rule"]
        out.remarks |= {("classes", *path): text for path, text in classes["remarks"].items()}


# Layouts that a file or a name announces.


def _arrays(folder: Path, files: Sequence[str]) -> Layout | None:
    archives = [f for f in files if f.endswith(".npz")]
    rows = []
    for file in archives:
        with np.load(folder / file, allow_pickle=False) as archive:
            keys = archive.files
        for key in (k for k in keys if k.endswith("_images") or k in {"images", "x"}):
            labels = key.replace("images", "labels") if "images" in key else "y"
            if labels in keys:
                split = SPLIT_WORDS.get(key.partition("_")[0])
                row = {"file": file, "images": key, "labels": labels}
                rows.append(row | ({"split": split} if split else {}))
    if not rows:
        return None
    first = read_array(folder / rows[0]["file"], rows[0]["labels"])
    many = first.ndim > 1 and first.shape[-1] > 1
    values = range(first.shape[-1]) if many else np.unique(first).tolist()
    counts = first.sum(axis=0).tolist() if many else np.bincount(first.ravel()).tolist()
    rule: dict[str, Any] = {"exclusive": False} if many else {}
    rule["values"] = {str(v): _UNSURE for v in values}
    remarks = {("values", str(v)): f"concept of {counts[int(v)]} cases" for v in values}
    classes = {"rule": rule, "remarks": remarks}
    return Layout({"arrays": rows}, [], classes=classes, facts={"dimension": "2D"})


def _decathlon(folder: Path, files: Sequence[str]) -> Layout | None:
    """dataset.json of the Medical Segmentation Decathlon, or of nnU-Net."""
    tops = [f for f in files if PurePosixPath(f).name == "dataset.json"]
    for top in sorted(tops, key=len):
        try:
            info = json.loads((folder / top).read_text("utf-8-sig"))
        except (ValueError, OSError):
            continue
        if isinstance(info, dict) and isinstance(info.get("labels"), dict):
            break
    else:
        return None
    base = top.removesuffix("dataset.json")
    modality = info.get("modality") or info.get("channel_names") or {}
    names = [str(modality[key]) for key in sorted(modality, key=int)]
    training = [f for f in files if f.startswith(f"{base}imagesTr/") and IMAGE.search(f)]
    is_nnunet = bool(training) and all(re.search(r"_\d{4}\.[^/]*$", f) for f in training)
    found = IMAGE.search(training[0]) if training else None
    ending = str(info.get("file_ending") or (found[0] if found else ".nii.gz"))
    cases: dict[str, Any] = {}
    if is_nnunet and len(names) > 1:
        paths = [f"{base}imagesTr/{{name}}_{n:04d}{ending}" for n in range(len(names))]
        cases["channels"] = dict(zip(names, paths, strict=True))
    elif len(names) > 1:
        cases["image"] = f"{base}imagesTr/{{name}}{ending}"
        cases["channels"] = {name: {"channel": n} for n, name in enumerate(names)}
    else:
        cases["image"] = f"{base}imagesTr/{{name}}{'_0000' if is_nnunet else ''}{ending}"
    cases["subject"] = None
    numbered = {
        str(key if str(key).isdigit() else value): str(value if str(key).isdigit() else key)
        for key, value in info["labels"].items()
        if not isinstance(value, list)
    }
    notes = [f"{k}: regions {v} overlap; use a parent concept" for k, v in info["labels"].items()
             if isinstance(v, list)]  # fmt: skip
    labels = [f for f in files if f.startswith(f"{base}labelsTr/") and IMAGE.search(f)]
    layer = LayerDraft(f"{base}labelsTr/{{name}}{ending}", labels, numbered)
    kind = next((t.name for name in names if (t := _modality(name.split("_")[0]))), "")
    facts = {"modality": kind or ("MR" if len(names) > 1 else "")}
    facts["dimension"] = "2D" if re.search(r"png|jpe?g|tiff?|bmp", ending) else "3D"
    first = [f for f in training if not is_nnunet or re.search(r"_0000\.[^/]*$", f)]
    return Layout(cases, first, [layer], facts=facts, notes=notes)


_BIDS = re.compile(r"(?:.*/)?sub-([A-Za-z0-9]+)/(?:(ses-[A-Za-z0-9]+)/)?([a-z]+)/(sub-[^/]+)$")


def _bids(_: Path, files: Sequence[str]) -> Layout | None:
    found = [m for f in files if IMAGE.search(f) and (m := _BIDS.fullmatch(f))]
    raw = [m for m in found if not m[0].startswith("derivatives/")]
    if not raw or "dataset_description.json" not in {PurePosixPath(f).name for f in files}:
        return None

    def template(match: re.Match[str]) -> str:
        text = match[0].replace(f"sub-{match[1]}", "sub-{subject}")
        if match[2]:
            text = text.replace(match[2], "{session}")
        return re.sub(r"_run-\d+", "_run-{run}", text)

    images = Counter(map(template, raw))
    derived = Counter(template(m) for m in found if m[0].startswith("derivatives/"))
    base = Counter({t: n for t, n in images.items() if "/anat/" in t}) or images
    main = base.most_common(1)[0][0]
    notes = [f"{n} images of {t} are not used" for t, n in images.items() if t != main]
    layers = []
    for path in derived:
        if _tokens(PurePosixPath(path).name) & LABEL_WORDS:
            fits = [m[0] for m in found if template(m) == path]
            layers.append(LayerDraft(path, fits))
    paths = [m[0] for m in raw if template(m) == main]
    suffix = re.split(r"[_.]", PurePosixPath(main).name.partition(".")[0])[-1]
    kind = "MR" if "/anat/" in main else suffix
    cases = {"image": main, "subject": "{subject}"}
    return Layout(cases, paths, layers, facts={"modality": kind}, notes=notes)


# Layouts that only names show.


def _tokens(text: str) -> set[str]:
    return {word for word in re.split(r"[^a-z]+", text.lower()) if word} | {
        word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)
    }


def _is_label(path: str) -> bool:
    *folders, name = path.rstrip("/").split("/")
    words = (_tokens(part) for part in (*folders, name))
    return any(LABEL_WORDS & one for one in words)


def _series(files: Sequence[str]) -> list[str]:
    """Folders that hold a DICOM series."""
    counts = Counter(f.rpartition("/")[0] for f in files if f.lower().endswith(".dcm"))
    return [f"{folder}/" for folder, n in counts.items() if folder and n > 1]


def _by_names(folder: Path, files: Sequence[str]) -> Layout:
    items = [f for f in files if IMAGE.search(f)] + _series(files)
    layout = _folder_per_case(folder, items) or _folders_of_files(folder, items)
    if not layout.labels:
        layout.labels = drawn_by(folder, [f for f in files if f not in items], layout.images)
    if layout.images and layout.images[0].endswith("/"):
        first = next(f for f in files if f.startswith(layout.images[0]))
        try:
            layout.facts["modality"] = str(dicom_facts(folder / first).modality)
        except (CaseError, AttributeError):
            layout.notes.append(f"{first}: no modality could be read")
        layout.facts["dimension"] = "3D"
    return layout


def _folder_per_case(folder: Path, items: Sequence[str]) -> Layout | None:
    """Each case has a folder, and the same files are in every one."""
    for level in range(4):
        by_value: dict[tuple[str, ...], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for path in items:
            parts = path.split("/")
            if len(parts) > level + 1 and parts[level]:
                rest = [part.replace(parts[level], "{name}") for part in parts[level:]]
                by_value[tuple(parts[:level])][parts[level]].add("/".join(rest))
        for above, values in by_value.items():
            seen = Counter(key for keys in values.values() for key in keys)
            common = sorted(key for key, n in seen.items() if n >= max(2, len(values) * 0.5))
            each = sum(map(len, values.values())) / len(values)
            # Files that differ in a number only are a series of images, not the parts of a case.
            kinds = {re.sub(r"\d+", "#", key) for key in seen}
            named = any(_tokens(v) & (LABEL_WORDS | IMAGE_WORDS | {*SPLIT_WORDS}) for v in values)
            if len(kinds) < _ALIKE * len(seen) or named:
                continue
            if len(values) > 1 and each <= _FEW and len(common) >= _ALIKE * len(seen):
                return _of_parts(folder, ["/".join((*above, key)) for key in common], items)
    return None


def _of_parts(folder: Path, templates: Sequence[str], items: Sequence[str]) -> Layout | None:
    """Images, labels and other files of a case by their names and looks."""
    files = {t: _fitting(t, items) for t in templates}
    images = [t for t in templates if not _is_label(t.replace("{name}", ""))]
    labels = [t for t in templates if t not in images]
    if not labels:
        labels = [t for t in images if not t.endswith("/") and _looks_like(folder, files[t][0])]
        images = [t for t in images if t not in labels]
    if not images:
        return None
    cases: dict[str, Any] = {"image": images[0]}
    if len(images) > 1:
        cases = {"channels": {_channel(t, images): t for t in images}}
    cases["subject"] = "{name}"
    drafts = [LayerDraft(t, files[t]) for t in labels]
    return Layout(cases, files[images[0]], drafts, notes=["{name} is taken for the person"])


def _looks_like(folder: Path, path: str) -> bool:
    try:
        return is_label_like(read_image(folder / path).array)
    except CaseError:
        return False


def _channel(template: str, among: Sequence[str]) -> str:
    """What tells a channel's file from those of the others."""
    names = [PurePosixPath(t.rstrip("/")).name for t in among]
    prefix, suffix = _common([name.partition(".")[0] for name in names])
    stem = PurePosixPath(template.rstrip("/")).name.partition(".")[0]
    core = stem[len(prefix) : len(stem) - len(suffix) if suffix else None]
    return core.strip("_-. ") or stem


def _fitting(template: str, items: Iterable[str]) -> list[str]:
    pattern = path_regex(template, {})
    return [path for path in items if pattern.fullmatch(path)]


def _common(stems: Sequence[str]) -> tuple[str, str]:
    """Longest common prefix and suffix; they do not overlap in any stem."""
    low, high = min(stems), max(stems)
    prefix = next((low[:n] for n, c in enumerate(low) if high[n : n + 1] != c), low)
    ends = [stem[len(prefix) :][::-1] for stem in stems]
    low, high = min(ends), max(ends)
    suffix = next((low[:n] for n, c in enumerate(low) if high[n : n + 1] != c), low)
    return prefix, suffix[::-1]


@dataclass(frozen=True)
class _Group:
    """Files of one folder (or of folders that differ in one part) with one ending."""

    folder: str  # with fields where folders differ
    ending: str
    tail: str  # what a label's name adds to the image's
    stems: tuple[str, ...]
    paths: tuple[str, ...]
    is_label: bool

    def template(self, stem: str) -> str:
        return f"{self.folder}/{stem}{self.ending}".lstrip("/")


def _groups(items: Sequence[str]) -> list[_Group]:
    found: dict[tuple[str, str, str, bool], list[tuple[str, str]]] = defaultdict(list)
    for path in items:
        where, _, name = path.rstrip("/").rpartition("/")
        found_ending = IMAGE.search(name)
        ending = "/" if path.endswith("/") else found_ending[0] if found_ending else ""
        stem = name[: len(name) - len(ending)] if found_ending else name
        cut = _TAIL.search(stem)
        core = stem[: cut.start()] if cut and cut.start() else stem
        kind = re.sub(r"\d+$", "*", stem[len(core) :])
        found[where, ending, kind.rstrip("_-. *"), _is_label(path)].append((core, path))
    merged: dict[tuple[Any, ...], dict[str, list[tuple[str, str]]]] = defaultdict(dict)
    for (where, ending, tail, is_label), rows in found.items():
        merged[ending, tail, is_label, _shape(where, list(found))][where] = rows
    groups = []
    for (ending, tail, is_label, shape), by_folder in merged.items():
        rows = [row for one in by_folder.values() for row in one]
        place = shape if len(by_folder) > 1 else next(iter(by_folder))
        stems, paths = zip(*rows, strict=True)
        groups.append(_Group(place, ending, tail, stems, paths, is_label))
    return groups


def _shape(where: str, keys: Sequence[tuple[str, str, str, bool]]) -> str:
    """The folder with a field for each part in which its brothers differ."""
    parts = where.split("/")
    others = [o for f in {key[0] for key in keys} if len(o := f.split("/")) == len(parts)]
    out = list(parts)
    for at, part in enumerate(parts):
        if not part or (LABEL_WORDS | IMAGE_WORDS) & _tokens(part):
            continue
        brothers = {
            o[at]
            for o in others
            if [*o[:at], *o[at + 1 :]] == [*parts[:at], *parts[at + 1 :]]
            and not (LABEL_WORDS | IMAGE_WORDS) & _tokens(o[at])
        }
        if len(brothers) > 1:
            is_split = all(_split_in(brother) for brother in brothers)
            free = next(n for n in ("kind", "group", "part") if f"{{{n}}}" not in out)
            out[at] = "{split}" if is_split and "{split}" not in out else f"{{{free}}}"
    return "/".join(out)


def _split_in(word: str) -> str:
    """The publisher's split that a folder's name says, or nothing."""
    return next((SPLIT_WORDS[one] for one in sorted(_tokens(word)) if one in SPLIT_WORDS), "")


def _folders_of_files(folder: Path, items: Sequence[str]) -> Layout:
    groups = _groups(items)
    images = [g for g in groups if not g.is_label]
    if not images or (len(groups) > 1 and all(len(g.paths) == 1 for g in groups)):
        return _single(folder, items)
    if all(g.is_label for g in groups) or not any(g.is_label for g in groups):
        images, groups = _by_look(folder, groups)
    main = max(images, key=lambda g: len(g.paths))
    endings = {g.ending for g in images if (g.folder, g.tail) == (main.folder, main.tail)}
    paths = [p for g in images if (g.folder, g.tail) == (main.folder, main.tail) for p in g.paths]
    labels = [g for g in groups if g not in images]
    prefix, name = "", "{name}"
    drafts, notes = [], []
    for group in labels:
        pair = _paired(main, group)
        if pair is None:
            notes.append(f"{len(group.paths)} files like {group.paths[0]} fit no image")
        else:
            prefix, own = pair
            drafts.append(LayerDraft(group.template(own), list(group.paths)))
    if not drafts and len(items) <= _FEW:
        plain = [p for p in items if not p.endswith("/")]
        flat = [p for p in plain if _looks_like(folder, p)]
        if labels or 0 < len(flat) < len(items) or any(map(_names_a_tissue, items)):
            return _single(folder, items)
    template = main.template(prefix + name)
    if len(endings) > 1:
        template = template.removesuffix(main.ending) + ".*"
    cases: dict[str, Any] = {"image": template, "subject": None}
    classes = _parts(cases, main, paths)
    left = sum(len(g.paths) for g in images) - len(paths)
    if left:
        notes.append(f"{left} other images are not used: {_others(images, main)}")
    return Layout(cases, paths, drafts, classes, notes=notes)


def _others(images: Sequence[_Group], main: _Group) -> str:
    return ", ".join(g.paths[0] for g in images if (g.folder, g.tail) != (main.folder, main.tail))


def _by_look(folder: Path, groups: list[_Group]) -> tuple[list[_Group], list[_Group]]:
    """Names do not say which are labels: one file of each group is looked at."""
    flat = [
        g
        for g in groups
        if g.ending != "/" and all(_looks_like(folder, p) for p in g.paths[:_FEWEST])
    ]
    images = [g for g in groups if g not in flat] or groups
    return images, groups


def _paired(image: _Group, label: _Group) -> tuple[str, str] | None:
    """Constant start of the image's name, and the label's name with {name} in it."""
    raw = [PurePosixPath(p).name.removesuffix(label.ending) for p in label.paths]
    own = set(image.stems)
    if len(own & set(label.stems)) >= 0.5 * min(len(own), len(set(label.stems))):
        rests = {r[len(s) :] for r, s in zip(raw, label.stems, strict=True) if r.startswith(s)}
        return "", "{name}" + (rests.pop() if len(rests) == 1 else f"{label.tail}*")
    rests = {next((r[len(s) :] for s in own if r.startswith(s)), "") for r in raw}
    if len(rests) == 1 and (rest := rests.pop()):
        return "", "{name}" + rest
    (p1, s1), (p2, s2) = _common(sorted(own)), _common(sorted(set(raw)))
    cores = {s[len(p1) : len(s) - len(s1)] for s in own}
    theirs = {r[len(p2) : len(r) - len(s2)] for r in raw}
    if not s1 and len(cores & theirs) >= 0.5 * min(len(cores), len(theirs)) and len(cores) > 1:
        return p1, p2 + "{name}" + s2
    return None


def _parts(cases: dict[str, Any], main: _Group, paths: Sequence[str]) -> dict[str, Any] | None:
    """What folders that differ in one part say: a split, or a class."""
    parts = main.folder.split("/")
    if "{split}" in parts:
        words = sorted({path.split("/")[parts.index("{split}")] for path in paths})
        values = {word: _split_in(word) for word in words}
        cases["split_from"] = {"field": "split", "values": values}
    if "{kind}" not in parts:
        return None
    counts = Counter(path.split("/")[parts.index("{kind}")] for path in paths)
    if len(paths) < _FEWEST * len(counts):
        return None
    proposed = {word: propose(word) for word in sorted(counts)}
    rule = {"field": "kind", "values": {word: one.concept for word, one in proposed.items()}}
    remarks = {
        ("values", word): f"{one.why}; {counts[word]} cases" for word, one in proposed.items()
    }
    return {"rule": rule, "remarks": remarks}


def _single(folder: Path, items: Sequence[str]) -> Layout:
    """One case whose files have names of their own."""
    labels = [p for p in items if not p.endswith("/") and _is_label(p)]
    rest = [p for p in items if p not in labels]
    labels += [p for p in rest if not p.endswith("/") and _looks_like(folder, p)]
    soft = [p for p in rest if p not in labels and _names_a_tissue(p)]
    images = [p for p in rest if p not in labels and p not in soft]
    if not images:
        images, soft = (soft, []) if soft else (labels[:1], [])
        labels = [p for p in labels if p not in images]
    notes = []
    if len(images) > 1:
        notes.append(
            f"{len(images)} images and {len(labels)} labels whose names do not pair: write one "
            f"description for each pair; images: {', '.join(images)}; labels: {', '.join(labels)}"
        )
    drafts = [LayerDraft(p, [p]) for p in (labels or soft)]
    name = PurePosixPath(images[0].rstrip("/")).name.partition(".")[0] if images else folder.name
    cases = {"image": images[0] if images else _UNSURE, "subject": name}
    return Layout(cases, images[:1], drafts, notes=notes)


def _names_a_tissue(path: str) -> bool:
    words = re.split(r"[^A-Za-z0-9]+", PurePosixPath(path).name.partition(".")[0])
    return any(propose(w).is_sure for w in words if len(w) > 1)
