"""Read a bundle: iterate its cases, read any file at random, feed a training loop."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.bundle.errors import BundleError
from fusion.bundle.manifest import CasePart, FilePart, Manifest
from fusion.bundle.names import IMAGE_ROLE
from fusion.bundle.pixels import Decoded, decode


class Bundle:
    """A bundle in a folder. Reads by offset, so order does not matter and threads may share it."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        path = self.root / "manifest.json"
        if not path.is_file():
            raise BundleError("not_found", f"{self.root.name}: found no manifest.json")
        self.manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        self._files: dict[str, int] = {}

    @property
    def concepts(self) -> list[str]:
        """Value v of a label map is concepts[v - 1]."""
        return self.manifest.plan.concepts

    def cases(self, split: str | None = None, fold: str | None = None) -> Iterator[CasePart]:
        """Cases in order of id, of one split; leave-one-source-out needs the fold, too."""
        for case in self.manifest.cases:
            found = case.split if isinstance(case.split, str) else case.split.get(fold or "")
            if split is None or found == split:
                yield case

    def read(self, case: CasePart, role: str, *, check: bool = False) -> bytes:
        """Bytes of the case's `image`, `label` or `record`.

        Raises:
            BundleError: the case has no such file; with `check`, its SHA-256 differs.
        """
        row = next((row for row in case.files if row.role == role), None)
        if row is None:
            raise BundleError("not_found", f"{case.id}: found no {role}")
        data = self._pread(row)
        if check and (found := hashlib.sha256(data).hexdigest()) != row.sha256:
            raise BundleError(
                "file_changed", f"{row.member}: found SHA-256 {found}, expected {row.sha256}"
            )
        return data

    def load(self, case: CasePart, role: str) -> Decoded:
        """The image or label map as an array, (I, J, K) or (H, W[, C])."""
        row = next((row for row in case.files if row.role == role), None)
        return decode(row.member if row else role, self.read(case, role))

    def _pread(self, row: FilePart) -> bytes:
        if row.path not in self._files:
            self._files[row.path] = os.open(self.root / row.path, os.O_RDONLY)
        return os.pread(self._files[row.path], row.bytes, row.offset)

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Loader processes open the shards themselves."""
        return self.__dict__ | {"_files": {}}


def _channels(image: Decoded) -> NDArray[np.float32]:
    """(C, ...): the colours of a picture, or the one channel of a file."""
    array = np.ascontiguousarray(image.array, dtype=np.float32)
    has_colours = image.affine is None and array.ndim > len(image.grid_shape)
    return np.moveaxis(array, -1, 0) if has_colours else array[None]


class TorchCases:
    """A map-style dataset for `torch.utils.data.DataLoader`.

    An item is {id, source, image, annotated, label?, classes?}. `image` is float32
    (C, ...); `annotated` is bool (n_concepts,): loss and metrics of a concept use only the cases
    where it is true. `classes` is int8 (n_concepts,): 1 present, 0 absent, -1 uncertain or unknown.
    """

    def __init__(self, bundle: Bundle, split: str, fold: str | None = None) -> None:
        self.bundle, self.cases = bundle, list(bundle.cases(split, fold))

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Any]:
        import torch

        case = self.cases[index]
        roles = [row.role for row in case.files if IMAGE_ROLE.fullmatch(row.role)]
        array = np.concatenate([_channels(self.bundle.load(case, role)) for role in roles])
        item = {
            "id": case.id,
            "source": case.source,
            "image": torch.from_numpy(np.ascontiguousarray(array)),
            "annotated": torch.tensor([c in case.annotated for c in self.bundle.concepts]),
        }
        if any(row.role == "label" for row in case.files):
            label = self.bundle.load(case, "label").array.astype(np.int64)
            item["label"] = torch.from_numpy(np.ascontiguousarray(label))
        if case.classes is not None:
            values = [case.classes.get(concept, -1) for concept in self.bundle.concepts]
            item["classes"] = torch.tensor(values, dtype=torch.int8)
        return item
