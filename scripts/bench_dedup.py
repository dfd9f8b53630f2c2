#!/usr/bin/env python
"""Near-duplicate join and the whole search for copies, against plain numpy on the same hashes.

    scripts/bench_dedup.py [hashes] [cases]

Peers: bands and a sort in numpy (exact), and brute force on a sample of queries, scaled. The whole
search runs over rows of two sources with copies whose groups are known: four pictures a subject;
2 % each are exact copies, are stored anew, look the same, or only seem to by their hashes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from benchlib import MIB, resident, targets
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fusion.dedup import Access, Duplicates, find_duplicates
from fusion.imaging.pairs import near_pairs

Hashes = npt.NDArray[np.uint64]
MAX_BITS, BANDS, SAMPLE = 4, 5, 200
COPIES = ("T1", "T2", "T3", "none")
ALL_BITS = 2**64 - 1


def planted(count: int, seed: int = 1) -> Hashes:
    """Random hashes, 2 % of them within four bits of another."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    copies = hashes[: count // 50].copy()
    for _ in range(MAX_BITS):
        copies ^= np.uint64(1) << rng.integers(0, 64, len(copies), dtype=np.uint64)
    hashes[len(hashes) - len(copies) :] = copies
    return hashes


def crowded(count: int, seed: int = 2) -> Hashes:
    """2,000 views with up to seven bits flipped."""
    rng = np.random.default_rng(seed)
    hashes = rng.choice(rng.integers(0, 2**64, 2_000, dtype=np.uint64), count)
    for _ in range(7):
        hashes = hashes ^ (np.uint64(1) << rng.integers(0, 64, count, dtype=np.uint64))
    return hashes


def banded(hashes: Hashes) -> int:
    """Peer: sort each band, compare neighbours at growing distance inside equal bands."""
    found: set[tuple[int, ...]] = set()
    edges = np.linspace(0, 64, BANDS + 1).astype(int)
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        keys = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(keys, kind="stable")
        keys, ordered, step = keys[order], hashes[order], 1
        while step < len(keys) and (same := keys[step:] == keys[:-step]).any():
            at = np.flatnonzero(same)
            near = at[np.bitwise_count(ordered[at] ^ ordered[at + step]) <= MAX_BITS]
            pairs = np.sort(np.stack([order[near], order[near + step]], axis=1), axis=1)
            found.update(map(tuple, pairs.tolist()))
            step += 1
    return len(found)


def brute(hashes: Hashes) -> int:
    return sum(
        int(np.count_nonzero(np.bitwise_count(hashes ^ one) <= MAX_BITS)) - 1
        for one in hashes[:SAMPLE]
    )


def timed(name: str, work: Callable[[], Any], scale: float = 1.0) -> tuple[Any, float]:
    """What `work` returns, and the seconds of CPU time it took, times `scale`."""
    start = time.process_time()
    answer = work()
    seconds = (time.process_time() - start) * scale
    memory = resident("VmHWM") / 2**30
    print(f"{name:48s} {seconds:9.2f} s of CPU   {memory:5.1f} GiB at most so far")
    return answer, seconds


class Collection:
    """Rows of `count` pictures, whose thumbnail each asks for, and the true number of groups."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(3)
        self.textures = rng.integers(0, 255, (4096, 64, 64), dtype=np.uint8)
        hashes = [rng.integers(0, 2**64, count, dtype=np.uint64) for _ in range(2)]
        voxels, slices, self.view = (np.arange(count) for _ in range(3))
        part = count // 50
        edges = [np.stack([np.arange(count), np.arange(count) // 4 * 4])]
        for turn, tier in enumerate(COPIES):
            old = np.arange(part) + turn * part
            new = count // 2 + old
            for values in hashes:
                values[new] = values[old]
                for _ in range(2):
                    values[new] ^= np.uint64(1) << rng.integers(0, 64, part, dtype=np.uint64)
            if tier != "none":
                self.view[new] = old
                edges.append(np.stack([old, new]))
            if tier == "T1":
                voxels[new] = old
            if tier in ("T1", "T2"):
                slices[new] = old
        ends = np.concatenate(edges, axis=1)
        graph = coo_array((np.ones(ends.shape[1], np.int8), tuple(ends)), shape=(count, count))
        self.groups = connected_components(graph, directed=False)[0]
        columns = [one.tolist() for one in (*hashes, voxels, slices)]
        self.rows = [row_of(n, count, *of) for n, of in enumerate(zip(*columns, strict=True))]

    def thumb(self, case_id: str) -> npt.NDArray[np.uint8]:
        place = int(case_id[3:])
        thumb: npt.NDArray[np.uint8] = self.textures[self.view[place] % len(self.textures)]
        if self.view[place] != place:
            thumb = thumb.copy()
            thumb[0] ^= 7
        return thumb

    def search(self) -> Duplicates:
        # Labels and originals are asked for by none of these tiers.
        access = Access(self.thumb, lambda _: None, lambda _: sys.exit("an original was asked for"))
        return find_duplicates(self.rows, {}, access)


def row_of(n: int, count: int, phash: int, dhash: int, voxels: int, slices: int) -> dict[str, Any]:
    source = "ab"[n >= count // 2]
    return {
        "id": f"{source}__{n:09d}", "source": source, "name": str(n), "subject": str(n // 4),
        "official_split": None, "shape": [512, 512], "present": {}, "annotated": [],
        "classes": None, "origin": {"image": {"sha256": f"{n:064x}"}, "labels": []},
        "t1": f"{voxels:064x}", "files": [],
        "t2": {"full": [], "trimmed": [], "exact": [f"{slices:032x}"]},
        "look": {
            "phash": phash, "dhash": dhash, "phash_mirrored": phash ^ ALL_BITS,
            "dhash_mirrored": dhash ^ ALL_BITS, "thumb": f"{n:032x}",
        },
    }  # fmt: skip


def joins(count: int) -> float:
    """The join alone; returns the seconds of the peer on planted hashes."""
    near_pairs(planted(1000), MAX_BITS)  # compiled
    peers = []
    for name, hashes in (("planted", planted(count)), ("crowded", crowded(count))):
        ours, _ = timed(f"{count} {name}: near_pairs", partial(near_pairs, hashes, MAX_BITS))
        peer, seconds = timed(f"{count} {name}: bands and sort in numpy", partial(banded, hashes))
        if len(ours) != peer:
            raise SystemExit(f"{name}: found {len(ours)} pairs, the peer {peer}")
        timed(f"{count} {name}: brute force (scaled)", partial(brute, hashes), count / SAMPLE / 2)
        peers.append(seconds)
    return peers[0]


def whole(count: int) -> tuple[float, float]:
    """Seconds of CPU time, and memory beyond the rows over theirs; ends on other groups."""
    empty = resident("VmRSS")
    made = Collection(count)
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts anew
    rows = resident("VmRSS")
    found, seconds = timed(f"{count} cases: find_duplicates", made.search)
    more = resident("VmHWM") - rows
    groups = len(set(found.group_of.values()))
    if groups != made.groups or len(found.excluded) != count // 50:
        raise SystemExit(f"found {groups} groups, expected {made.groups}")
    print(f"rows {(rows - empty) / MIB:.0f} MiB, beyond them {more / MIB:.0f}; {found.hits}")
    return seconds, more / (rows - empty)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    cases = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000  # noqa: PLR2004
    peer = joins(count)
    Collection(1000).search()  # compiled
    few, _ = whole(cases // 10)
    many, memory = whole(cases)
    targets(
        [
            ("bands and sort of one hash / whole search, CPU time", peer / many, 0.1),
            ("10 x time of a tenth of the cases / time of all", 10 * few / many, 0.5),
            ("memory of the rows / memory beyond them", 1 / memory, 2),
        ]
    )


if __name__ == "__main__":
    main()
