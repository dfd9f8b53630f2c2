"""A view of the same pixels that nnU-Net v2 trains on as it is.

Only concepts that every labelled case was annotated for are exported: nnU-Net takes a value that is
absent as background, which would be wrong where nobody looked. Value v keeps its order, and
gaps close. train and val go to imagesTr and labelsTr (val is the validation fold), test to
imagesTs and labelsTs; leave-one-source-out puts all in imagesTr and each fold validates on the
source that it holds out.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fusion.bundle.content import Content, Row, described, file_of, image_of, images_of, split_names
from fusion.bundle.pixels import PNG, decode, encode_labels, suffix_of
from fusion.bundle.text import write_json

FIRST_ID, IDS = 500, 500


def dataset_id(bundle_id: str) -> int:
    """500 to 999, from the bundle id alone."""
    return FIRST_ID + int(bundle_id, 16) % IDS


def dataset_name(bundle_id: str, title: str) -> str:
    """`DatasetNNN_Title` with letters and digits only."""
    words = re.findall(r"[A-Za-z0-9]+", title)
    name = "".join(word[0].upper() + word[1:] for word in words)[:40]
    return f"Dataset{dataset_id(bundle_id)}_{name or 'Bundle'}"


def shared_concepts(content: Content, cases: Sequence[Row]) -> list[str]:
    """Concepts that every one of `cases` was annotated for, in the order of their values."""
    return [c for c in content.concepts if all(c in case["annotated"] for case in cases)]


def write_view(content: Content, out: Path) -> dict[str, Any]:
    """Write `nnunet/DatasetNNN_Name` below `out`.

    Returns:
        The view's entry in the manifest; `omitted` says why there is none.
    """
    labelled = [case for case in content.cases if file_of(case, "label")]
    concepts = shared_concepts(content, labelled) if labelled else []
    if content.task != "segmentation" or not concepts:
        reason = "no label maps" if not labelled else "no concept is annotated in every case"
        return {"omitted": reason}
    name = dataset_name(content.bundle_id, content.title)
    writer = _View(content, out / "nnunet" / name, concepts)
    training = [case for case in labelled if content.is_loso or case["split"] != "test"]
    testing = [] if content.is_loso else [c for c in content.cases if c["split"] == "test"]
    if not training:
        return {"omitted": "no labelled training case"}
    for case in training:
        writer.write(case, "Tr")
    for case in testing:
        writer.write(case, "Ts")
    write_json(writer.folder / "dataset.json", writer.dataset_json(len(training)))
    if folds := _folds(content, training):
        write_json(writer.folder / "splits_final.json", folds)
    return {
        "folder": f"nnunet/{name}",
        "dataset_id": dataset_id(content.bundle_id),
        "concepts": concepts,
        "channels": writer.channels,
        "n_training": len(training),
        "n_test": len(testing),
        "folds": len(folds),
    }


def _folds(content: Content, training: Sequence[Row]) -> list[dict[str, list[str]]]:
    held_out = "test" if content.is_loso else "val"
    rows: dict[str, dict[str, list[str]]] = {}
    for case in training:
        for fold, split in sorted(split_names(case).items()):
            row = rows.setdefault(fold, {"train": [], "val": []})
            row["val" if split == held_out else "train"].append(str(case["id"]))
    return [rows[fold] for fold in sorted(rows) if rows[fold]["val"] and rows[fold]["train"]]


class _View:
    def __init__(self, content: Content, folder: Path, concepts: Sequence[str]) -> None:
        self.content, self.folder, self.concepts = content, folder, list(concepts)
        self.suffix = suffix_of(str(image_of(content.cases[0])["path"]))
        self.channels = max(int(case.get("channels") or 1) for case in content.cases)
        table = np.zeros(len(content.concepts) + 1, np.min_scalar_type(len(concepts)))
        for value, concept in enumerate(concepts, start=1):
            table[content.concepts.index(concept) + 1] = value
        self.table = table
        self.is_same = self.concepts == content.concepts

    def write(self, case: Row, part: str) -> None:
        folder = self.content.workdir / "cases" / str(case["id"])
        for number, image in enumerate(images_of(case)):
            target = self._target("images" + part, f"{case['id']}_{number:04d}{self.suffix}")
            if int(case.get("channels") or 1) == self.channels:
                _copy(folder / image["path"], target)
            else:
                _write(target, _in_colour((folder / image["path"]).read_bytes()))
        if label := file_of(case, "label"):
            self._write_label(
                folder / label["path"], self._target("labels" + part, f"{case['id']}{self.suffix}")
            )

    def _target(self, folder: str, name: str) -> Path:
        path = self.folder / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write_label(self, source: Path, target: Path) -> None:
        if self.is_same:
            _copy(source, target)
            return
        label = decode(source.name, source.read_bytes())
        _write(target, encode_labels(source.name, self.table[label.array], label))

    def dataset_json(self, n_training: int) -> dict[str, Any]:
        return {
            "name": self.folder.name,
            "description": f"{self.content.title} (bundle {self.content.bundle_id})",
            "channel_names": self._channel_names(),
            "labels": {"background": 0} | {c: v for v, c in enumerate(self.concepts, start=1)},
            "numTraining": n_training,
            "file_ending": self.suffix,
        }

    def _channel_names(self) -> dict[str, str]:
        if len(named := list(self.content.plan.get("channels") or [])) > 1:
            return {str(number): name for number, name in enumerate(named)}
        if self.channels == len("RGB"):
            return {"0": "R", "1": "G", "2": "B"}
        modalities = {str(described(s).get("modality") or "") for s in self.content.sources}
        in_hu = all(case.get("unit") == "hu" for case in self.content.cases)
        # nnU-Net's CT scheme clips to training percentiles: right for Hounsfield units only.
        if modalities == {"CT"}:
            return {"0": "CT" if in_hu else "CT_unscaled"}
        return {"0": modalities.pop() if len(modalities) == 1 else "image"}


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _write(target: Path, data: bytes) -> None:
    with target.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def _in_colour(data: bytes) -> bytes:
    """A grey picture as three equal channels: nnU-Net wants one channel count for all cases."""
    grey = decode("grey" + PNG, data).array
    scaled = grey if grey.dtype == np.uint8 else np.round(grey / 257.0).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.repeat(scaled[..., None], 3, axis=2)).save(out, "PNG", compress_level=6)
    return out.getvalue()
