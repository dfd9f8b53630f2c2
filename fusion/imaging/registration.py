"""How two small pictures or volumes of one shape lie on each other (numba)."""

# Kernels take what numba infers.
# ruff: noqa: ANN001, ANN202, C901, PLR0912, PLR0915, PLR2004, RUF046
# mypy: allow-untyped-defs
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from fusion.imaging.pairs import DARK

Floats = npt.NDArray[np.float64]
#: Alignment searches enlargements and shifts of up to this share.
_REACH = 0.15
_STEPS = 12
#: A coarse picture that cannot be aligned to this correlation is not tried in detail.
_PROMISING = 0.97
_SETTLED = 0.02  # of a thumbnail's pixel
_SMOOTHING = (0.25, 0.5, 0.25)
_compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True)


@dataclass(frozen=True, eq=False)
class Place:
    """Where the first of two arrays is sampled: (index - middle) * (1 + scale) + shift + middle.

    scale and shift: (3,), shift in voxels; a picture's axes are the last two.
    """

    scale: Floats
    shift: Floats

    def on(self, shape: Sequence[int], other: Sequence[int]) -> Place:
        """The same place where arrays of `shape` are of `other` shape."""
        return Place(self.scale, self.shift * (np.array(other) / np.array(shape)))


def aligned_correlation(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> float:
    """T4: the largest correlation over enlargements and shifts per axis of up to 15 %.

    Gauss-Newton from the unmoved picture; a copy that was cropped a little comes back to its place.

    Args:
        first, second: thumbnails of one shape, (H, W) or (I, J, K).
    """
    return aligned(first, second)[0]


def aligned(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> tuple[float, Place]:
    """The correlation of `aligned_correlation`, and where it is reached."""
    shape = (1,) * (3 - first.ndim) + first.shape
    solid = [one.astype(np.float64).reshape(shape) for one in (first, second)]
    start = Place(np.zeros(3), np.zeros(3))
    coarse = [_halved(_halved(one) if first.ndim == 2 else one) for one in solid]
    found = aligned_from(_smooth(coarse[0]), _smooth(coarse[1]), start)
    if found[0] < _PROMISING:
        return found
    return aligned_from(_smooth(solid[0]), _smooth(solid[1]), start)


def aligned_from(
    first: Floats, second: Floats, start: Place, steps: int = _STEPS
) -> tuple[float, Place]:
    """The best correlation that `steps` steps from `start` lead to, and its place.

    Args:
        first, second: (I, J, K) of one shape, 0 being black.
    """
    score, scale, shift = _align(first, second, start.scale, start.shift, steps)
    return float(score), Place(scale, shift)


def _halved(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Means of neighbours along axes longer than one."""
    for axis, size in enumerate(array.shape):
        if size > 1:
            pairs = np.moveaxis(array, axis, 0).reshape(size // 2, 2, -1)
            rest = tuple(n for k, n in enumerate(array.shape) if k != axis)
            array = np.moveaxis(pairs.mean(axis=1).reshape(size // 2, *rest), 0, axis)
    return array


def _smooth(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A three-tap blur along axes longer than one: slopes that a step can follow."""
    for axis, size in enumerate(array.shape):
        if size > 1:
            wide = np.pad(array, [(int(n == axis),) * 2 for n in range(array.ndim)], mode="edge")
            parts = [np.take(wide, range(k, k + size), axis) * w for k, w in enumerate(_SMOOTHING)]
            array = parts[0] + parts[1] + parts[2]
    return array


@_compiled
def _align(a, b, first_scale, first_shift, steps):
    """Best correlation of a, sampled at scale * place + shift, with b; its scale and shift."""
    shape = a.shape
    grad = np.zeros((3, *shape))
    for i in range(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                if shape[0] > 1:
                    u, d = min(i + 1, shape[0] - 1), max(i - 1, 0)
                    grad[0, i, j, k] = (a[u, j, k] - a[d, j, k]) / (u - d)
                if shape[1] > 1:
                    u, d = min(j + 1, shape[1] - 1), max(j - 1, 0)
                    grad[1, i, j, k] = (a[i, u, k] - a[i, d, k]) / (u - d)
                if shape[2] > 1:
                    u, d = min(k + 1, shape[2] - 1), max(k - 1, 0)
                    grad[2, i, j, k] = (a[i, j, u] - a[i, j, d]) / (u - d)
    scale, shift = first_scale.copy(), first_shift.copy()
    best_scale, best_shift = scale.copy(), shift.copy()
    mid = np.array([(shape[0] - 1) / 2, (shape[1] - 1) / 2, (shape[2] - 1) / 2])
    best = -1.0
    row = np.empty(8)
    moved = np.empty(4)
    for _ in range(steps):
        normal, right = np.zeros((8, 8)), np.zeros(8)
        n = s_a = s_b = s_aa = s_bb = s_ab = 0.0
        for i in range(shape[0]):
            x = (i - mid[0]) * (1 + scale[0]) + shift[0] + mid[0]
            if x < -1e-9 or x > shape[0] - 1 + 1e-9:
                continue
            i0 = min(max(int(math.floor(x)), 0), max(shape[0] - 2, 0))
            fx = x - i0 if shape[0] > 1 else 0.0
            i1 = min(i0 + 1, shape[0] - 1)
            for j in range(shape[1]):
                y = (j - mid[1]) * (1 + scale[1]) + shift[1] + mid[1]
                if y < -1e-9 or y > shape[1] - 1 + 1e-9:
                    continue
                j0 = min(max(int(math.floor(y)), 0), max(shape[1] - 2, 0))
                fy = y - j0 if shape[1] > 1 else 0.0
                j1 = min(j0 + 1, shape[1] - 1)
                for k in range(shape[2]):
                    z = (k - mid[2]) * (1 + scale[2]) + shift[2] + mid[2]
                    if z < -1e-9 or z > shape[2] - 1 + 1e-9:
                        continue
                    k0 = min(max(int(math.floor(z)), 0), max(shape[2] - 2, 0))
                    fz = z - k0
                    k1 = min(k0 + 1, shape[2] - 1)
                    for q in range(4):
                        g = a if q == 0 else grad[q - 1]
                        near = (g[i0, j0, k0] * (1 - fz) + g[i0, j0, k1] * fz) * (1 - fy) + (
                            g[i0, j1, k0] * (1 - fz) + g[i0, j1, k1] * fz
                        ) * fy
                        far = (g[i1, j0, k0] * (1 - fz) + g[i1, j0, k1] * fz) * (1 - fy) + (
                            g[i1, j1, k0] * (1 - fz) + g[i1, j1, k1] * fz
                        ) * fy
                        moved[q] = near * (1 - fx) + far * fx
                    value, wanted = moved[0], b[i, j, k]
                    if value + wanted <= DARK:
                        continue
                    n += 1
                    s_a += value
                    s_b += wanted
                    s_aa += value * value
                    s_bb += wanted * wanted
                    s_ab += value * wanted
                    row[0] = moved[1] * (i - mid[0])
                    row[1] = moved[2] * (j - mid[1])
                    row[2] = moved[3] * (k - mid[2])
                    row[3], row[4], row[5] = moved[1], moved[2], moved[3]
                    row[6], row[7] = value, 1.0
                    for p in range(8):
                        right[p] += row[p] * wanted
                        for q in range(p + 1):
                            normal[p, q] += row[p] * row[q]
        spread = (n * s_aa - s_a * s_a) * (n * s_bb - s_b * s_b)
        if spread <= 0:
            break
        score = (n * s_ab - s_a * s_b) / math.sqrt(spread)
        if score > best:
            best, best_scale, best_shift = score, scale.copy(), shift.copy()
        for p in range(8):
            for q in range(p):
                normal[q, p] = normal[p, q]
        for p in range(8):
            normal[p, p] += 1e-6 * normal[p, p] + 1e-6
        step = np.linalg.solve(normal, right)
        gain = step[6]
        if abs(gain) < 1e-6:
            break
        largest = 0.0
        for axis in range(3):
            scale[axis] += step[axis] / gain
            shift[axis] += step[3 + axis] / gain
            half = max(mid[axis], 1.0)
            largest = max(largest, abs(step[axis] / gain) * half, abs(step[3 + axis] / gain))
            if abs(scale[axis]) > _REACH or abs(shift[axis]) > _REACH * half + 1:
                return best, best_scale, best_shift
        if largest < _SETTLED:
            break
    return best, best_scale, best_shift
