#!/usr/bin/env python
"""Near-duplicate join and the whole search for copies, against plain numpy on the same hashes.

    scripts/bench_dedup.py [hashes] [cases]

Peers: bands and a sort in numpy (exact), and brute force on a sample of queries, scaled.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fusion.dedup import Access, find_duplicates
from fusion.imaging.pairs import near_pairs
from fusion.imaging.volume import Picture

Hashes = npt.NDArray[np.uint64]
MAX_BITS, BANDS, SAMPLE = 4, 5, 200


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


def timed(name: str, work: Callable[[], Any], scale: float = 1.0) -> Any:
    start = time.process_time()
    answer = work()
    seconds = (time.process_time() - start) * scale
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name:48s} {seconds:9.2f} s of CPU   {memory:5.1f} GiB at most so far")
    return answer


def rows_of(count: int) -> list[dict[str, Any]]:
    hashes, others = planted(count), planted(count, 3)
    return [
        {
            "id": f"s__{n:09d}", "source": "ab"[n % 2], "name": str(n), "subject": str(n),
            "official_split": None, "shape": [512, 512], "present": {}, "annotated": [],
            "classes": None, "origin": {"image": {"sha256": f"{n:064x}"}, "labels": []},
            "t1": f"{n if n % 50 else 0:064x}", "files": [],
            "t2": {"full": [], "trimmed": [], "exact": [f"{n:032x}"]},
            "look": {
                "phash": a, "dhash": b, "phash_mirrored": a ^ (2**64 - 1),
                "dhash_mirrored": b ^ (2**64 - 1), "thumb": f"{n:032x}",
            },
        }
        for n, (a, b) in enumerate(zip(hashes.tolist(), others.tolist(), strict=True))
    ]  # fmt: skip


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    cases = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000  # noqa: PLR2004
    near_pairs(planted(1000), MAX_BITS)  # compiled
    for name, hashes in (("planted", planted(count)), ("crowded", crowded(count))):
        ours = timed(f"{count} {name}: near_pairs", partial(near_pairs, hashes, MAX_BITS))
        peer = timed(f"{count} {name}: bands and sort in numpy", partial(banded, hashes))
        if len(ours) != peer:
            raise SystemExit(f"{name}: found {len(ours)} pairs, the peer {peer}")
        timed(f"{count} {name}: brute force (scaled)", partial(brute, hashes), count / SAMPLE / 2)
    rows = rows_of(cases)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (64, 64, 64), dtype=np.uint8)
    access = Access(lambda i: noise[int(i[3:]) % 64], lambda _: None, lambda _: Picture(noise[0]))
    found = timed(f"{cases} cases: find_duplicates", lambda: find_duplicates(rows, {}, access))
    print(found.hits)


if __name__ == "__main__":
    main()
