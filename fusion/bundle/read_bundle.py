"""Read a bundle with numpy alone; nibabel opens volumes, Pillow pictures, torch is optional.

This file stands alone and is part of every bundle (tools/read_bundle.py). Public domain: CC0-1.0.

    import sys; sys.path.insert(0, "my-bundle/tools")
    from read_bundle import Bundle

    bundle = Bundle("my-bundle")
    for case in bundle.cases("train"):
        image, affine = bundle.image(case)      # (I, J, K) or (H, W[, C]); channels come last
        label = bundle.label(case)              # value v is bundle.concepts[v - 1]
        mask = bundle.annotated(case)           # which concepts somebody looked for
    loader = torch.utils.data.DataLoader(bundle.torch("train"), batch_size=None)

A concept that is not annotated in a case is unknown there, not absent: see masked.py.

    python my-bundle/tools/read_bundle.py       # what is in it; --check compares every hash
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Case = dict[str, Any]
MAX_BYTES = 4 << 30  # of one unpacked file


class BundleReadError(ValueError):
    """Something is not there, or not what the manifest says."""


class Bundle:
    """A bundle in a folder. Reads by offset: order does not matter, threads may share it."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        path = self.root / "manifest.json"
        if not path.is_file():
            raise BundleReadError(f"{self.root.name}: found no manifest.json")
        self.manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self._open: dict[str, int] = {}

    @property
    def concepts(self) -> list[str]:
        """Value v of a label map is concepts[v - 1]."""
        return list(self.manifest["plan"]["concepts"])

    def cases(self, split: str | None = None, fold: str | None = None) -> Iterator[Case]:
        """Cases with files, in order of id, of one split.

        Leave-one-source-out needs the fold, too: fold0 and so on. Cases whose images may not be
        passed on have no files here; `recipe_only()` lists them.
        """
        for case in self.manifest["cases"]:
            found = case["split"]
            found = found.get(fold or "") if isinstance(found, dict) else found
            if self._rows(case, "image") and (split is None or found == split):
                yield case

    def recipe_only(self) -> list[Case]:
        """Cases that only a rebuild from your own copies of the sources gives."""
        return [case for case in self.manifest["cases"] if not self._rows(case, "image")]

    def image(self, case: Case, *, check: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """The image and its affine (voxel to mm, RAS+), None for pictures.

        A case with several image files (sequences) gets a last axis of channels, in the order of
        `channels`.
        """
        found = [self._decode(row, check) for row in self._rows(case, "image")]
        if not found:
            raise BundleReadError(f"{case['id']}: found no image")
        if len(found) == 1:
            return found[0]
        has_colours = found[0][0].ndim > len(case["shape"])
        join = np.concatenate if has_colours else np.stack
        return join([array for array, _ in found], axis=-1), found[0][1]

    @property
    def channels(self) -> list[str]:
        """Names of a case's images in their order; empty where it has one without a name."""
        return list(self.manifest["plan"]["channels"])

    def label(self, case: Case, *, check: bool = False) -> np.ndarray | None:
        """The label map on the image's grid; None without one."""
        row = next((row for row in case["files"] if row["role"] == "label"), None)
        return self._decode(row, check)[0] if row else None

    def load(
        self, case: Case, role: str, *, check: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """One file as it is: array and affine. Roles are image, image_1, ..., label."""
        row = next((row for row in case["files"] if row["role"] == role), None)
        if row is None:
            raise BundleReadError(f"{case['id']}: found no {role}")
        return self._decode(row, check)

    def annotated(self, case: Case) -> np.ndarray:
        """Bool (concepts,): somebody looked for this concept in this case."""
        return np.array([concept in case["annotated"] for concept in self.concepts])

    def classes(self, case: Case) -> np.ndarray | None:
        """int8 (concepts,): 1 present, 0 absent, -1 uncertain or not annotated."""
        if case["classes"] is None:
            return None
        values = [case["classes"].get(concept) for concept in self.concepts]
        return np.array([-1 if value is None else value for value in values], np.int8)

    def read(self, case: Case, role: str, *, check: bool = False) -> bytes:
        """Bytes of a case's file; with `check`, its SHA-256 is compared."""
        row = next((row for row in case["files"] if row["role"] == role), None)
        if row is None:
            raise BundleReadError(f"{case['id']}: found no {role}")
        return self._read(row, check)

    def check(self) -> list[str]:
        """Members whose bytes are not what the manifest says."""
        wrong = []
        for case in self.manifest["cases"]:
            for row in case["files"]:
                try:
                    self._read(row, True)
                except (BundleReadError, OSError) as error:
                    wrong.append(str(error))
        return wrong

    def torch(self, split: str | None = None, fold: str | None = None) -> TorchCases:
        """A map-style data set for torch.utils.data.DataLoader."""
        return TorchCases(self, split, fold)

    def _rows(self, case: Case, kind: str) -> list[dict[str, Any]]:
        return [row for row in case["files"] if row["role"].partition("_")[0] == kind]

    def _decode(self, row: dict[str, Any], check: bool) -> tuple[np.ndarray, np.ndarray | None]:
        data = self._read(row, check)
        if row["member"].endswith(".nii.gz"):
            import nibabel

            image = nibabel.Nifti1Image.from_bytes(_gunzip(data))
            return np.asanyarray(image.dataobj), np.asarray(image.affine, float)
        from PIL import Image

        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture), None

    def _read(self, row: dict[str, Any], check: bool) -> bytes:
        if row["path"] not in self._open:
            self._open[row["path"]] = os.open(self.root / row["path"], os.O_RDONLY)
        data = os.pread(self._open[row["path"]], row["bytes"], row["offset"])
        if len(data) != row["bytes"]:
            raise BundleReadError(
                f"{row['member']}: found {len(data)} bytes, expected {row['bytes']}"
            )
        if check and (found := hashlib.sha256(data).hexdigest()) != row["sha256"]:
            raise BundleReadError(
                f"{row['member']}: found SHA-256 {found}, expected {row['sha256']}"
            )
        return data

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def __enter__(self) -> Bundle:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Loader processes open the shards themselves."""
        return self.__dict__ | {"_open": {}}


class TorchCases:
    """Items {id, source, image, annotated, label?, classes?}.

    `image` is float32 (C, ...), `label` int64 (...), `annotated` bool (concepts,), `classes` int8
    (concepts,) with -1 for uncertain or unknown.
    """

    def __init__(self, bundle: Bundle, split: str | None, fold: str | None) -> None:
        self.bundle, self.cases = bundle, list(bundle.cases(split, fold))

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Any]:
        import torch

        case, bundle = self.cases[index], self.bundle
        array, _ = bundle.image(case)
        channels_last = array.ndim > len(case["shape"])
        array = np.moveaxis(array, -1, 0) if channels_last else array[None]
        item: dict[str, Any] = {
            "id": case["id"],
            "source": case["source"],
            "image": torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)),
            "annotated": torch.from_numpy(bundle.annotated(case)),
        }
        if (label := bundle.label(case)) is not None:
            item["label"] = torch.from_numpy(np.ascontiguousarray(label, dtype=np.int64))
        if (classes := bundle.classes(case)) is not None:
            item["classes"] = torch.from_numpy(classes)
        return item


def _gunzip(data: bytes) -> bytes:
    """Every gzip member, and no more than MAX_BYTES."""
    parts, total = [], 0
    while data:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        parts.append(inflater.decompress(data, MAX_BYTES - total + 1))
        total += len(parts[-1])
        if total > MAX_BYTES or not inflater.eof:
            raise BundleReadError("a volume is cut short, or unpacks to more than 4 GiB")
        data = inflater.unused_data
    return b"".join(parts)


def main(arguments: list[str]) -> int:
    """Print what is in a bundle; the exit status is 1 when --check finds something wrong."""
    folders = [one for one in arguments if not one.startswith("--")]
    bundle = Bundle(folders[0] if folders else Path(__file__).resolve().parents[1])
    counts: dict[str, int] = {}
    for case in bundle.cases():
        split = case["split"] if isinstance(case["split"], str) else "by fold"
        counts[split] = counts.get(split, 0) + 1
    lines = [
        bundle.manifest["title"],
        f"concepts: {', '.join(bundle.concepts)}",
        f"cases: {', '.join(f'{split} {n}' for split, n in sorted(counts.items())) or 'none'}",
        f"only as a recipe: {len(bundle.recipe_only())}",
    ]
    wrong = bundle.check() if "--check" in arguments else []
    sys.stdout.write("\n".join([*lines, *wrong]) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
