"""Did a structure survive? Volume and number of parts, before and after resampling."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fusion.imaging.labels import as_integers
from fusion.imaging.sampling import to_source
from fusion.imaging.volume import Grid, Volume

VOLUME_RATIO = (0.8, 1.25)
#: Smaller structures are only asked to be there.
MIN_VOXELS = 100
_PART_SHARE = 1.2


def damaged(before: Volume, after: Volume) -> list[int]:
    """Label values whose structure changed too much from `before` to `after`.

    Only the part of `before` that lies in the region of `after` counts, so that a smaller field
    of view loses nothing.
    """
    from fusion.imaging.label_kernels import survey  # compiled: not for web processes

    source, target = as_integers(before.array), as_integers(after.array)
    if (outside := _outside(before.grid, after.grid)) is not None:
        source = np.where(outside, 0, source)
    scale = after.grid.voxel_mm3 / before.grid.voxel_mm3
    (counts, parts), (found, new_parts) = survey(source), survey(target)
    lost = []
    for value in np.flatnonzero(counts[1:]) + 1:
        now = int(found[value]) if value < len(found) else 0
        if counts[value] < MIN_VOXELS:
            bad = now == 0
        else:
            ratio = now * scale / counts[value]
            bad = not VOLUME_RATIO[0] <= ratio <= VOLUME_RATIO[1] or _falls_apart(
                int(parts[value]), int(new_parts[value])
            )
        if bad:
            lost.append(int(value))
    return lost


def _falls_apart(before: int, after: int) -> bool:
    return after > before + 1 and after > _PART_SHARE * before


def _outside(source: Grid, target: Grid) -> npt.NDArray[np.bool_] | None:
    """Source voxels outside the target's region; None when there are none."""
    matrix = to_source(target, source)
    ends = np.array([[c & 1, c >> 1 & 1, c >> 2 & 1] for c in range(8)], float)
    corners = (ends * (np.array(source.shape) - 1)) @ matrix[:3, :3].T + matrix[:3, 3]
    # Rounding the shape may leave the last voxels up to one target voxel outside.
    low, high = -1.0, np.array(target.shape)
    if (corners >= low).all() and (corners <= high).all():
        return None
    outside = np.zeros(source.shape, bool)
    axes = [np.arange(n) for n in source.shape]
    for row, size in zip(matrix[:3], target.shape, strict=True):
        place = (
            row[0] * axes[0][:, None, None] + row[1] * axes[1][:, None] + row[2] * axes[2] + row[3]
        )
        outside |= (place < -0.5) | (place > size - 0.5)  # noqa: PLR2004
    return outside
