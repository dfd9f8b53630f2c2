"""Are two volumes that look alike one image? The second, stricter look.

At 24 voxels a side all heads that were stripped of their skulls and registered are one picture.
What tells people apart are folds and edges a few voxels wide, so those alone are compared: the
coarse shape is taken away from both, and the rim, which masking made equal, is left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform, binary_erosion, gaussian_filter

from fusion.imaging.geometry import ras_order
from fusion.imaging.hashes import solid_thumb
from fusion.imaging.registration import Place, aligned, aligned_from
from fusion.imaging.resize import area_resized
from fusion.imaging.volume import Volume

Thumb = npt.NDArray[np.uint8]
Inside = npt.NDArray[np.bool_]

#: From here on two volumes are one image; below the second they are not; between is not known.
#: Copies that were resampled, cut, windowed, blurred or given noise reach 0.92; two averages of
#: much the same heads 0.80 to 0.89; heads of two people 0.56 at most.
SAME_DETAIL, OTHER_DETAIL = 0.9, 0.7
#: Voxels along an axis, at most; an axis that has fewer keeps its own.
_FINE = 64
_COARSER = 1.5  # sigma of what is taken away, in voxels
_RIM = 2
_DARK = 8
#: Fewer voxels prove nothing.
_LEAST = 1000
_STEPS = 5


def detail_of(volume: Volume) -> Thumb:
    """What `detail_correlation` compares: uint8, at most 64 a side, left to right the last axis."""
    shape = tuple(min(_FINE, size) for size in reversed(ras_order(volume.grid)[2].shape))
    return solid_thumb(volume, shape)


def detail_correlation(first: Thumb, second: Thumb, coarse: tuple[Thumb, Thumb]) -> float | None:
    """Correlation of the fine detail of two aligned volumes; None where there is too little.

    Args:
        first, second: of `detail_of`, of any shapes.
        coarse: their thumbnails (hashes.look), by which they are aligned first.
    """
    shape = tuple(map(min, first.shape, second.shape))
    a, b = (area_resized(one, shape).astype(np.float64) for one in (first, second))
    _, place = aligned(*coarse)
    _, place = aligned_from(a, b, place.on(coarse[0].shape, shape), _STEPS)
    moved, inside = _moved(a, place)
    seen = binary_erosion(inside & (moved > _DARK) & (b > _DARK), iterations=_RIM)
    if np.count_nonzero(seen) < _LEAST:
        return None
    fine = [(one - gaussian_filter(one, _COARSER))[seen] for one in (moved, b)]
    if min(float(one.std()) for one in fine) == 0:
        return None
    return float(np.corrcoef(*fine)[0, 1])


def _moved(array: npt.NDArray[np.float64], place: Place) -> tuple[npt.NDArray[np.float64], Inside]:
    """The array sampled at `place`, and where that lies within it."""
    middle = (np.array(array.shape) - 1) / 2
    scale, offset = 1 + place.scale, middle - middle * (1 + place.scale) + place.shift
    inside = np.ones(array.shape, bool)
    for axis, size in enumerate(array.shape):
        at = np.arange(size) * scale[axis] + offset[axis]
        held = (at >= 0) & (at <= size - 1)
        inside &= held.reshape([-1 if k == axis else 1 for k in range(3)])
    return affine_transform(array, scale, offset, order=1, mode="nearest"), inside
