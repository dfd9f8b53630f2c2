"""The single checks of a bundle: each yields one sentence per thing that is wrong."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import ValidationError

from fusion.baseline.document import Baseline
from fusion.bundle.boxes import BOXES_LIST, BOXES_ROLE, Box, decode_boxes, is_boxes, voxels_in
from fusion.bundle.content import FOLDED
from fusion.bundle.croissant import missing_fields
from fusion.bundle.errors import BundleError
from fusion.bundle.gate import find_leaks, find_slice_leaks
from fusion.bundle.manifest import (
    CasePart,
    DetectionManifest,
    FilePart,
    Manifest,
    boxes_by_case,
    ignore_of,
    ignored_in,
    manifest_of,
)
from fusion.bundle.names import (
    BASELINE,
    BUILD_INFO,
    CASE_ID,
    IMAGE_ROLE,
    NATIVE,
    NATIVE_ROLE,
    SUMS,
    is_safe_path,
)
from fusion.bundle.opened import Opened, sha256_at
from fusion.bundle.originals import ORIGINALS
from fusion.bundle.pixels import Decoded, decode, words_beside
from fusion.bundle.privacy import find_names, find_private
from fusion.bundle.views import descriptions
from fusion.bundle.write import view_files
from fusion.imaging.hashes import slice_signatures
from fusion.imaging.volume import Grid, Picture, Volume

TEXT_SUFFIXES = (".json", ".jsonl", ".md", ".txt", ".cff", ".bib", ".tsv", ".html", ".py")
REQUIRED_FILES = (
    "manifest.json", "croissant.json", "README.md", "data-meta.jsonl", "CITATION.cff",
    "references.bib", "report.json", "recipe/recipe.json", "recipe/lock.json", SUMS,
    "manifest.schema.json", "datasheet.md", "recipe/sources.json", "tools/read_bundle.py",
)  # fmt: skip
META_FIELDS = 16  # of the fusion paper's data-meta.jsonl
CORNER_TOLERANCE = 1e-3  # of affine entries, mm


@dataclass
class Subject:
    """The bundle under check. What several checks need is read once."""

    opened: Opened
    people: tuple[str, ...] = ()  # names that the sources' headers hold
    decoded_words: list[str] = field(default_factory=list)
    signed: dict[str, dict[str, Any]] = field(default_factory=dict)  # T2 of each image

    @cached_property
    def names(self) -> set[str]:
        return set(self.opened.names())

    @cached_property
    def sums(self) -> dict[str, str]:
        """Path -> expected SHA-256."""
        return self._sums(SUMS)

    @cached_property
    def baseline_sums(self) -> dict[str, str]:
        """The same of the baseline's folder; empty where there is none."""
        name = f"{BASELINE}/{SUMS}"
        return self._sums(name) if name in self.names else {}

    def _sums(self, name: str) -> dict[str, str]:
        rows = (line.partition("  ") for line in self.text(name).splitlines())
        return {path: sha256 for sha256, _, path in rows}

    @cached_property
    def found(self) -> dict[str, str]:
        """Path -> SHA-256 as it is now."""
        return {name: sha256_at(self.opened, name) for name in sorted(self.names)}

    @cached_property
    def manifest(self) -> Manifest:
        return manifest_of(json.loads(self.text("manifest.json")))

    @cached_property
    def raw_cases(self) -> list[dict[str, Any]]:
        return [case.model_dump() for case in self.manifest.cases]

    def text(self, name: str) -> str:
        if name not in self.names:
            raise BundleError("not_found", f"{name}: found no such file, expected one")
        with self.opened.open(name) as handle:
            return handle.read().decode("utf-8")

    def member(self, row: FilePart) -> bytes:
        """Data of a shard member, by offset."""
        if row.path not in self.names:
            raise BundleError("not_found", f"{row.path}: found no such file, expected a shard")
        with self.opened.open(row.path) as handle:
            handle.seek(row.offset)
            return handle.read(row.bytes)


def check_names(subject: Subject) -> Iterator[str]:
    yield from subject.opened.refused
    yield from (f"{name!r}: unsafe name" for name in subject.names if not is_safe_path(name))
    folded: dict[str, str] = {}
    for name in sorted(subject.names):
        if other := folded.get(name.lower()):
            yield f"{name}: differs from {other} in case only"
        folded[name.lower()] = name


def check_files(subject: Subject) -> Iterator[str]:
    listed = {*subject.sums, *subject.baseline_sums}
    yield from (f"{n}: in {SUMS}, but missing" for n in sorted(listed - subject.names))
    outside = {SUMS, BUILD_INFO, f"{BASELINE}/{SUMS}"}
    extra = subject.names - listed - outside
    yield from (f"{n}: found, but not in {SUMS}" for n in sorted(extra))
    yield from (f"{n}: missing" for n in REQUIRED_FILES if n not in subject.names)
    if list(subject.sums) != sorted(subject.sums):
        yield f"{SUMS}: paths are not in order"


def check_sums(subject: Subject) -> Iterator[str]:
    for name, expected in (subject.sums | subject.baseline_sums).items():
        found = subject.found.get(name)
        if found and found != expected:
            yield f"{name}: found SHA-256 {found}, expected {expected}"


def check_manifest(subject: Subject) -> Iterator[str]:
    try:
        manifest = subject.manifest
    except ValidationError as error:
        for row in error.errors()[:20]:
            yield f"manifest.json: {'.'.join(map(str, row['loc']))}: {row['msg']}"
        return
    ids = [case.id for case in manifest.cases]
    yield from (f"case id {i!r}: unsafe name" for i in ids if not CASE_ID.fullmatch(i))
    if len(set(ids)) != len(ids):
        yield "manifest.json: a case id stands twice"
    for source in manifest.sources:
        used = sum(case.source == source.id for case in manifest.cases)
        if source.n_used != used or source.n_cases_in != used + sum(source.excluded.values()):
            yield (
                f"source {source.id}: found {used} cases, expected {source.n_used} used of "
                f"{source.n_cases_in} with {sum(source.excluded.values())} left out"
            )


def check_shards(subject: Subject) -> Iterator[str]:
    """Shard hashes, then every member by its offset, then nothing besides."""
    by_shard: dict[str, list[FilePart]] = {}
    for case in subject.manifest.cases:
        for row in case.files:
            by_shard.setdefault(row.path, []).append(row)
            if row.member.partition(".")[0] != case.id:
                yield f"{row.member}: expected a member of case {case.id}"
            elif hashlib.sha256(data := subject.member(row)).hexdigest() != row.sha256:
                found = hashlib.sha256(data).hexdigest()
                yield f"{row.path}#{row.member}: found SHA-256 {found}, expected {row.sha256}"
    for shard in subject.manifest.shards:
        if (found := subject.found.get(shard.path, "no file")) != shard.sha256:
            yield f"{shard.path}: found SHA-256 {found}, expected {shard.sha256}"
        else:
            yield from _check_scan(subject, shard.path, by_shard.get(shard.path, []))
    listed = {shard.path for shard in subject.manifest.shards}
    on_disk = {name for name in subject.names if name.startswith("shards/")}
    yield from (f"{name}: no shard of the manifest" for name in sorted(on_disk - listed))


def _check_scan(subject: Subject, path: str, rows: list[FilePart]) -> Iterator[str]:
    """A tar reader must see the same members at the same offsets as the manifest."""
    expected = [(r.member, r.offset, r.bytes) for r in sorted(rows, key=lambda r: r.offset)]
    with subject.opened.open(path) as handle, tarfile.open(fileobj=handle, mode="r:") as tar:
        found = [(m.name, m.offset_data, m.size) for m in tar]
    for one, other in zip(found, expected, strict=False):
        if one != other:
            yield f"{path}: found member {one}, expected {other}"
            return
    if len(found) != len(expected):
        yield f"{path}: found {len(found)} members, expected {len(expected)}"


def check_origin(subject: Subject) -> Iterator[str]:
    """Every case traces to source files that recipe/lock.json pins."""
    lock = json.loads(subject.text("recipe/lock.json"))
    pinned = {
        (source, row["path"]): row["sha256"]
        for source, rows in lock["sources"].items()
        for row in rows
    }
    sources = {source.id for source in subject.manifest.sources}
    for case in subject.manifest.cases:
        if case.source not in sources:
            yield f"{case.id}: found source {case.source}, expected one of {sorted(sources)}"
        if lock["expected_t1"].get(case.id) != case.t1:
            yield f"{case.id}: recipe/lock.json expects another T1 than {case.t1}"
        for row in (case.origin.image, *case.origin.channels, *case.origin.labels):
            if not is_safe_path(row.path.removesuffix("/")):
                yield f"{case.id}: source path {row.path!r} is not relative and safe"
            elif pinned.get((case.source, row.path)) != row.sha256:
                found = pinned.get((case.source, row.path), "nothing")
                yield f"{case.id}: {row.path} is pinned to {found}, expected {row.sha256}"


def check_splits(subject: Subject) -> Iterator[str]:
    yield from find_leaks(subject.raw_cases)
    folded = subject.manifest.plan.protocol in FOLDED
    for case in subject.manifest.cases:
        if isinstance(case.split, dict) != folded:
            yield f"{case.id}: split {case.split!r} does not fit the protocol"
        for row in case.files:
            prefix = "all" if isinstance(case.split, dict) else case.split
            prefix = ORIGINALS if row.role.startswith("original") else prefix
            prefix = NATIVE if row.role == NATIVE_ROLE else prefix
            if not row.path.startswith(f"shards/{prefix}-"):
                yield f"{case.id}: of split {prefix}, but stored in {row.path}"


def check_pixels(subject: Subject) -> Iterator[str]:
    """Images and labels decode, lie on one grid, and labels hold annotated concepts only."""
    concepts = subject.manifest.plan.concepts
    for case in subject.manifest.cases:
        decoded: dict[str, Decoded] = {}
        for row in case.files:
            yield from _decode(subject, row, decoded)
        image, label = decoded.get("image"), decoded.get("label")
        for role, one in decoded.items():
            if IMAGE_ROLE.fullmatch(role):
                yield from _check_image(case.id, one)
            if role not in {"image", NATIVE_ROLE} and image is not None:
                yield from _check_grid(case.id, image, one, role)
        if image is not None:
            subject.signed[case.id] = slice_signatures(_as_read(image)).as_dict()
        if label is not None:
            yield from _check_labels(case, label, concepts, ignore_of(subject.manifest))


def _as_read(image: Decoded) -> Volume | Picture:
    if image.affine is None:
        return Picture(image.array)
    i, j, k = image.array.shape
    return Volume(image.array, Grid((i, j, k), image.affine))


def check_slices(subject: Subject) -> Iterator[str]:
    """As `leaks`, for the slices that the pixels themselves show."""
    rows = [case | {"t2": subject.signed.get(case["id"])} for case in subject.raw_cases]
    yield from find_slice_leaks(rows)


def _decode(subject: Subject, row: FilePart, decoded: dict[str, Decoded]) -> Iterator[str]:
    """Put the pixels of a member under its role, and its words where check_privacy reads them."""
    words: tuple[str, ...] = ()
    if row.role.startswith("original"):
        words = words_beside(row.member, subject.member(row)) or ()
    elif row.role != "record" and not is_boxes(row.role):
        try:
            decoded[row.role] = decode(row.member, subject.member(row))
        except BundleError as error:
            yield str(error)
            return
        words = decoded[row.role].words
    subject.decoded_words += [f"{row.member}: {word}" for word in words]


def _check_image(case_id: str, image: Decoded) -> Iterator[str]:
    if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        yield f"{case_id}: the image holds NaN or infinite values"


def _check_grid(case_id: str, image: Decoded, label: Decoded, role: str) -> Iterator[str]:
    if image.grid_shape != label.grid_shape:
        yield f"{case_id}: image {image.grid_shape}, {role} {label.grid_shape}: grids differ"
    elif image.affine is not None and label.affine is not None:
        off = float(np.abs(image.affine - label.affine).max())
        if off > CORNER_TOLERANCE:
            yield f"{case_id}: affines of image and {role} differ by {off:.4g} mm"


def _check_labels(
    case: CasePart, label: Decoded, concepts: list[str], ignore: int | None
) -> Iterator[str]:
    case_id, annotated = case.id, case.annotated
    if label.array.dtype.kind not in "ui" or (label.array.size and label.array.min() < 0):
        yield f"{case_id}: label of type {label.array.dtype}, expected unsigned whole numbers"
        return
    counts = np.bincount(label.array.ravel())
    for value in map(int, np.flatnonzero(counts[1:]) + 1):
        if value == ignore:
            if (found := int(counts[value])) != ignored_in(case):
                yield f"{case_id}: found {found} ignored pixels, expected {ignored_in(case)}"
        elif value > len(concepts):
            yield f"{case_id}: found label value {value}, expected 0 to {len(concepts)}"
        elif concepts[value - 1] not in annotated:
            yield f"{case_id}: shows {concepts[value - 1]}, which is not in its annotated list"
    if ignored_in(case) and (ignore or 0) >= len(counts):
        yield f"{case_id}: found no ignored pixel, expected {ignored_in(case)}"
    for concept, expected in case.present.items():
        value = concepts.index(concept) + 1 if concept in concepts else -1
        found = int(counts[value]) if 0 < value < len(counts) else 0
        if found != expected:
            yield f"{case_id}: found {found} pixels of {concept}, expected {expected}"


def check_boxes(subject: Subject) -> Iterator[str]:
    """Tables of boxes hold what the manifest says: wanted concepts, and places on the image."""
    manifest = subject.manifest
    if isinstance(manifest, DetectionManifest):
        rows = [json.loads(line) for line in subject.text(BOXES_LIST).splitlines()]
        if rows != [box.model_dump() for box in manifest.boxes]:
            yield f"{BOXES_LIST}: its boxes are not those of the manifest"
    listed = boxes_by_case(manifest)
    for case in manifest.cases:
        tables = {
            row.role: decode_boxes(row.member, subject.member(row))
            for row in case.files
            if is_boxes(row.role)
        }
        for role, boxes in tables.items():
            yield from (f"{case.id}.{role}: {why}" for why in _wrong_boxes(case, boxes))
        if BOXES_ROLE not in tables:
            continue
        said = [Box(b.concept, tuple(b.corners), b.derived) for b in listed.get(case.id, ())]
        if tables[BOXES_ROLE] != said:
            yield f"{case.id}: its table of boxes is not what the manifest says"
        lost = {box.concept for box in said} - set(case.annotated)
        yield from (f"{case.id}: a box of {c}, which is not in its annotated list" for c in lost)
        found = voxels_in(said, case.present)
        yield from (
            f"{case.id}: boxes of {concept} hold {found[concept]} voxels, expected {expected}"
            for concept, expected in case.present.items()
            if found[concept] != expected
        )


def _wrong_boxes(case: CasePart, boxes: list[Box]) -> Iterator[str]:
    is_volume = len(case.shape) == 3  # noqa: PLR2004
    sizes = case.shape if is_volume else [case.shape[1], case.shape[0]]
    for box in boxes:
        low, high = box.corners[: len(sizes)], box.corners[len(sizes) :]
        if len(high) != len(sizes) or not all(
            0 <= a < b <= n for a, b, n in zip(low, high, sizes, strict=True)
        ):
            yield f"box {list(box.corners)} is not on the image, whose size is {sizes}"


def check_croissant(subject: Subject) -> Iterator[str]:
    data = json.loads(subject.text("croissant.json"))
    yield from (f"croissant.json: {field} is missing" for field in missing_fields(data))
    for row in data.get("distribution", []):
        if "sha256" not in row:
            continue
        if (found := subject.found.get(row["contentUrl"], "no file")) != row["sha256"]:
            yield (
                f"croissant.json: {row['contentUrl']}: found SHA-256 {found}, "
                f"expected {row['sha256']}"
            )


def check_rows(subject: Subject) -> Iterator[str]:
    """The two JSONL files have a row per source and per case."""
    manifest = subject.manifest
    meta = [json.loads(line) for line in subject.text("data-meta.jsonl").splitlines()]
    if len(meta) != len(manifest.sources) or any(len(row) != META_FIELDS for row in meta):
        yield f"data-meta.jsonl: expected {len(manifest.sources)} rows of {META_FIELDS} fields"
    name = f"annotations-{manifest.plan.task}.jsonl"
    rows = [json.loads(line) for line in subject.text(name).splitlines()]
    if [row["record"]["sample_id"] for row in rows] != [case.id for case in manifest.cases]:
        yield f"{name}: expected one row per case, in the manifest's order"


def check_views(subject: Subject) -> Iterator[str]:
    """The small files of every view are what the manifest gives."""
    views = descriptions(subject.manifest, subject.manifest.views)
    for name, view in views.items():
        if view.facts != subject.manifest.views[name]:
            yield f"views.{name}: found {subject.manifest.views[name]}, expected {view.facts}"
    expected = view_files(views)
    on_disk = {name for name in subject.names if name.startswith("views/")}
    yield from (f"{name}: missing, or of no view" for name in sorted(on_disk ^ set(expected)))
    for name in sorted(on_disk & set(expected)):
        with subject.opened.open(name) as handle:
            if handle.read() != expected[name] and not name.endswith(".parquet"):
                yield f"{name}: differs from what the manifest gives"


def check_baseline(subject: Subject) -> Iterator[str]:
    """A bundle may have none; one that it has must be its own."""
    name = f"{BASELINE}/baseline.json"
    if name not in subject.names:
        return
    try:
        found = Baseline.model_validate_json(subject.text(name)).bundle_id
    except ValidationError as error:
        for row in error.errors()[:20]:
            yield f"{name}: {'.'.join(map(str, row['loc']))}: {row['msg']}"
        return
    if found != subject.manifest.bundle_id:
        yield f"{name}: found bundle {found}, expected {subject.manifest.bundle_id}"


def check_privacy(subject: Subject) -> Iterator[str]:
    """Words beside the pixels, and text files. build_info.json may name the machine."""
    yield from subject.decoded_words
    for name, text in _texts(subject):
        yield from (f"{name}: {what}" for what in find_private(text))
        yield from (f"{name}: {what}" for what in find_names(text, subject.people))


def _texts(subject: Subject) -> Iterator[tuple[str, str]]:
    for name in sorted(subject.names - {BUILD_INFO}):
        if name.endswith(TEXT_SUFFIXES):
            yield name, subject.text(name)
    for case in subject.manifest.cases:
        for row in case.files:
            if row.role == "record":
                yield row.member, subject.member(row).decode("utf-8")


Check = Callable[[Subject], Iterator[str]]
#: code -> what it establishes, and how. Order matters: check_privacy reports what pixels showed.
CHECKS: dict[str, tuple[str, Check]] = {
    "names": ("every name is safe, no links", check_names),
    "files": ("no file is missing and none is extra", check_files),
    "checksums": ("every file has its SHA-256", check_sums),
    "manifest": ("manifest.json fits its schema and its counts agree", check_manifest),
    "shards": ("every member is where the manifest says, with its SHA-256", check_shards),
    "origin": ("every case traces to pinned source files", check_origin),
    "leaks": ("no group and no image is in two splits", check_splits),
    "pixels": ("images and labels decode on one grid with known values", check_pixels),
    "boxes": ("boxes lie on their image and are those of the manifest", check_boxes),
    "slices": ("no slice or channel of an image is in two splits", check_slices),
    "croissant": ("croissant.json holds every required field", check_croissant),
    "rows": ("data-meta and annotations have their rows", check_rows),
    "views": ("the files of the views agree with the manifest", check_views),
    "baseline": ("baseline.json fits its schema and is of this bundle", check_baseline),
    "privacy": ("no identifier, path or machine name", check_privacy),
}
