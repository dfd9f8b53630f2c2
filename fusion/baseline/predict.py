"""Use the weights of a bundle on new images: predictions come back on each image's own grid."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fusion.baseline import FOLDER
from fusion.baseline.classify import Classifier
from fusion.baseline.detect import Detector
from fusion.baseline.device import held, settled
from fusion.baseline.fit import Room
from fusion.baseline.grid import SOLID, Canvas, Stack, placed
from fusion.baseline.segment import Predictor
from fusion.baseline.weights import NETWORK, Design, read
from fusion.bundle.boxes import PICTURE_COLUMNS
from fusion.imaging.errors import CaseError
from fusion.imaging.geometry import to_ras
from fusion.imaging.harmonise import resample, target_grid
from fusion.imaging.intensity import as_hounsfield
from fusion.imaging.io import read_image, write_nifti, write_png
from fusion.imaging.volume import Picture, Volume
from fusion.norm import norm_facts

Image = Volume | Picture
_PROBABILITIES, _BOXES = "probabilities.csv", "boxes.csv"


@dataclass(frozen=True)
class Prediction:
    """Of one image: a label map on its grid, the probability of each class, or boxes."""

    label: Image | None = None
    probability: dict[str, float] | None = None
    boxes: tuple[FoundBox, ...] | None = None


@dataclass(frozen=True)
class FoundBox:
    """A box in pixels of the image that was given: x0, y0, x1, y1; pixel n covers n to n + 1."""

    concept: str
    corners: tuple[float, ...]
    confidence: float


def predict_files(
    folder: Path, images: Sequence[Sequence[Path]], out: Path, *, device: str = "auto"
) -> list[Path]:
    """Predict images and write a label map of each, or one table of probabilities or boxes.

    Args:
        folder: a bundle, or its `baseline/`.
        images: files of each case, one per channel; any format that a recipe may use.
        out: folder of `<name>.nii.gz`, `<name>.png`, probabilities.csv or boxes.csv. Value v of
            a label map is the v-th concept of network.json.
        device: auto, cpu or cuda.

    Returns:
        The files written.

    Raises:
        ValueError: no weights there, or two images of one name.
        CaseError: an image cannot be read, or is not what the network was trained on.
    """
    names = [_stem(files[0]) for files in images]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"images: found {twice[0]!r} twice, expected names of their own")
    written, rows, boxes = list[Path](), list[Sequence[str]](), list[Sequence[str]]()
    with held(device) as place:
        model = Model.read(folder, place)
        out.mkdir(parents=True, exist_ok=True)
        for name, files in zip(names, images, strict=True):
            found = model.predict([read_image(path) for path in files], files[0].name)
            if found.label is not None:
                written.append(_write(found.label, out / name))
            if found.probability is not None:
                rows.append([name, *(f"{p:.6f}" for p in found.probability.values())])
            boxes += [
                [name, box.concept, *(f"{c:.2f}" for c in box.corners), f"{box.confidence:.6f}"]
                for box in found.boxes or ()
            ]
    if model.design.task == "classification":
        written.append(_table(out / _PROBABILITIES, model.design.concepts, rows))
    if model.design.task == "detection":
        written.append(_table(out / _BOXES, ["concept", *PICTURE_COLUMNS, "confidence"], boxes))
    return written


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    return name.rpartition(".")[0] or name


def _write(label: Image, path: Path) -> Path:
    if isinstance(label, Volume):
        path = path.with_name(f"{path.name}.nii.gz")
        write_nifti(label, path)
    else:
        path = path.with_name(f"{path.name}.png")
        write_png(label, path)
    return path


def _table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["image", *columns], *rows])
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Model:
    """A trained network with all that an image needs on its way to it."""

    net: nn.Module
    design: Design
    predictor: Predictor

    @classmethod
    def read(cls, folder: Path, place: torch.device | None = None) -> Model:
        """The weights of a bundle, or of its `baseline/`.

        Raises:
            ValueError: there are none.
        """
        inside = folder / FOLDER
        net, design = read(inside if (inside / NETWORK).is_file() else folder)
        place = place or torch.device("cpu")
        net = settled(net, place, design.canvas.dims)
        return cls(net, design, Predictor(design.canvas, place, Room([])))

    def predict(self, channels: Sequence[Image], name: str = "image") -> Prediction:
        """One case; `channels` lie on one grid, or are brought to that of the first.

        Raises:
            CaseError: another number of channels, or a picture where volumes were learnt.
        """
        design = self.design
        self._check(channels, name)
        images = [self._harmonised(one, channels[0]) for one in channels]
        first = images[0]
        spacing = first.grid.spacing_mm if isinstance(first, Volume) else None
        norm = norm_facts(first, *images[1:])
        stack = placed(
            [one.array for one in images], None, spacing, norm, design.canvas, design.unit
        )
        if design.task == "classification":
            learner = Classifier(design.concepts, design.exclusive, design.canvas, {})
            found = learner.probabilities(self.net, stack, self.predictor)
            return Prediction(probability=found)
        if design.task == "detection":
            return Prediction(boxes=self._boxes(stack, first.array.shape))
        label = self._label(stack, first)
        if isinstance(first, Picture):
            return Prediction(Picture(label))
        mask = replace(first, array=label, unit="unknown", flags=())
        native = channels[0]
        if not isinstance(native, Volume):
            raise TypeError(f"{name}: a volume became of {type(native).__name__}")
        return Prediction(resample(mask, native.grid, interpolation="one_hot"))

    def _check(self, channels: Sequence[Image], name: str) -> None:
        expected = max(1, len(self.design.channels))
        if len(channels) != expected:
            names = ", ".join(self.design.channels) or "one image"
            raise CaseError(
                "unreadable", f"{name}: found {len(channels)} channels, expected {names}"
            )
        wants_volume = self.design.canvas.voxel_mm is not None
        if any(isinstance(one, Volume) != wants_volume for one in channels):
            kinds = ("picture", "volume")
            raise CaseError(
                "unreadable",
                f"{name}: found a {kinds[not wants_volume]}, expected a {kinds[wants_volume]}",
            )

    def _harmonised(self, image: Image, first: Image) -> Image:
        """As the build does it: RAS, HU, the target's grid."""
        if not isinstance(image, Volume) or not isinstance(first, Volume):
            return image
        target = self.design.target
        if self.design.unit == "hu":
            image = as_hounsfield(replace(image, unit="hu"))[0]
        if target.get("profile") == "native":
            return image if image is first else resample(image, first.grid)
        turned, grid = to_ras(image)[0], to_ras(first)[0].grid
        if target.get("profile") == "grid" and target.get("spacing_mm"):
            grid = target_grid(grid, target["spacing_mm"])
            fill = float(turned.array.min())
            kind = np.int16 if self.design.unit == "hu" else np.float32
            return resample(turned, grid, smooth=True, fill=fill, dtype=kind)
        return turned if turned.grid.same_as(grid) else resample(turned, grid)

    def _boxes(self, stack: Stack, shape: tuple[int, ...]) -> tuple[FoundBox, ...]:
        """On the picture that was given: it was only made smaller or larger, and padded."""
        design = self.design
        finder = Detector(design.concepts, design.canvas, {})
        found = finder.detected(self.net, stack, shape, self.predictor)
        return tuple(
            FoundBox(design.concepts[k], tuple(corners), confidence)
            for corners, k, confidence in zip(
                found.boxes.tolist(), found.classes.tolist(), found.confidence.tolist(), strict=True
            )
        )

    def _label(self, stack: Stack, image: Image) -> npt.NDArray[np.uint8]:
        """Label map on the image's voxels: the likeliest concept above one half."""
        canvas = self.design.canvas
        logits = stack.unpadded(self.predictor.logits(self.net, stack.images))
        shape = image.array.shape if isinstance(image, Volume) else image.array.shape[:2]
        planes = [enlarged(torch.from_numpy(one[None]), canvas, shape) for one in logits]
        if canvas.dims == SOLID or canvas.axis is None:
            return planes[0]
        return np.ascontiguousarray(np.moveaxis(np.stack(planes), 0, canvas.axis))


def enlarged(logits: Tensor, canvas: Canvas, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Labels of logits (1, K, ...) on the plane or volume that they were made small from."""
    modes = {2: "bilinear", SOLID: "trilinear"}
    # Corners are those of the outermost pixels, as when the image was made small.
    grow = partial(nn.functional.interpolate, mode=modes[canvas.dims], align_corners=False)
    best, label = torch.zeros(()), torch.zeros((), dtype=torch.uint8)
    for value, one in enumerate(logits[0], start=1):
        large: Any = grow(one[None, None], size=canvas.within(shape))[0, 0]
        wins = large > best
        label = torch.where(wins, torch.tensor(value, dtype=torch.uint8), label)
        best = torch.where(wins, large, best)
    return label.numpy()
