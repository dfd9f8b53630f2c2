"""A tiny copy of a dataset's layout: real files at the literal paths that its publisher uses.

Paths, tables and what to expect come from `layouts.yaml`, which is written from documentation and
knows nothing of the source descriptions; pixels and label values come from the description.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import av
import h5py
import nibabel as nib
import numpy as np
import SimpleITK as sitk
from PIL import Image

from fusion.cases import path_regex
from fusion.source import BACKGROUND, OTHER, Layer, SourceDescription
from tests.imaging.test_dicom import write_slice

VOLUME = (14, 12, 13)
PICTURE = (96, 112)
BLOCK = 8  # pixels; JPEG keeps a block of 8 apart
UNLISTED = 7  # a label value that a layer with "*" does not list


def make_layout(description: SourceDescription, layout: Mapping[str, Any], folder: Path) -> None:
    """Write every file of the layout below `folder`."""
    tables: Mapping[str, str] = layout.get("tables", {})
    images = [path_regex(t, description.cases.fields) for t in _image_templates(description)]
    layers = [
        (path_regex(layer.path, description.cases.fields), layer, start)
        for layer, start in _places(description.layers)
    ]
    for name in [*layout["files"], *tables, *_numerous(layout)]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in tables:
            path.write_text(tables[name], "utf-8")
            continue
        here = [(layer, start) for pattern, layer, start in layers if pattern.fullmatch(name)]
        if here:
            _write(path, _label(here, description.dimension))
        elif any(pattern.fullmatch(name) for pattern in images):
            _write(path, _image(name, description))
        else:
            path.write_bytes(b"not part of any case")
    for name, arrays in layout.get("arrays", {}).items():
        _write_arrays(folder / name, arrays)
    for name in layout.get("videos", ()):
        _write_video(folder / name)
    for one in layout.get("series", ()):
        _write_series(folder / one["folder"], one["files"], description.modality)
    for one in layout.get("stacks", ()):
        _write_stack(folder / one["folder"], one["files"], one["values"])


def _numerous(layout: Mapping[str, Any]) -> list[str]:
    """Files of one folder that differ by name only: {folder, suffix, names}."""
    many = layout.get("masks", {"names": []})
    return [f"{many['folder']}/{name}{many['suffix']}" for name in many["names"]]


def _image_templates(description: SourceDescription) -> list[str]:
    cases = description.cases
    named = [one.path or cases.image for one in cases.channels.values()]
    return list(dict.fromkeys(named)) or ([cases.image] if cases.image else [])


def _places(layers: Sequence[Layer]) -> Iterator[tuple[Layer, int]]:
    """Each layer with its first place, so that no two layers claim one voxel."""
    start = 0
    for layer in layers:
        yield layer, start
        start += len(_values(layer))


def _values(layer: Layer) -> list[int]:
    """One place for each value of the layer that is no background."""
    if layer.kind != "label_map":
        return [255]
    table = layer.table()
    listed = [value for value, concept in table.items() if concept != BACKGROUND]
    other = layer.values.get(OTHER, BACKGROUND)
    return [*listed, *([UNLISTED] if other != BACKGROUND and UNLISTED not in table else [])]


def _label(here: Sequence[tuple[Layer, int]], dimension: str) -> np.ndarray:
    layer, start = here[0]
    shape = VOLUME if dimension == "3D" else PICTURE
    table = layer.table() if layer.kind == "label_map" else {}
    ground = next(
        (v for v, c in table.items() if c == BACKGROUND and 0 in table and table[0] != c), 0
    )
    values = _values(layer)
    bright = layer.kind == "mask" and layer.threshold < 1 and dimension == "3D"
    label = np.full(shape, ground, np.uint8 if max([*values, ground]) < 256 else np.uint16)
    for place, value in enumerate(values, start):
        _fill(label, place, 1 if bright else value)
    return label


def _fill(label: np.ndarray, place: int, value: int) -> None:
    if label.ndim == 3:
        flat = label.reshape(-1)
        flat[3 * place : 3 * place + 3] = value
        return
    row, column = divmod(place, PICTURE[1] // BLOCK)
    label[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK] = value


def _image(name: str, description: SourceDescription) -> np.ndarray:
    rng = np.random.default_rng(crc32(name.encode()))
    if description.dimension == "3D":
        low = -400 if description.modality == "CT" else 0
        steps = {one.channel for one in description.cases.channels.values()} - {None}
        shape = (*VOLUME, len(steps)) if steps else VOLUME
        return rng.integers(low, 300, shape).astype(np.int16)
    grey = description.modality in {"DX", "US", "OPT"}
    return rng.integers(0, 256, PICTURE if grey else (*PICTURE, 3), dtype=np.uint8)


def _write(path: Path, array: np.ndarray) -> None:
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        image = nib.Nifti1Image(array, np.diag([-1.0, 1.0, 2.0, 1.0]))
        image.set_qform(image.affine, 1)
        image.set_sform(image.affine, 1)
        nib.save(image, path)
    elif name.endswith((".mhd", ".mha", ".nrrd")):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((0.6, 0.7, 3.0))
        sitk.WriteImage(image, str(path))
    elif name.endswith((".dcm", ".dicom")):
        flat = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope"))
        made = write_slice(
            path.parent, path.stem, (0, 0, 0), array.astype(np.uint16), Modality="DX", **flat
        )
        made.rename(path)
    elif name.endswith(".gz"):
        content = io.BytesIO()
        Image.fromarray(array).save(content, format="PPM")
        path.write_bytes(gzip.compress(content.getvalue(), mtime=0))
    else:
        Image.fromarray(array).save(path, **({"quality": 95} if name.endswith("g") else {}))


def _write_video(path: Path) -> None:
    """Grey noise of 48 frames of 112 x 112 pixels, which Motion JPEG keeps apart."""
    rng = np.random.default_rng(crc32(path.name.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=50)
        stream.width = stream.height = 112
        stream.pix_fmt = "yuvj420p"
        for _ in range(48):
            noise = np.repeat(rng.integers(0, 255, (112, 112, 1), np.uint8), 3, axis=2)
            for packet in stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _write_series(folder: Path, names: Sequence[str], modality: str) -> None:
    """One DICOM file a slice, from the head down, as scanners number them."""
    rng = np.random.default_rng(crc32(folder.as_posix()[-40:].encode()))
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        pixels = rng.integers(700, 1400, VOLUME[:2]).astype(np.uint16)
        stem = name.removesuffix(".dcm")
        write_slice(folder, stem, (0, 0, 100 - 3 * number), pixels, Modality=modality)


def _write_stack(folder: Path, names: Sequence[str], values: Sequence[int]) -> None:
    """One picture a slice; each holds the first value in its first rows, and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        label = np.zeros(VOLUME[:2], np.uint8)
        for row, value in enumerate(values):
            label[2 * row : 2 * row + 1 + number % 2, 1:4] = value
        Image.fromarray(label).save(folder / name)


def _write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """One .npz or .h5 file: random images of a shape, labels as they stand in the layout."""
    rng = np.random.default_rng(crc32(path.name.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {
        key: rng.integers(0, 256, one["shape"], dtype=np.uint8).astype(one.get("type", "u1"))
        if "shape" in one
        else np.array(one["values"], np.uint8)
        for key, one in arrays.items()
        if key != "blocks"
    }
    if "blocks" in arrays:  # masks (N, H, W, K): a numbered thing in each channel but the last
        made[""] = np.zeros(arrays["blocks"]["shape"], arrays["blocks"]["type"])
        for item, channel in np.ndindex(made[""].shape[0], made[""].shape[3] - 1):
            made[""][item, 4 * channel : 4 * channel + 3, 2:6, channel] = item + 3
    if path.suffix == ".npy":
        np.save(path, made[""])
        return
    if path.suffix == ".npz":
        np.savez(path, **made)
        return
    with h5py.File(path, "w") as file:
        for key, array in made.items():
            file[key] = array
