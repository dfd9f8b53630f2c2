"""What the benches share: one volume, candidates in turn, a table of ratios against targets."""

from __future__ import annotations

import gzip
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

Times = dict[str, list[float]]
MIB = 1 << 20
#: Radii in mm and places (share of the half extent) of the structures of the label map.
_BALLS = (
    (40, (0.3, 0.1, -0.2)),
    (22, (-0.4, 0.2, 0.3)),
    (14, (0.1, -0.5, 0.4)),
    (7, (-0.2, -0.3, -0.5)),
    (5, (0.5, 0.4, 0.1)),
)


def ct_like(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], seed: int = 0
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """An image, its label map of five structures and their LPI affine.

    Constant air around a body that fills a third of the voxels, with noise in it.
    """
    rng = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    body = (x / 0.85) ** 2 + (y / 0.75) ** 2 + (z / 1.2) ** 2 < 1
    smooth = 60 * np.cos(9 * x) * np.cos(7 * y) * np.cos(5 * z) + 40
    image = np.where(body, smooth + rng.normal(0, 25, shape).astype(np.float32), -1024)
    label = np.zeros(shape, np.uint8)
    half = np.array(shape) * spacing / 2
    for value, (radius, place) in enumerate(_BALLS, 1):
        parts = [(a - p) * h for a, p, h in zip((x, y, z), place, half, strict=True)]
        label[parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2 < radius**2] = value
    affine = np.diag([-spacing[0], -spacing[1], -spacing[2], 1.0])
    affine[:3, 3] = half
    return np.asfortranarray(np.rint(image).astype(np.int16)), np.asfortranarray(label), affine


def write_nifti_gz(path: Path, array: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> Path:
    """As most publishers do: nibabel's header, gzip at level 6."""
    image = nib.Nifti1Image(array, affine)
    with gzip.GzipFile(path, "wb", compresslevel=6, mtime=0) as out:
        image.to_stream(out)
    return path


def in_turn(ways: Mapping[str, Callable[[], object]], rounds: int, slow: int = 0) -> Times:
    """Seconds of each way; every round starts with another one. `slow` ways answer less often.

    A way that takes more than five times the fastest is asked `slow` times only (0: always).
    """
    times: Times = {name: [] for name in ways}
    names = list(ways)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            fastest = min((statistics.median(t) for t in times.values() if t), default=0.0)
            is_slow = times[name] and statistics.median(times[name]) > 5 * fastest
            if slow and is_slow and len(times[name]) >= slow:
                continue
            start = time.perf_counter()
            ways[name]()
            times[name].append(time.perf_counter() - start)
    return times


def medians(times: Times) -> dict[str, float]:
    return {name: statistics.median(spent) for name, spent in times.items()}


def targets(rows: Sequence[tuple[str, float, float]]) -> None:
    """Print `what, figure, target` and whether the figure reaches the target."""
    print(f"\n{'target':58} {'at least':>9} {'measured':>9}")
    for what, found, wanted in rows:
        print(f"{what:58} {wanted:9.2f} {found:9.2f}  {'pass' if found >= wanted else 'MISS'}")


def scratch() -> str | None:
    """A folder in memory where the system has one: then no disk is measured."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


def resident(mark: str) -> int:
    """Bytes that this process has in memory now (VmRSS), or had at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(mark))
