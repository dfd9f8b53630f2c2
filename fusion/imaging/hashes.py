"""Fingerprints that find the same image again: bytes, voxels, slices, looks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn

from fusion.imaging.geometry import to_ras
from fusion.imaging.resize import resize_array
from fusion.imaging.volume import Array, Picture, Volume

#: A slice or channel with fewer distinct values says too little to be recognised by.
MIN_DISTINCT_SLICE = 16
MIN_DISTINCT_PICTURE = 64
_COUNTABLE_SPAN = 1 << 17
_BITS = 64
#: Planes that are brought to one order at a time, and voxels below which numpy does it.
_PLANES, _SMALL = 32, 1 << 18
_LUMA = (0.299, 0.587, 0.114)


def file_sha256(path: Path | str) -> str:
    """T0: SHA-256 of the file's bytes, as hex."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def t1(image: Volume | Picture) -> str:
    """T1: SHA-256 of the shape and the voxels, whatever file, axis order or type held them.

    Voxels are taken in RAS order and C order; whole numbers as int32 (int64 where needed), others
    as float32. A grey picture that is stored as RGB equals its grey form.
    """
    if isinstance(image, Volume):
        array, kind = to_ras(image)[0].array, b"3D"
    else:
        array, kind = image.grey_if_equal().array, b"2D"
    dtype = _canonical_type(array)
    digest = hashlib.sha256(kind + dtype.encode() + str(array.shape).encode())
    for start in range(0, len(array), _PLANES):
        digest.update(_in_c_order(array[start : start + _PLANES], dtype).data.cast("B"))
    return digest.hexdigest()


def _canonical_type(array: Array) -> str:
    if array.dtype.kind == "f":
        whole = all(
            np.abs(part).max(initial=0) < 2**31 and (part == np.rint(part)).all()
            for part in _parts(array)
        )
        return "<i4" if whole else "<f4"
    if array.dtype.itemsize <= 2:  # noqa: PLR2004
        return "<i4"
    return "<i4" if int(array.min()) > -(2**31) and int(array.max()) < 2**31 else "<i8"


def _parts(array: Array) -> Iterator[Array]:
    """Slices along the axis that varies slowest in memory, so that a look may end early."""
    yield from np.moveaxis(array, int(np.argmax(np.abs(array.strides))), 0)


def _in_c_order(array: Array, dtype: str) -> Array:
    if array.ndim < 3 or array.flags.c_contiguous or array.size < _SMALL:  # noqa: PLR2004
        return np.ascontiguousarray(array, dtype)
    from fusion.imaging.kernels import turned  # compiled: not for web processes

    return turned(array, dtype)


def is_blank(image: Volume | Picture) -> bool:
    """One value only: such images equal each other and say nothing."""
    first = image.array.flat[0]
    return all(bool((part == first).all()) for part in _parts(image.array))


@dataclass(frozen=True)
class Signatures:
    """T2: histograms of slices (or colour channels), blind to how values were remapped.

    `full` counts all values, `trimmed` all but the smallest, which survives padding.
    """

    full: frozenset[str]
    trimmed: frozenset[str]

    def shared_with(self, other: Signatures) -> int:
        """Number of equal slices."""
        # Padding may add a smallest value, or swell the one that was there.
        mine, theirs = (self.full, self.trimmed), (other.full, other.trimmed)
        return max(len(a & b) for a in mine for b in theirs)

    def same_series(self, other: Signatures) -> bool:
        """Half of the smaller one's slices, and at least five, are equal."""
        smaller = min(len(self.full), len(other.full))
        shared = self.shared_with(other)
        return shared >= 5 and shared >= 0.5 * smaller  # noqa: PLR2004


def slice_signatures(image: Volume | Picture) -> Signatures:
    """Signatures of every slice along each axis, or of every channel of a picture."""
    if isinstance(image, Picture):
        picture = image.grey_if_equal().array
        planes = [picture] if picture.ndim == 2 else list(np.moveaxis(picture, -1, 0))  # noqa: PLR2004
        least = MIN_DISTINCT_PICTURE
    else:
        array, least = image.array, MIN_DISTINCT_SLICE
        planes = [plane for axis in range(3) for plane in np.moveaxis(array, axis, 0)]
    counts = [found for plane in planes if len(found := _value_counts(plane)) >= least]
    return Signatures(
        frozenset(_digest(found) for found in counts),
        frozenset(_digest(found[1:]) for found in counts),
    )


def _value_counts(plane: Array) -> npt.NDArray[np.int64]:
    """How often each distinct value occurs, in the order of values."""
    if plane.dtype.kind in "ui":
        low = int(plane.min())
        if int(plane.max()) - low < min(_COUNTABLE_SPAN, 4 * plane.size):
            found = np.bincount((plane.astype(np.int64) - low).ravel())
            return found[found > 0].astype(np.int64)
    return np.unique(plane, return_counts=True)[1].astype(np.int64)


def _digest(counts: npt.NDArray[np.int64]) -> str:
    return hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest()[:32]


def _grey(picture: Picture) -> npt.NDArray[np.float32]:
    array = picture.array.astype(np.float32)
    return array if array.ndim == 2 else array @ np.array(_LUMA, np.float32)  # noqa: PLR2004


def dhash(picture: Picture) -> int:
    """T3: 64 bits, brightness of neighbours along rows of a 9x8 thumbnail."""
    small = resize_array(_grey(picture), (8, 9), "area")
    return _pack(small[:, 1:] > small[:, :-1])


def phash(picture: Picture) -> int:
    """T3: 64 bits, the 8x8 lowest frequencies of a 32x32 thumbnail against their median."""
    small = resize_array(_grey(picture), (32, 32), "area")
    low = dctn(small, norm="ortho")[:8, :8].ravel()
    return _pack(low > np.median(low[1:]))


def _pack(bits: npt.NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


def near_pairs(hashes: npt.NDArray[np.uint64], max_bits: int) -> npt.NDArray[np.int64]:
    """Every pair (i, j), i < j, whose hashes differ in at most `max_bits` bits: (P, 2), sorted.

    Exact: 64 bits cut into `max_bits + 1` bands; two such hashes agree in at least one band.
    """
    if not 0 <= max_bits < _BITS:
        raise ValueError(f"max_bits is {max_bits}, expected 0 to {_BITS - 1}")
    hashes = np.asarray(hashes, np.uint64)
    values, owner = np.unique(hashes, return_inverse=True)
    found = [_equal_pairs(owner.astype(np.uint64))]
    edges = np.linspace(0, _BITS, max_bits + 2).round().astype(int)
    for low, high in pairwise(edges.tolist()):
        mask = np.uint64((1 << high) - (1 << low))
        near = _equal_pairs(values & mask)
        bits = np.bitwise_count(values[near[:, 0]] ^ values[near[:, 1]])
        found.append(_expand(near[bits <= max_bits], owner, len(values)))
    pairs = np.concatenate(found)
    pairs.sort(axis=1)
    return np.unique(pairs, axis=0)


def _equal_pairs(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """All pairs of places with one key, by a sort: (P, 2)."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    lengths = np.diff(np.r_[0, changes, len(keys)]).astype(np.int64)
    # Each place is paired with those after it in its run.
    left = np.repeat(lengths, lengths) - _ranks(lengths) - 1
    first = np.repeat(np.arange(len(keys)), left)
    second = first + 1 + _ranks(left)
    return np.stack([order[first], order[second]], axis=1).astype(np.int64)


def _ranks(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """0, 1, .. n-1 for each n of `lengths`, one after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - lengths, lengths)


def _expand(
    pairs: npt.NDArray[np.int64], owner: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.int64]:
    """Pairs of distinct hashes to pairs of the items that hold them."""
    order = np.argsort(owner, kind="stable")
    lengths = np.bincount(owner, minlength=count).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    a, b = pairs[:, 0], pairs[:, 1]
    times = lengths[a] * lengths[b]
    rank = _ranks(times)
    wide = np.repeat(lengths[b], times)
    first = order[np.repeat(starts[a], times) + rank // np.maximum(wide, 1)]
    second = order[np.repeat(starts[b], times) + rank % np.maximum(wide, 1)]
    return np.stack([first, second], axis=1).astype(np.int64)


def correlation(a: Picture, b: Picture) -> float:
    """T4: Pearson correlation of the 64x64 grey thumbnails; 0 where one is blank."""
    first, second = (resize_array(_grey(one), (64, 64), "area").ravel() for one in (a, b))
    first, second = first - first.mean(), second - second.mean()
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norms if norms > 0 else 0.0
