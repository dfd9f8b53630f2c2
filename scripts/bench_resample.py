"""How fast is our resampling against SimpleITK and against nibabel with scipy?

    python scripts/bench_resample.py [--size 256] [--rounds 5]

One task, all ways in turn in one process, medians: an LPI image and a label map to RAS at 1 mm,
linear and nearest. Every answer is compared with SimpleITK's before any time is printed; read the
ratios, not the seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import nibabel as nib
import nibabel.processing
import numpy as np
import SimpleITK as sitk  # noqa: N813
from benchlib import in_turn, medians, targets

from fusion.imaging.geometry import to_ras
from fusion.imaging.harmonise import resample, target_grid
from fusion.imaging.volume import Array, Grid, Volume

Pair = tuple[Array, Array]
#: Rim that is left out of the comparison: libraries differ on what lies outside.
RIM = 3


def task(size: int) -> tuple[Volume, Volume, Grid]:
    """Image, label map and target: (size, size, 5/8 size) at 0.93 x 0.93 x 1.17 mm, seeded."""
    shape = (size, size, size * 5 // 8)
    affine = np.diag([-0.93, -0.93, -1.17, 1.0])
    affine[:3, 3] = 100, 110, 90
    rng = np.random.default_rng(0)
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    radius = np.sqrt((place**2).sum(axis=0))
    image = (1000 * np.cos(5 * radius) + rng.normal(0, 50, shape)).astype(np.float32)
    label = (np.digitize(radius, [0.3, 0.5, 0.7, 0.9]) % 5).astype(np.uint8)
    grid = Grid(shape, affine)
    volumes = [Volume(np.asfortranarray(array), grid) for array in (image, label)]
    return volumes[0], volumes[1], target_grid(grid, (1, 1, 1))


def ours(backend: str, image: Volume, label: Volume, grid: Grid) -> Pair:
    moved = resample(to_ras(image)[0], grid, backend=backend).array
    return moved, resample(to_ras(label)[0], grid, interpolation="nearest", backend=backend).array


def simpleitk(image: Volume, label: Volume, grid: Grid) -> Pair:
    reference = sitk.Image([int(n) for n in grid.shape], sitk.sitkUInt8)
    _place(reference, grid)
    found = []
    for volume, kind in ((image, sitk.sitkLinear), (label, sitk.sitkNearestNeighbor)):
        source = sitk.GetImageFromArray(volume.array.T)
        _place(source, volume.grid)
        moved = sitk.Resample(source, reference, sitk.Transform(), kind, 0.0, source.GetPixelID())
        found.append(sitk.GetArrayFromImage(moved).T)
    return found[0], found[1]


def _place(image: sitk.Image, grid: Grid) -> None:
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / grid.spacing_mm).ravel().tolist())


def nibabel_scipy(image: Volume, label: Volume, grid: Grid) -> Pair:
    found = []
    for volume, order in ((image, 1), (label, 0)):
        source = nib.Nifti1Image(volume.array, volume.grid.affine)
        moved = nibabel.processing.resample_from_to(source, (grid.shape, grid.affine), order=order)
        found.append(np.asanyarray(moved.dataobj))
    return found[0], found[1]


def check(name: str, found: Pair, expected: Pair) -> str:
    """Largest difference of the images, share of other labels; stops when they are not equal."""
    inner = (slice(RIM, -RIM),) * 3
    spread = float(np.ptp(expected[0]))
    image = float(np.abs(found[0][inner] - expected[0][inner]).max()) / spread
    label = float((found[1][inner] != expected[1][inner]).mean())
    if image > 1e-4 or label > 1e-3:  # noqa: PLR2004
        sys.exit(f"{name}: image differs by {image:.2g} of its range, {label:.2%} of the labels")
    return f"{image:.0e} of range, {label:.3%} of labels"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    volumes = task(options.size)
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    ways: dict[str, Callable[..., Pair]] = {
        f"SimpleITK, {threads} threads": simpleitk,
        "nibabel + scipy, order 1": nibabel_scipy,
        "ours, numpy": partial(ours, "numpy"),
        "ours, torch": partial(ours, "torch"),
        "ours, numba": partial(ours, "numba"),
    }
    expected = simpleitk(*volumes)
    # The first call compiles, and is the one that is checked.
    agreement = {name: check(name, way(*volumes), expected) for name, way in ways.items()}
    calls = {name: partial(way, *volumes) for name, way in ways.items()}
    spent_by = medians(in_turn(calls, options.rounds))
    best, base = spent_by["ours, numba"], next(iter(spent_by.values()))
    print(f"image and label {volumes[0].grid.shape} -> {volumes[2].shape}, {options.rounds} rounds")
    print(f"{'way':28} {'ms':>8} {'x SimpleITK':>12} {'numba is':>10}  difference from SimpleITK")
    for name, spent in spent_by.items():
        ratio, gain = base / spent, spent / best
        print(f"{name:28} {1e3 * spent:8.1f} {ratio:12.2f} {gain:9.1f}x  {agreement[name]}")
    targets([("resample x SimpleITK with its own threads", base / best, 8)])


if __name__ == "__main__":
    main()
