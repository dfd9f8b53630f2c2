"""nnU-Net v2 raw data.

nnU-Net takes a value that is absent as background, which is wrong where nobody looked. So only
concepts that every labelled case was annotated for are exported; value v keeps its order, and
gaps close. With `lossy`, all concepts are, and in a case where one of them was not looked for
every voxel without a label gets the value `ignore`: what was seen to be background there is lost.

Voxels that nobody annotated have the value `ignore` with and without `lossy`.

train and val go to imagesTr and labelsTr (val is the validation fold), test to imagesTs and
labelsTs. With folds all cases are in imagesTr and each fold validates on what it holds out; only
what is test in every fold (official test data) goes to imagesTs.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from functools import partial

import numpy as np
from PIL import Image

from fusion.bundle.content import FOLDED, IGNORE
from fusion.bundle.manifest import CasePart, DetectionManifest, Manifest, ignored_in
from fusion.bundle.pixels import decode, encode_labels
from fusion.bundle.text import json_bytes
from fusion.bundle.views.view import Change, Placed, View, folds_of, images_of, label_of, suffix_of

FIRST_ID, IDS = 500, 500


def dataset_id(bundle_id: str) -> int:
    """500 to 999, from the bundle id alone."""
    return FIRST_ID + int(bundle_id, 16) % IDS


def dataset_name(bundle_id: str, title: str) -> str:
    """`DatasetNNN_Title` with letters and digits only."""
    words = re.findall(r"[A-Za-z0-9]+", title)
    name = "".join(word[0].upper() + word[1:] for word in words)[:40]
    return f"Dataset{dataset_id(bundle_id)}_{name or 'Bundle'}"


def view(manifest: Manifest, *, lossy: bool = False) -> View:
    """The view, or the reason why there is none."""
    labelled = [case for case in manifest.cases if label_of(case) and images_of(case)]
    concepts = _concepts(manifest, labelled, lossy=lossy)
    folds = {fold for case in manifest.cases for fold in folds_of(case)}
    held = {
        case.id
        for case in manifest.cases
        if all(folds_of(case).get(fold) == "test" for fold in folds)
    }
    training = [case for case in labelled if case.id not in held]
    if reason := _reason(manifest, labelled, concepts, training):
        return View({"omitted": reason})
    is_partial = lossy and any(_lacks(case, concepts) for case in labelled)
    ignores = is_partial or any(ignored_in(case) for case in labelled)
    testing = [case for case in manifest.cases if case.id in held and images_of(case)]
    pixels = [
        placed
        for part, cases in (("Tr", training), ("Ts", testing))
        for case in cases
        for placed in _placed(
            manifest, case, part, concepts, is_partial=is_partial, ignores=ignores
        )
    ]
    splits_final = _folds(manifest, training)
    data = {
        "name": dataset_name(manifest.bundle_id, manifest.title),
        "description": f"{manifest.title} (bundle {manifest.bundle_id})",
        "channel_names": _channel_names(manifest),
        "labels": {"background": 0}
        | {concept: value for value, concept in enumerate(concepts, start=1)}
        | ({IGNORE: len(concepts) + 1} if ignores else {}),
        "numTraining": len(training),
        "file_ending": suffix_of(images_of(training[0])[0]),
    }
    folder = data["name"]
    files = {f"{folder}/dataset.json": json_bytes(data)}
    if splits_final:
        files[f"{folder}/splits_final.json"] = json_bytes(splits_final)
    facts = {
        "folder": folder,
        "dataset_id": dataset_id(manifest.bundle_id),
        "concepts": concepts,
        "left_out": [c for c in manifest.plan.concepts if c not in concepts],
        "lossy": is_partial,
        "n_training": len(training),
        "n_test": len(testing),
        "folds": len(splits_final),
    }
    return View(facts, files, tuple(pixels))


def _lacks(case: CasePart, concepts: Sequence[str]) -> bool:
    return not set(concepts) <= set(case.annotated)


def _concepts(manifest: Manifest, labelled: Sequence[CasePart], *, lossy: bool) -> list[str]:
    """In the order of their values: what all cases were annotated for, or with `lossy` any."""
    if not labelled:
        return []
    over = any if lossy else all
    return [c for c in manifest.plan.concepts if over(c in case.annotated for case in labelled)]


def _reason(
    manifest: Manifest,
    labelled: Sequence[CasePart],
    concepts: Sequence[str],
    training: Sequence[CasePart],
) -> str:
    if isinstance(manifest, DetectionManifest):
        return "nnU-Net learns label maps: it has no place for boxes"
    if manifest.plan.task != "segmentation" or not labelled:
        return "no label maps"
    if not concepts:
        return "no concept is annotated in every case; --lossy exports all with an ignore value"
    if not training:
        return "no labelled training case"
    counts = {len(images_of(case)) for case in manifest.cases if images_of(case)}
    if len(counts) > 1:
        return f"cases have {sorted(counts)} images, nnU-Net wants one number for all"
    return ""


def _placed(
    manifest: Manifest,
    case: CasePart,
    part: str,
    concepts: Sequence[str],
    *,
    is_partial: bool,
    ignores: bool,
) -> list[Placed]:
    folder = dataset_name(manifest.bundle_id, manifest.title)
    channels = _channels(manifest)
    in_colour = _in_colour if case.channels != channels else None
    placed = [
        Placed(f"{folder}/images{part}/{case.id}_{number:04d}{suffix_of(row)}", row, in_colour)
        for number, row in enumerate(images_of(case))
    ]
    if label := label_of(case):
        change = _relabel(manifest, case, concepts, is_partial=is_partial, ignores=ignores)
        path = f"{folder}/labels{part}/{case.id}{suffix_of(label)}"
        placed.append(Placed(path, label, change))
    return placed


def _relabel(
    manifest: Manifest, case: CasePart, concepts: Sequence[str], *, is_partial: bool, ignores: bool
) -> Change | None:
    """None where the bundle's label map is right as it is."""
    needs_ignore = is_partial and _lacks(case, concepts)
    if list(concepts) == manifest.plan.concepts and not needs_ignore:
        return None
    last = len(concepts) + int(ignores)
    size = len(manifest.plan.concepts) + 1
    table = np.zeros(size + int(ignores), np.min_scalar_type(last))
    for value, concept in enumerate(concepts, start=1):
        table[manifest.plan.concepts.index(concept) + 1] = value
    if ignores:
        table[size] = last
    if needs_ignore:
        table[table == 0] = last
    return partial(_remap, table)


def _remap(table: np.ndarray, name: str, data: bytes) -> bytes:
    label = decode(name, data)
    return encode_labels(name, table[label.array], label)


def _folds(manifest: Manifest, training: Sequence[CasePart]) -> list[dict[str, list[str]]]:
    held_out = "test" if manifest.plan.protocol in FOLDED else "val"
    rows: dict[str, dict[str, list[str]]] = {}
    for case in training:
        for fold, split in sorted(folds_of(case).items()):
            row = rows.setdefault(fold, {"train": [], "val": []})
            row["val" if split == held_out else "train"].append(case.id)
    return [rows[fold] for fold in sorted(rows) if rows[fold]["val"] and rows[fold]["train"]]


def _channels(manifest: Manifest) -> int:
    return max(case.channels for case in manifest.cases)


def _channel_names(manifest: Manifest) -> dict[str, str]:
    if len(manifest.plan.channels) > 1:
        return {str(number): name for number, name in enumerate(manifest.plan.channels)}
    if _channels(manifest) == len("RGB"):
        return {"0": "R", "1": "G", "2": "B"}
    modalities = {source.modality for source in manifest.sources}
    in_hu = all(case.unit == "hu" for case in manifest.cases)
    # nnU-Net's CT scheme clips to training percentiles: right for Hounsfield units only.
    if modalities == {"CT"}:
        return {"0": "CT" if in_hu else "CT_unscaled"}
    return {"0": modalities.pop() if len(modalities) == 1 else "image"}


def _in_colour(name: str, data: bytes) -> bytes:
    """A grey picture as three equal channels: nnU-Net wants one channel count for all cases."""
    grey = decode(name, data).array
    scaled = grey if grey.dtype == np.uint8 else np.round(grey / 257.0).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.repeat(scaled[..., None], 3, axis=2)).save(out, "PNG", compress_level=6)
    return out.getvalue()
