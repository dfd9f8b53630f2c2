"""Structures that a file names itself: DICOM-SEG, RTSTRUCT, and Slicer's .seg.nrrd."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fusion.imaging.errors import CaseError
from fusion.imaging.io.dicom_header import open_dicom, refusing
from fusion.imaging.io.dicom_rt import read_contours
from fusion.imaging.io.dicom_seg import read_segmentation
from fusion.imaging.io.itk import header_of, read_itk
from fusion.imaging.io.labelset import LabelSet, layered, moved_onto
from fusion.imaging.io.limits import LIMITS, Limits
from fusion.imaging.volume import Array, Grid

_SLICER = (".seg.nrrd", ".seg.nhdr")


def read_structures(path: Path | str, grid: Grid, limits: Limits = LIMITS) -> LabelSet:
    """The named structures of one file on the image's `grid`.

    Where a segmentation does not share the voxels of `grid` the result lies on its own
    (`LabelSet.grid`), to be resampled; contours are drawn on `grid` in any case.

    Raises:
        CaseError: the file cannot be used; its code says why.
    """
    path = Path(path)
    if path.name.lower().endswith(_SLICER):
        return _read_slicer(path, grid, limits)
    with refusing(path.name):
        modality = str(open_dicom(path, limits).get("Modality") or "")
        if modality == "RTSTRUCT":
            return read_contours(path, grid, limits)
        if modality == "SEG":
            return read_segmentation(path, grid, limits)
    raise CaseError("unreadable", f"{path.name}: modality {modality!r}, expected SEG or RTSTRUCT")


def _read_slicer(path: Path, grid: Grid, limits: Limits) -> LabelSet:
    """Segments in layers: each has a layer and a value there; ours are numbered from 1."""
    keys = header_of(path)
    found: dict[int, tuple[str, int, int]] = {}
    while f"segment{len(found)}_name" in keys:
        n = len(found)
        try:
            layer = int(keys.get(f"segment{n}_layer", str(n)))
            value = int(keys.get(f"segment{n}_labelvalue", "1"))
        except ValueError as error:
            raise CaseError("unreadable", f"{path.name}: segment {n}: {error}") from error
        found[n + 1] = (keys[f"segment{n}_name"], layer, value)
    if not found:
        raise CaseError("unreadable", f"{path.name}: no segment is named in its header")
    layers = {
        at: read_itk(path, limits, channel=at) for at in sorted({x[1] for x in found.values()})
    }
    own = next(iter(layers.values())).grid
    shared = moved_onto(np.zeros(own.shape, bool), own, grid, path.name) is not None

    def mask(layer: int, value: int) -> Array:
        here: Array = layers[layer].array == value
        moved = moved_onto(here, own, grid, path.name) if shared else here
        return here if moved is None else moved

    masks = ((n, mask(layer, value)) for n, (_, layer, value) in found.items())
    return LabelSet(
        layered(grid if shared else own, masks, len(found)), {n: x[0] for n, x in found.items()}
    )
