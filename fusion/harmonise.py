"""One case: read, check, bring to the plan's profile, write. Excluded cases raise CaseError."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, overload

import numpy as np

from fusion import fingerprint
from fusion.arrays import as_pixels, image_at
from fusion.boxes import boxes_of, on_stored_grid
from fusion.bundle.boxes import BOXES_ROLE, Box, encode_boxes, voxels_in
from fusion.bundle.names import image_roles
from fusion.cases import FoundCase
from fusion.classes import class_of
from fusion.found import ACROSS
from fusion.imaging.boxes import as_boxes, moved, moved_back, ras_step, sizes_of
from fusion.imaging.errors import CaseError
from fusion.imaging.file_hash import file_sha256
from fusion.imaging.geometry import ras_order, same_voxels, to_ras
from fusion.imaging.harmonise import resample, resample_labels, target_grid
from fusion.imaging.hashes import identify, is_blank, t1
from fusion.imaging.intensity import LOWEST_HU, as_hounsfield, ct_unit, rescale
from fusion.imaging.io import image_parts, read_array, read_image, write_nifti, write_png
from fusion.imaging.labels import value_counts
from fusion.imaging.parallel import beside
from fusion.imaging.resize import resize_picture
from fusion.imaging.transforms import Transform, record
from fusion.imaging.volume import Array, Grid, Picture, Volume
from fusion.labels import Image, label_of
from fusion.norm import foreground_sample, norm_facts
from fusion.plan import Plan
from fusion.source import Adjustment, Layer, SourceDescription
from fusion.tables import cross_ids_of, version_of

SAMPLE_FILE, THUMB_FILE = "sample.npy", "thumb.bin"
BOXED = frozenset({"boxes", "bounds"})  # what a source is used for
#: Round trips of structures below the first size are not judged; limits by size, in voxels.
SMALLEST_JUDGED, LARGE = 1_000, 10_000
LOWEST_DICE, LOWEST_DICE_LARGE = 0.85, 0.93


def case_id(source: str, name: str, seed: int) -> str:
    """Safe, unique, and without the original name: `<source>__<12 hex>`."""
    return f"{source}__{sha256(f'{seed}|{source}|{name}'.encode()).hexdigest()[:12]}"


def harmonise_case(
    plan: Plan,
    source: Mapping[str, Any],
    root: Path,
    case: FoundCase,
    folder: Path,
    locked: Mapping[str, str],
) -> dict[str, Any]:
    """Write image and label into `folder`; returns the content of case.json.

    `locked` holds the SHA-256 of each source file as it was acquired.

    Raises:
        CaseError: the case is excluded; the code says why.
    """
    whole = SourceDescription.model_validate(source["description"])
    description = whole.in_use(source["uses"], source["channels"])
    images = [_read(description, root, case, *one) for one in case.channels or [(case.image, -1)]]
    image = images[0]
    volume, derived = image, []
    if case.plane >= 0:
        image, step = _plane_of(description, case, image)
        images, derived = [image], [step]
    if "burned_in_annotation" in getattr(image, "flags", ()):
        raise CaseError("phi_found", f"{case.image}: the header says that words are in the pixels")
    classes = class_of(description, source, root, case)
    row: dict[str, Any] = {
        "id": folder.name,
        "source": source["id"],
        "name": case.name,
        "subject": case.subject,
        "official_split": case.split,
        "origin": _origin(root, description.layers, case, locked),
        "cross_ids": cross_ids_of(root, description.cross_ids, case) + _siblings(source, case),
        "original": fingerprint.facts(image),
        "annotated": list(source["annotated"] if classes is None else classes),
        "flags": list(getattr(image, "flags", ())),
        "findings": [],
        "classes": classes,
    }
    hashed = beside(partial(_t1, images))
    others = [_beside(image, one, case, row) for one in images[1:]]
    label = boxes = None
    ignore = _ignore(plan, description)
    if source["uses"] in BOXED:
        cut = isinstance(image, Picture)
        flat = (
            partial(_plane, description, case, volume)
            if cut and isinstance(volume, Volume)
            else None
        )
        boxes = boxes_of(description, source, plan, root, case, volume, row, flat)
    elif description.layers:
        label = _label(description, source, plan, root, case, volume, row)
    if source["uses"] == "presence":
        counts = _present(plan, label)
        _tell_ignored(plan, label, row)
        label = None
        row["classes"] = {c: int(counts[c] > 0) for c in row["annotated"]}
    row |= identify(images[0], folder / THUMB_FILE, hashed())
    # Arrays are most of a worker's memory: each is let go as soon as nothing needs it.
    del volume
    images.clear()
    _bring(plan, description, case, others, row)
    image = _measured(plan, description, case, image, row)
    label, lost = _label_in_profile(plan, description, case, image, label, row)
    image = _in_profile(plan, description, image, row)
    row["transforms"] = derived + row["transforms"]
    row["norm"] = norm_facts(image, *others)
    roles = dict(zip(image_roles(1 + len(others)), [image, *others], strict=True))
    row["files"] = _write(folder, roles | {"label": label, "label_native": lost})
    if isinstance(image, Volume) and row["norm"]["fitted_on"] == "train":
        np.save(folder / SAMPLE_FILE, foreground_sample(image, _without(label, ignore)))
    row |= _facts(image) | {"intensity": fingerprint.quantiles(image.array)}
    row["channels"] += len(others)
    row["present"] = _present(plan, label)
    if ignore is not None:
        row["ignored"] = 0 if label is None else int(np.count_nonzero(label.array == ignore))
    if boxes is not None:
        _keep_boxes(folder, row, boxes, image, plan.concept_ids())
    return row


def _label(
    description: SourceDescription,
    source: Mapping[str, Any],
    plan: Plan,
    root: Path,
    case: FoundCase,
    image: Image,
    row: dict[str, Any],
) -> Image:
    """The label map of the case: of its plane, where it is one of a volume."""
    label = label_of(description, source, plan, root, case, image, row)
    if case.plane >= 0 and isinstance(label, Volume):
        return Picture(_cut(description, case, label), bits=label.array.dtype.itemsize * 8)
    return label


def _keep_boxes(
    folder: Path, row: dict[str, Any], boxes: Sequence[Box], image: Image, concepts: Sequence[str]
) -> None:
    """The boxes where the image's own steps took them, in the case's row and beside its pixels."""
    is_volume = isinstance(image, Volume)
    sizes = sizes_of(image.array.shape, is_volume=is_volume)
    placed = on_stored_grid(boxes, row["transforms"], sizes)
    if lost := len(boxes) - len(placed):
        row["flags"].append("structure_lost")
        detail = f"{row['name']}: {lost} of {len(boxes)} boxes have no voxel of the target grid"
        row["findings"].append({"code": "structure_lost", "detail": detail})
    row["boxes"] = [asdict(box) for box in placed]
    row["present"] = voxels_in(placed, concepts)
    row["files"].append(_write_boxes(folder, placed, is_volume=is_volume))


def read_original(description: SourceDescription, root: Path, case: FoundCase) -> Image:
    """The (first) image of a case as its files give it."""
    return _read(description, root, case, *(case.channels or [(case.image, -1)])[0])


def _read(
    description: SourceDescription, root: Path, case: FoundCase, path: str, channel: int
) -> Image:
    """One image, or the channel `channel` (-1: there is one) of a file that holds several."""
    image = _open(description, root, case, path, None if channel < 0 else channel)
    if is_blank(image):
        name = path if channel < 0 else f"{path} channel {channel}"
        raise CaseError("degenerate", f"{name}: one value only ({image.array.flat[0]})")
    return image


def _open(
    description: SourceDescription, root: Path, case: FoundCase, path: str, channel: int | None
) -> Image:
    is_solid = description.dimension == "3D"
    if case.array:
        return _of_array(image_at(root, case.array), is_solid, path)
    full = root / path
    if full.is_file() and full.stat().st_size == 0:
        raise CaseError("unreadable", f"{path}: the file is empty")
    if description.cases.array:
        array = as_pixels(read_array(full, description.cases.array))
        return _of_array(array, is_solid, path)
    planes = description.cases.planes
    if planes and planes.axis:
        is_solid, image = True, _volume(full, description.geometry, version_of(full))
    else:
        channel = case.plane if case.plane >= 0 else channel
        image = read_image(full, form=description.geometry, channel=channel)
    wanted = Volume if is_solid else Picture
    if not isinstance(image, wanted):
        raise CaseError(
            "unreadable",
            f"{path}: a {'2D' if wanted is Volume else '3D'} image, the source description "
            f"says {description.dimension}",
        )
    return image


def _of_array(array: Array, is_solid: bool, path: str) -> Image:
    """An array, which says nothing of place, as the image that the description says it is."""
    if is_solid and array.ndim == 3:  # noqa: PLR2004
        i, j, k = array.shape
        return Volume(array, Grid((i, j, k), np.eye(4)), "none")
    if is_solid:
        raise CaseError("unreadable", f"{path}: {array.shape}, the source description says 3D")
    return Picture(array, bits=8 * array.dtype.itemsize)


@lru_cache(maxsize=2)
def _volume(path: Path, form: str | None, _: tuple[int, int]) -> Image:
    """A volume that many cases are slices of is read once."""
    return read_image(path, form=form)


def _siblings(source: Mapping[str, Any], case: FoundCase) -> list[str]:
    """An id that all planes of one image have, so that they stay together whoever it shows."""
    if case.plane < 0:
        return []
    whole = f"{source['id']}|{dict(case.fields)['image']}"
    return [f"planes:{sha256(whole.encode()).hexdigest()[:12]}"]


def _plane_of(
    description: SourceDescription, case: FoundCase, image: Image
) -> tuple[Picture, dict[str, Any]]:
    """The frame or slice that the case is, and the step that led to it."""
    rule = description.cases.planes
    params: dict[str, Any] = {"index": case.plane}
    if isinstance(image, Picture):
        return image, record("frame", params, image, image, invertible=False).as_dict()
    if rule is None:
        raise ValueError(f"{case.name} is a plane of a source without planes")
    measured = image
    if unit := description.intensity:
        measured, _ = rescale(image, unit.slope, unit.intercept)
        params |= {"slope": unit.slope, "intercept": unit.intercept}
    array = _cut(description, case, measured)
    if rule.window:
        low, high = rule.window
        share = (array.astype(np.float64).clip(low, high) - low) / (high - low)
        array = np.rint(share * np.iinfo(np.uint8).max).astype(np.uint8)
        params |= {"window": [low, high]}
    array = as_pixels(array)
    if array.dtype not in (np.uint8, np.uint16):
        seen = f"values from {array.min():g} to {array.max():g}"
        raise CaseError(
            "dtype_refused",
            f"{case.image}: {seen}: a picture holds whole numbers from 0 to 65535; state "
            "`window` under planes",
        )
    picture = Picture(np.ascontiguousarray(array), bits=8 * array.dtype.itemsize)
    if is_blank(picture):
        raise CaseError("degenerate", f"{case.image} plane {case.plane}: one value only")
    params |= {"axis": rule.axis}
    return picture, record("frame", params, image, picture, invertible=False).as_dict()


def _cut(description: SourceDescription, case: FoundCase, volume: Volume) -> Array:
    """One plane as it is looked at: front or head up, patient right on the viewer's left."""
    return _plane(description, case, volume, volume.array)


def _plane(description: SourceDescription, case: FoundCase, volume: Volume, values: Array) -> Array:
    """The same plane of any array on the volume's grid."""
    rule = description.cases.planes
    array = to_ras(volume.with_array(values))[0].array
    across = ACROSS[rule.axis if rule else ""]
    if case.plane >= array.shape[across]:
        raise CaseError(
            "unreadable", f"{case.image}: no plane {case.plane}; it has {array.shape[across]}"
        )
    plane: Array = np.take(array, case.plane, axis=across)[::-1, ::-1].T
    return plane


def _t1(images: Sequence[Image]) -> str:
    """T1 of the only channel, or of all of them in their order."""
    each = [t1(image) for image in images]
    return each[0] if len(each) == 1 else sha256("".join(each).encode()).hexdigest()


def _beside(first: Image, other: Image, case: FoundCase, row: dict[str, Any]) -> Image:
    """Another channel of a case on the grid of its first; what had to move is recorded."""
    path = case.channels[0][0]
    if not isinstance(first, Volume) or not isinstance(other, Volume):
        shapes = [one.array.shape for one in (first, other)]
        if shapes[0] != shapes[1] or isinstance(first, Volume) or len(shapes[0]) > 2:  # noqa: PLR2004
            raise CaseError(
                "grid_conflict",
                f"{path}: channels are {shapes[0]} and {shapes[1]}, expected grey "
                "pictures of one size",
            )
        return other
    ours, theirs = (ras_order(one.grid)[2] for one in (first, other))
    if ours.same_as(theirs):
        return resample(other, first.grid, interpolation="nearest")
    if ours.shape != theirs.shape:
        same_voxels(first, other)  # raises where one affine serves two shapes
    detail = f"{case.name}: from {other.grid.shape} at {other.grid.spacing_mm} mm"
    row["findings"].append({"code": "channel_resampled", "detail": detail})
    return resample(other, first.grid)


@lru_cache(maxsize=4)
def _digest(path: Path, _: tuple[int, int]) -> str:
    return file_sha256(path)


def _bring(
    plan: Plan,
    description: SourceDescription,
    case: FoundCase,
    others: list[Image],
    row: Mapping[str, Any],
) -> None:
    """Bring the other channels, in their list, to where the first one goes.

    They lie on its grid: what is done to it is done to them.
    """
    for number in range(len(others)):
        own = {"flags": row["flags"], "findings": row["findings"]}
        others[number] = _measured(plan, description, case, others[number], own)
        others[number] = _in_profile(plan, description, others[number], own)


def _measured(
    plan: Plan, description: SourceDescription, case: FoundCase, image: Image, row: dict[str, Any]
) -> Image:
    """The image in RAS order and in its unit; of a picture, in the size that it was made in."""
    row["transforms"] = []
    if isinstance(image, Picture):
        return _native_size(description, case, image, row)
    if plan.profile == "native":
        return _with_unit(description, case, image, row)[0]
    turned = image
    if description.geometry != "none":
        turned, step = to_ras(image)
        row["transforms"].append(step.as_dict())
    measured, changes = _with_unit(description, case, turned, row)
    if description.geometry != "none" and measured.unit == "hu":
        measured, more = as_hounsfield(measured)
        changes += more
    row["transforms"] += [change.as_dict() for change in changes]
    return measured


def _target(plan: Plan, description: SourceDescription, image: Volume) -> Grid | None:
    """The grid that the plan's profile wants; None where voxels stay where they are."""
    if plan.profile != "grid" or plan.spacing_mm is None or description.geometry == "none":
        return None
    return target_grid(image.grid, plan.spacing_mm)


def _label_in_profile(
    plan: Plan,
    description: SourceDescription,
    case: FoundCase,
    image: Image,
    label: Image | None,
    row: dict[str, Any],
) -> tuple[Image | None, Image | None]:
    """The label where `image` will be, and the native one where it was lost on the way."""
    if isinstance(label, Picture):
        return _native_label(description, case, label), None
    if label is None or isinstance(image, Picture) or plan.profile == "native":
        return label, None
    if description.geometry != "none":
        label = replace(to_ras(label)[0], grid=image.grid)
    if (grid := _target(plan, description, image)) is None:
        return label, None
    on_grid, flags = _label_on(grid, label, _ignore(plan, description))
    row["flags"] += flags
    row["findings"] += [{"code": flag, "detail": case.name} for flag in flags]
    _round_trip(plan, label, on_grid, case, row)
    return on_grid, label if "structure_lost" in flags else None


def _in_profile(
    plan: Plan, description: SourceDescription, image: Image, row: dict[str, Any]
) -> Image:
    """What `_measured` gave, on the plan's grid."""
    if isinstance(image, Picture) or (grid := _target(plan, description, image)) is None:
        return image
    kind = np.int16 if image.unit == "hu" else np.float32
    moved = resample(image, grid, smooth=True, fill=_outside(image), dtype=kind)
    params = {"interpolation": "linear", "smoothing": "gaussian 0.35 voxel per factor"}
    step = record("resample", params, image, moved, invertible=True)
    row["transforms"].append(step.as_dict())
    return moved


def _ignore(plan: Plan, description: SourceDescription) -> int | None:
    """The label value where nobody annotated; None where the source never says so."""
    return len(plan.concepts) + 1 if description.ignores else None


def _label_on(grid: Grid, label: Volume, ignore: int | None) -> tuple[Volume, list[str]]:
    """`resample_labels`; where the nearest voxel is ignored, so is the new one."""
    if ignore is None:
        return resample_labels(label, grid)
    seen, flags = resample_labels(label.with_array(_without(label, ignore).array), grid)
    unseen = label.with_array((label.array == ignore).astype(np.uint8))
    inside = resample(unseen, grid, interpolation="nearest").array > 0
    if not inside.any():
        return seen, flags
    return seen.with_array(np.where(inside, label.array.dtype.type(ignore), seen.array)), flags


@overload
def _without(label: Volume, ignore: int | None) -> Volume: ...
@overload
def _without(label: Image | None, ignore: int | None) -> Image | None: ...
def _without(label: Image | None, ignore: int | None) -> Image | None:
    """The label map with background where nobody annotated."""
    if label is None or ignore is None:
        return label
    return replace(label, array=np.where(label.array == ignore, 0, label.array))


def _tell_ignored(plan: Plan, label: Image | None, row: dict[str, Any]) -> None:
    """Classes made of masks cannot say that a part of the image was not annotated."""
    ignore = len(plan.concepts) + 1
    if label is not None and (voxels := int(np.count_nonzero(label.array == ignore))):
        detail = f"{row['name']}: {voxels} voxels are not annotated, which classes cannot say"
        row["findings"].append({"code": "ignore_lost", "detail": detail})


def _with_unit(
    description: SourceDescription, case: FoundCase, image: Volume, row: dict[str, Any]
) -> tuple[Volume, list[Transform]]:
    """The image with its unit: by the source's rule, else as a CT's values show it.

    Raises:
        CaseError: unit_conflict, when a CT without a rule is stored in another unit.
    """
    rule = description.intensity
    if rule is not None:
        if (rule.slope, rule.intercept) == (1, 0):
            return replace(image, unit=rule.unit), []
        scaled, step = rescale(image, rule.slope, rule.intercept)
        return replace(scaled, unit=rule.unit), [step]
    if description.modality != "CT":
        return image, []
    unit, seen = ct_unit(image)
    if unit in {"offset", "windowed"}:
        hint = "unit: hu, intercept: -1024" if unit == "offset" else "unit: windowed"
        raise CaseError(
            "unit_conflict",
            f"{case.image}: a CT with {seen} looks {unit}, expected Hounsfield units; if so, the "
            f"source description may say `intensity: {{{hint}}}`",
        )
    if unit == "unknown":
        row["findings"].append({"code": "unit_unknown", "detail": f"{case.image}: CT with {seen}"})
    return replace(image, unit=unit), []


def _outside(image: Volume) -> float:
    """What lies beyond a scan: air in a CT, else its smallest value."""
    return float(LOWEST_HU if image.unit == "hu" else image.array.min())


def _round_trip(
    plan: Plan, native: Volume, on_grid: Volume, case: FoundCase, row: dict[str, Any]
) -> None:
    """Dice per concept of the label taken to the grid and back: no model can score above it."""
    back = resample(on_grid, native.grid, interpolation="one_hot").array
    size = len(plan.concepts) + 2  # one more may be where nobody annotated
    before, after = value_counts(native.array, size), value_counts(back, size)
    pairs = zip(native.array, back, strict=True)  # plane by plane: no copy of the whole
    same = np.sum([np.bincount(one[one == other], minlength=size) for one, other in pairs], axis=0)
    row["roundtrip"] = {}
    for value, concept in enumerate(plan.concept_ids(), start=1):
        voxels = int(before[value])
        if not voxels:
            continue
        dice = round(2 * int(same[value]) / (voxels + int(after[value])), 6)
        row["roundtrip"][concept] = {"dice": dice, "voxels": voxels}
        limit = LOWEST_DICE_LARGE if voxels >= LARGE else LOWEST_DICE
        if voxels >= SMALLEST_JUDGED and dice < limit:
            detail = f"{case.name}: {concept}: Dice {dice:.3f} after the way there and back"
            row["findings"].append(
                {"code": "low_roundtrip", "detail": f"{detail} ({voxels} voxels, limit {limit})"}
            )
            row["flags"].append("low_roundtrip")


def _native_size(
    description: SourceDescription, case: FoundCase, image: Picture, row: dict[str, Any]
) -> Picture:
    """Undo what a host did to the size of this copy, as its description declares."""
    for rule, size in _sizes(description, case, image):
        height, width = image.array.shape[:2]
        smaller = size[0] <= height and size[1] <= width
        kind = "area" if smaller else "linear"
        before, image = image, resize_picture(image, size, kind)
        step = record(
            "resample",
            {"interpolation": kind, "reason": rule.reason},
            before,
            image,
            invertible=True,
        )
        row["transforms"].append(step.as_dict())
        row["findings"].append({"code": "shared_scale", "detail": f"{case.name}: {rule.reason}"})
    return image


def _native_label(description: SourceDescription, case: FoundCase, label: Picture) -> Picture:
    for _, size in _sizes(description, case, label):
        label = _shrink_label(label, size)
    return label


def _sizes(
    description: SourceDescription, case: FoundCase, picture: Picture
) -> Iterator[tuple[Adjustment, tuple[int, int]]]:
    """The rules that hold for this copy, each with the rows and columns that it goes back to."""
    height, width = picture.array.shape[:2]
    for rule in description.adjust:
        if re.fullmatch(rule.only, case.name):
            if rule.native_size:
                height, width = rule.native_size
            elif rule.enlarged_by:
                height, width = round(height / rule.enlarged_by), round(width / rule.enlarged_by)
            yield rule, (height, width)


def _shrink_label(label: Picture, size: tuple[int, int]) -> Picture:
    """Each concept by the share of the new pixel that it covers; a half or more wins."""
    values = [int(v) for v in np.unique(label.array) if v]
    out = np.zeros(size, label.array.dtype)
    for value in values:
        share = resize_picture(
            Picture((label.array == value).astype(np.float32), 32), size, "area"
        ).array
        out[share >= 0.5] = value  # noqa: PLR2004
    return replace(label, array=out)


def _origin(
    root: Path, layers: Sequence[Layer], case: FoundCase, locked: Mapping[str, str]
) -> dict[str, Any]:
    """Path, SHA-256 and size of the case's files.

    Raises:
        CaseError: upstream_changed, when a file is not what was acquired.
    """

    def as_acquired(full: Path) -> str:
        path, digest = full.relative_to(root).as_posix(), _digest(full, version_of(full))
        if digest != locked.get(path):
            expected = locked.get(path, "none")[:12]
            raise CaseError(
                "upstream_changed",
                f"{path}: SHA-256 is {digest[:12]}, expected {expected} as acquired",
            )
        return digest

    def one(path: str) -> dict[str, Any]:
        full = root / path
        if full.is_dir():
            files = sorted(p for p in full.iterdir() if p.is_file())
            text = "".join(f"{as_acquired(p)}  {p.name}\n" for p in files)
            digest = sha256(text.encode()).hexdigest()
            size = sum(p.stat().st_size for p in files)
        else:
            parts = image_parts(full)
            digests = [as_acquired(part) for part in parts]
            size = sum(part.stat().st_size for part in parts)
            lines = "".join(f"{d}  {p.name}\n" for d, p in zip(digests, parts, strict=True))
            digest = digests[0] if len(parts) == 1 else sha256(lines.encode()).hexdigest()
        return {"path": path, "sha256": digest, "bytes": size}

    part = {"row": case.array.row, "array": case.array.images} if case.array else {}
    part |= {"plane": case.plane} if case.plane >= 0 else {}
    found: dict[str, Any] = {
        "image": one(case.image) | part,
        "labels": [
            one(path) | ({"entry": case.name} if layer.kind == "shapes" else {})
            for layer, files in zip(layers, case.layers, strict=False)
            for path in files
        ],
    }
    if further := list(dict.fromkeys(path for path, _ in case.channels if path != case.image)):
        found["channels"] = [one(path) for path in further]
    return found


def _write(folder: Path, images: Mapping[str, Image | None]) -> list[dict[str, Any]]:
    """One file per role that has an image."""
    files = []
    for role, one in images.items():
        if one is None:
            continue
        path = folder / f"{role}{'.nii.gz' if isinstance(one, Volume) else '.png'}"
        if isinstance(one, Volume):
            write_nifti(one, path)
        else:
            write_png(one, path)
        files.append(
            {
                "role": role,
                "path": path.name,
                "sha256": file_sha256(path),
                "bytes": path.stat().st_size,
            }
        )
    return files


def _write_boxes(
    folder: Path, boxes: Sequence[Box], *, is_volume: bool, role: str = BOXES_ROLE
) -> dict[str, Any]:
    data, path = encode_boxes(boxes, is_volume=is_volume), folder / f"{role}.csv"
    path.write_bytes(data)
    digest = sha256(data).hexdigest()
    return {"role": role, "path": path.name, "sha256": digest, "bytes": len(data)}


def add_label_layer(cases: Path, kept: Mapping[str, Any], other: Mapping[str, Any]) -> list[Any]:
    """Write another source's label of the same image beside the kept one's, on its grid.

    Args:
        cases: folder of the work folder that holds a folder per case.

    Returns:
        The file's row, or none when the label cannot lie on the kept image's grid.
    """
    if "boxes" in kept and "boxes" in other:
        return _add_box_layer(cases, kept, other)
    mine, theirs = (
        next((f for f in row["files"] if f["role"] == "label"), None) for row in (kept, other)
    )
    if mine is None or theirs is None:
        return []
    here, there = (
        read_image(cases / row["id"] / file["path"])
        for row, file in ((kept, mine), (other, theirs))
    )
    role = _layer_role("label", kept, other)
    path = cases / kept["id"] / mine["path"].replace("label", role, 1)
    if isinstance(here, Volume) and isinstance(there, Volume):
        axes, flips, grid = ras_order(here.grid)
        turned = to_ras(there)[0].array
        if turned.shape != grid.shape:
            return []
        turned = turned[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
        write_nifti(replace(here, array=turned.transpose(np.argsort(axes))), path)
    elif here.array.shape == there.array.shape:
        write_png(there, path)  # type: ignore[arg-type]
    else:
        return []
    row = {"role": role, "path": path.name, "source": other["source"]}
    return [row | {"sha256": file_sha256(path), "bytes": path.stat().st_size}]


def _layer_role(kind: str, kept: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    roles = [file["role"] for file in kept["files"]]
    role = f"{kind}_{other['source']}".replace("-", "_")
    return role + (f"_{len(roles)}" if role in roles else "")


def _add_box_layer(cases: Path, kept: Mapping[str, Any], other: Mapping[str, Any]) -> list[Any]:
    """The other's boxes, taken to the kept image's order of axes: both hold the same voxels."""
    boxes = [Box(b["concept"], tuple(b["corners"]), b["derived"]) for b in other["boxes"]]
    axes = len(kept["shape"])
    there = moved(as_boxes((b.corners for b in boxes), axes), ras_step(other))
    here = moved_back(there, ras_step(kept)).tolist()
    placed = [replace(b, corners=tuple(place)) for b, place in zip(boxes, here, strict=True)]
    role = _layer_role(BOXES_ROLE, kept, other)
    folder = cases / kept["id"]
    row = _write_boxes(folder, placed, is_volume=axes == 3, role=role)  # noqa: PLR2004
    return [row | {"source": other["source"]}]


def _facts(image: Image) -> dict[str, Any]:
    shape = list(image.array.shape)
    if isinstance(image, Volume):
        is_placed = image.geometry != "none"
        spacing = [round(s, 6) for s in image.grid.spacing_mm] if is_placed else None
        axcodes = image.grid.axcodes if is_placed else None
        place = {"spacing_mm": spacing, "axcodes": axcodes, "channels": 1, "unit": image.unit}
    else:
        shape = shape[:2]
        place = {"spacing_mm": None, "axcodes": None, "channels": image.channels, "unit": "unknown"}
    return {"shape": shape, "dtype": str(image.array.dtype), **place}


def _present(plan: Plan, label: Image | None) -> dict[str, int]:
    if label is None:
        return {}
    counts = value_counts(label.array, len(plan.concepts) + 1)
    return {c: int(counts[i + 1]) for i, c in enumerate(plan.concept_ids())}


def save_case(folder: Path, row: Mapping[str, Any]) -> None:
    """Write case.json last and whole: its presence says that the case is finished."""
    part = folder / "case.json.part"
    part.write_text(json.dumps(row, sort_keys=True, indent=1, ensure_ascii=False) + "\n", "utf-8")
    part.replace(folder / "case.json")
