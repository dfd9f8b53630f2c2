"""Fingerprints that find the same image again: voxels, slices, looks; bytes: file_hash.py."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn

from fusion.imaging.geometry import to_ras
from fusion.imaging.resize import area_resized, resize_array
from fusion.imaging.volume import Array, Picture, Volume

#: A slice or channel with fewer distinct values says too little to be recognised by.
MIN_DISTINCT_SLICE = 16
MIN_DISTINCT_PICTURE = 64
_COUNTABLE_SPAN = 1 << 17
#: Planes that are brought to one order at a time, and voxels below which numpy does it.
_PLANES, _SMALL = 32, 1 << 18
#: Fewer equal slices say nothing; owners of one slice that are still compared all with all.
SHARED_SLICES, _CROWD = 5, 64
_LUMA = (0.299, 0.587, 0.114)
#: What a thumbnail is: 64x64 of a picture, 24x24x24 of a volume.
FLAT_THUMB, SOLID_THUMB = (64, 64), (24, 24, 24)
#: Percentiles that become black and white: a window set by somebody changes little beyond them.
_RANGE = (1, 99)
_SAMPLE = 1 << 20


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


Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Signatures:
    """T2: value counts of slices (or colour channels), blind to how values were remapped.

    `full` counts all values, `trimmed` all but the smallest, which survives padding. One array of
    64-bit words per axis, in the order of slices (a picture: one array, a word per channel); 0
    stands for a slice with too few distinct values. `exact` is of pictures only: digests of the
    ranks of each channel's values, as a whole and cropped to what is above the smallest, equal
    under the eight flips and rotations.
    """

    full: tuple[Words, ...]
    trimmed: tuple[Words, ...]
    exact: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Slices (or channels) that can be recognised."""
        return sum(int(np.count_nonzero(axis)) for axis in self.full)

    def shared_with(self, other: Signatures) -> int:
        """Number of equal slices, along all axes."""
        return sum(best for best, _ in self._axes(other))

    def same_series(self, other: Signatures) -> bool:
        """At least five slices are equal, and half of the smaller one's: along one axis or all."""
        axes = list(self._axes(other))
        total = (sum(best for best, _ in axes), min(self.count, other.count))
        return any(best >= 5 and best >= 0.5 * least for best, least in [*axes, total])  # noqa: PLR2004

    def _axes(self, other: Signatures) -> Iterator[tuple[int, int]]:
        """For each axis: equal slices of the axis of `other` that fits best, and the fewer's."""
        # Padding may add a smallest value, or swell the one that was there.
        mine = list(zip(self.full, self.trimmed, strict=True))
        theirs = list(zip(other.full, other.trimmed, strict=True))
        for one in mine:
            found = [
                (max(_shared(a, b) for a in one for b in two), min(_known(one[0]), _known(two[0])))
                for two in theirs
            ]
            # A cut copy has lost slices of this axis only, and all of the others have changed.
            yield max(found, key=lambda pair: (pair[0], -pair[1]))

    def tokens(self) -> Words:
        """Every word once: two images without a common one share no slice."""
        words = np.unique(np.concatenate([*self.full, *self.trimmed]))
        return words[words > 0]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data; arrays of words as base64."""
        return {
            "full": [_text(axis) for axis in self.full],
            "trimmed": [_text(axis) for axis in self.trimmed],
            "exact": list(self.exact),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            tuple(_words(text) for text in data["full"]),
            tuple(_words(text) for text in data["trimmed"]),
            tuple(data["exact"]),
        )


def _shared(a: Words, b: Words) -> int:
    common = np.intersect1d(a, b)
    return int(np.count_nonzero(common))


def _known(words: Words) -> int:
    """Distinct slices that can be recognised."""
    return int(np.count_nonzero(np.unique(words)))


def _text(words: Words) -> str:
    return base64.b64encode(words.astype("<u8").tobytes()).decode()


def _words(text: str) -> Words:
    return np.frombuffer(base64.b64decode(text), "<u8").astype(np.uint64)


def slice_signatures(image: Volume | Picture) -> Signatures:
    """Signatures of every slice along each axis, in RAS order, or of every channel of a picture."""
    if isinstance(image, Picture):
        picture = image.grey_if_equal().array
        planes = [picture] if picture.ndim == 2 else list(np.moveaxis(picture, -1, 0))  # noqa: PLR2004
        full, trimmed = _signed(planes, MIN_DISTINCT_PICTURE)
        known = [plane for plane, word in zip(planes, full, strict=True) if word]
        exact = (digest for plane in known for digest in _exact(plane))
        return Signatures((full,), (trimmed,), tuple(dict.fromkeys(exact)))
    array = to_ras(image)[0].array
    axes = [_signed(list(np.moveaxis(array, axis, 0)), MIN_DISTINCT_SLICE) for axis in range(3)]
    return Signatures(tuple(full for full, _ in axes), tuple(trimmed for _, trimmed in axes))


def _signed(planes: list[Array], least: int) -> tuple[Words, Words]:
    full, trimmed = np.zeros(len(planes), np.uint64), np.zeros(len(planes), np.uint64)
    for n, plane in enumerate(planes):
        counts = _value_counts(plane)
        if len(counts) >= least:
            full[n], trimmed[n] = _word(counts), _word(counts[1:])
    return full, trimmed


def _value_counts(plane: Array) -> npt.NDArray[np.int64]:
    """How often each distinct value occurs, in the order of values."""
    if plane.dtype.kind in "ui":
        low = int(plane.min())
        if int(plane.max()) - low < min(_COUNTABLE_SPAN, 4 * plane.size):
            found = np.bincount((plane.astype(np.int64) - low).ravel())
            return found[found > 0].astype(np.int64)
    ordered = np.sort(plane, axis=None)
    ends = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    counts: npt.NDArray[np.int64] = np.diff(np.r_[0, ends, ordered.size]).astype(np.int64)
    return counts


def _word(counts: npt.NDArray[np.int64]) -> int:
    return int.from_bytes(hashlib.sha256(counts.astype("<i8").tobytes()).digest()[:8], "little")


def _exact(plane: Array) -> Iterator[str]:
    """Digests of the whole plane, and of what is left without a margin of the smallest value."""
    yield _turnless(plane)
    inside = plane > plane.min()
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    cropped = plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if cropped.shape != plane.shape:
        yield _turnless(cropped)


def _turnless(plane: Array) -> str:
    """Digest of the ranks of the values, in the one of eight turns whose row sums come first."""
    ranks = _ranks(plane)
    rows, columns = (ranks.sum(axis=1, dtype=np.int64), ranks.sum(axis=0, dtype=np.int64))
    # The sums along both axes say which turns can come first; the pixels decide among those.
    keys = {}
    for turn in range(8):
        a, b = (columns, rows) if turn & 4 else (rows, columns)
        keys[turn] = (
            len(a),
            (a[::-1] if turn & 1 else a).tolist(),
            (b[::-1] if turn & 2 else b).tolist(),
        )
    first = min(keys.values())
    turned = (_turned(ranks, turn) for turn, key in keys.items() if key == first)
    digests = (hashlib.sha256(str(one.shape).encode() + one.tobytes()) for one in turned)
    return min(digest.hexdigest() for digest in digests)[:32]


def shows_slice(picture: Picture, volume: Volume) -> bool:
    """The picture (or one of its channels) is a slice of the volume, pixel by pixel.

    Values may have been remapped in their order, a margin added, the whole flipped or turned.
    """
    mine, theirs = slice_signatures(picture), slice_signatures(volume)
    words = set(mine.tokens().tolist())
    array = to_ras(volume)[0].array
    for axis, pair in enumerate(zip(theirs.full, theirs.trimmed, strict=True)):
        for place, (full, trimmed) in enumerate(zip(*pair, strict=True)):
            if {int(full), int(trimmed)} & words:
                found = set(_exact(np.take(array, place, axis)))
                if found & set(mine.exact):
                    return True
    return False


def _ranks(plane: Array) -> Array:
    """The place of each value among the distinct ones: whole numbers of two or four bytes."""
    low = int(plane.min()) if plane.dtype.kind in "ui" else 0
    if plane.dtype.kind in "ui" and int(plane.max()) - low < _COUNTABLE_SPAN:
        shifted = plane.astype(np.int64) - low
        table = np.cumsum(np.bincount(shifted.ravel()) > 0) - 1
        ranks = table[shifted]
    else:
        ranks = np.unique(plane, return_inverse=True)[1].reshape(plane.shape)
    return ranks.astype("<u2" if ranks.max() < 1 << 16 else "<u4")


def _turned(plane: Array, turn: int) -> Array:
    plane = plane.T if turn & 4 else plane
    return plane[:: -1 if turn & 1 else 1, :: -1 if turn & 2 else 1]


@dataclass(frozen=True, eq=False)
class Look:
    """T3: hashes of what an image looks like, as it is and mirrored left to right.

    `thumb` is what T4 compares: uint8, (64, 64) of a picture, (24, 24, 24) of a volume with the
    left-right axis last.
    """

    phash: int
    dhash: int
    phash_mirrored: int
    dhash_mirrored: int
    thumb: npt.NDArray[np.uint8]

    def as_dict(self) -> dict[str, Any]:
        """Without the thumbnail, of which it keeps the digest."""
        digest = hashlib.sha256(self.thumb.tobytes()).hexdigest()[:32]
        names = ("phash", "dhash", "phash_mirrored", "dhash_mirrored")
        return {name: getattr(self, name) for name in names} | {"thumb": digest}


def look(image: Volume | Picture) -> Look:
    """Hashes of 64 bits and the thumbnail."""
    if isinstance(image, Picture):
        small = resize_array(_grey(image), FLAT_THUMB, "area")
        low, high = np.percentile(small, _RANGE)
        thumb = _as_bytes(small, low, high)
    else:
        thumb = solid_thumb(image, SOLID_THUMB)
    mirrored = thumb[..., ::-1]
    return Look(phash(thumb), dhash(thumb), phash(mirrored), dhash(mirrored), thumb)


def solid_thumb(volume: Volume, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The volume made small: uint8 of `shape`, RAS with the left-right axis last."""
    array = to_ras(volume)[0].array.transpose(2, 1, 0)
    low, high = np.percentile(_sampled(array), _RANGE)
    # Plane by plane: no float copy of the whole.
    ends = np.float32(low), np.float32(high)
    planes = (np.clip(plane.astype(np.float32), *ends) for plane in array)
    flat = np.stack([area_resized(plane, shape[1:]) for plane in planes])
    return _as_bytes(area_resized(flat, shape), low, high)


def _as_bytes(small: Array, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Black at `low`, white at `high`; of one value, at the ends that are there."""
    if high <= low:
        low, high = float(small.min()), float(small.max())
    scaled = (np.clip(small, low, high) - low) * (255 / max(high - low, 1e-30))
    return np.rint(scaled).astype(np.uint8)


def _sampled(array: Array) -> Array:
    """About a million values, evenly spread over each axis."""
    step = max(1, round((array.size / _SAMPLE) ** (1 / 3)))
    return array[::step, ::step, ::step]


def _grey(picture: Picture) -> npt.NDArray[np.float32]:
    array = picture.array.astype(np.float32)
    return array if array.ndim == 2 else array @ np.array(_LUMA, np.float32)  # noqa: PLR2004


def dhash(thumb: npt.NDArray[np.uint8]) -> int:
    """64 bits, brightness of neighbours left to right on 8 rows of 9 (4 planes of 4 rows of 5)."""
    small = area_resized(thumb, (8, 9) if thumb.ndim == 2 else (4, 4, 5))  # noqa: PLR2004
    return _pack(small[..., 1:] > small[..., :-1])


def phash(thumb: npt.NDArray[np.uint8]) -> int:
    """64 bits, the 64 lowest frequencies of a coarser thumbnail against their median."""
    if thumb.ndim == 2:  # noqa: PLR2004
        low = dctn(area_resized(thumb, (32, 32)), norm="ortho")[:8, :8].ravel()
    else:
        low = dctn(area_resized(thumb, (12, 12, 12)), norm="ortho")[:4, :4, :4].ravel()
    return _pack(low > np.median(low[1:]))


def _pack(bits: npt.NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


def identify(image: Volume | Picture, thumb: Path, hashed: str = "") -> dict[str, Any]:
    """T1 (or `hashed`) to T3 of an image as plain data; its thumbnail goes to the file `thumb`."""
    seen = look(image)
    thumb.parent.mkdir(parents=True, exist_ok=True)
    thumb.write_bytes(seen.thumb.tobytes())
    return {
        "t1": hashed or t1(image),
        "t2": slice_signatures(image).as_dict(),
        "look": seen.as_dict(),
    }


def read_thumb(path: Path, *, solid: bool) -> npt.NDArray[np.uint8]:
    """The thumbnail that `identify` wrote."""
    return np.fromfile(path, np.uint8).reshape(SOLID_THUMB if solid else FLAT_THUMB)


def shared_slices(tokens: Sequence[npt.NDArray[np.uint64]]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of images that share at least five words.

    A word that over 64 images hold joins each to the next one only.
    """
    if len(tokens) < 2:  # noqa: PLR2004
        return []
    words = np.concatenate(tokens)
    owner = np.repeat(np.arange(len(tokens)), [len(one) for one in tokens])
    order = np.lexsort((owner, words))
    words, owner = words[order], owner[order]
    edges = np.flatnonzero(np.r_[True, words[1:] != words[:-1], True]).tolist()
    found: Counter[tuple[int, int]] = Counter()
    for start, end in pairwise(edges if len(words) else []):
        if end - start < 2:  # noqa: PLR2004
            continue
        owners = owner[start:end].tolist()
        if len(owners) > _CROWD:
            found.update(pairwise(owners))
        else:
            found.update(combinations(owners, 2))
    return sorted(pair for pair, n in found.items() if n >= SHARED_SLICES)
