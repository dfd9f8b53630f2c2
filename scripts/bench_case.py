#!/usr/bin/env python
"""Time one case from files to files beside the usual libraries, and the product's own whole case.

    scripts/bench_case.py [--size 256] [--rounds R]

The task of the first table: read an int16 image and a uint8 label map (.nii.gz, level 6, LPI),
bring both to RAS at 1 mm (linear, nearest), write both as .nii.gz, the image as float32. Each way
does it as its documentation shows, with its own threads; all results are compared with
SimpleITK's before any time is printed. The second table is what a build does with the same case:
both hashes of every file, T1, unit, quantiles, smoothing, label votes, structures before and after,
round trip, one bundle-ready folder; alone, and with one and two processes. Files lie in memory
where the system has /dev/shm.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

import nibabel as nib
import numpy as np
import scipy.ndimage
import SimpleITK as sitk  # noqa: N813
from benchlib import MIB, ct_like, in_turn, medians, resident, scratch, targets, write_nifti_gz

from fusion.cases import FoundCase
from fusion.imaging.file_hash import file_sha256
from fusion.imaging.geometry import to_ras
from fusion.imaging.harmonise import resample, target_grid
from fusion.imaging.io import read_image, write_nifti
from fusion.imaging.parallel import beside
from fusion.imaging.volume import Grid, Volume

SPACING = (0.94, 0.94, 1.2)
CASES = 6
#: Rim that is left out of the comparison: libraries differ on what lies outside.
RIM = 3
FILES = ("image.nii.gz", "label.nii.gz")
CONCEPTS = ("spleen", "liver", "pancreas", "stomach", "aorta")


def ours(source: Path, out: Path) -> None:
    def bring(name: str, kind: str) -> None:
        volume = to_ras(read_volume(source / name))[0]
        grid = target_grid(volume.grid, (1, 1, 1))
        write_nifti(resample(volume, grid, interpolation=kind), out / name)

    # Unpacking a stream keeps one core busy: the label map comes beside it.
    label = beside(lambda: bring(FILES[1], "nearest"))
    bring(FILES[0], "linear")
    label()


def read_volume(path: Path) -> Volume:
    volume = read_image(path)
    if not isinstance(volume, Volume):
        raise TypeError(path.name)
    return volume


def _canonical(source: Path, name: str) -> tuple[Any, Grid]:
    image = nib.as_closest_canonical(nib.load(source / name))
    return image, target_grid(Grid(image.shape, image.affine), (1, 1, 1))


def nibabel_scipy(source: Path, out: Path) -> None:
    for name, order, kind in zip(FILES, (1, 0), (np.float32, np.uint8), strict=True):
        image, grid = _canonical(source, name)
        moved = scipy.ndimage.affine_transform(
            np.asanyarray(image.dataobj).astype(kind),
            1 / np.array(image.header.get_zooms()),
            output_shape=grid.shape,
            order=order,
            mode="nearest",
        )
        nib.save(nib.Nifti1Image(moved, grid.affine), out / name)


def nibabel_simpleitk(source: Path, out: Path) -> None:
    kinds = ((sitk.sitkLinear, np.float32), (sitk.sitkNearestNeighbor, np.uint8))
    for name, (kind, dtype) in zip(FILES, kinds, strict=True):
        image, grid = _canonical(source, name)
        held = sitk.GetImageFromArray(np.asanyarray(image.dataobj).astype(dtype).T)
        held.SetSpacing([float(size) for size in image.header.get_zooms()])
        # Both grids share origin and directions: only spacing and size differ.
        moved = sitk.Resample(
            held,
            [int(n) for n in grid.shape],
            sitk.Transform(),
            kind,
            (0.0, 0.0, 0.0),
            (1.0, 1.0, 1.0),
            held.GetDirection(),
            0.0,
            held.GetPixelID(),
        )
        nib.save(nib.Nifti1Image(sitk.GetArrayFromImage(moved).T, grid.affine), out / name)


def torchio_way() -> Callable[[Path, Path], None]:
    tio: Any = importlib.import_module("torchio")
    chain = tio.Compose([tio.ToCanonical(), tio.Resample(1.0, image_interpolation="linear")])

    def way(source: Path, out: Path) -> None:
        subject = tio.Subject(
            image=tio.ScalarImage(source / FILES[0]), label=tio.LabelMap(source / FILES[1])
        )
        moved = chain(subject)
        moved.image.save(out / FILES[0])
        moved.label.save(out / FILES[1])

    return way


def monai_way() -> Callable[[Path, Path], None]:
    monai: Any = importlib.import_module("monai.transforms")
    keys = ("image", "label")

    def saver(key: str, out: Path, dtype: Any) -> Any:
        return monai.SaveImaged(
            key, output_dir=out, output_postfix="", separate_folder=False, output_dtype=dtype,
            resample=False, print_log=False,
        )  # fmt: skip

    def way(source: Path, out: Path) -> None:
        chain = monai.Compose(
            [
                monai.LoadImaged(keys, ensure_channel_first=True),
                monai.Orientationd(
                    keys, axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))
                ),
                monai.Spacingd(keys, pixdim=(1, 1, 1), mode=("bilinear", "nearest")),
                saver("image", out, np.float32),
                saver("label", out, np.uint8),
            ]
        )
        chain({"image": source / FILES[0], "label": source / FILES[1]})

    return way


def check(name: str, source: Path, out: Path) -> str:
    """Largest difference of the image from SimpleITK's on the grid that the file claims, in SD.

    And the share of other labels; ends the bench where they are not equal.
    """
    apart = []
    for file, kind in zip(FILES, (sitk.sitkLinear, sitk.sitkNearestNeighbor), strict=True):
        made = sitk.ReadImage(out / file)
        held = sitk.Cast(sitk.ReadImage(source / file), made.GetPixelID())
        expected = sitk.GetArrayFromImage(sitk.Resample(held, made, sitk.Transform(), kind))
        inner = (slice(RIM, -RIM),) * 3
        found = sitk.GetArrayFromImage(made)[inner]
        difference = np.abs(found.astype(float) - expected[inner])
        is_image = kind == sitk.sitkLinear
        apart.append(difference.max() / expected.std() if is_image else (difference > 0).mean())
    if apart[0] > 1e-2 or apart[1] > 1e-2 or not np.allclose(made.GetSpacing(), 1):  # noqa: PLR2004
        sys.exit(f"{name}: image differs by {apart[0]:.2g} SD, {apart[1]:.2%} of the labels")
    return f"{apart[0]:.0e} SD, {apart[1]:.3%} of labels"


def chain_table(folder: Path, rounds: int) -> list[tuple[str, float, float]]:
    source, outs = folder / "case0", folder / "out"
    ways: dict[str, Callable[[Path, Path], None]] = {
        "SimpleITK with nibabel": nibabel_simpleitk,
        "nibabel + scipy, order 1": nibabel_scipy,
        "TorchIO": torchio_way(),
        "MONAI": monai_way(),
        "ours": ours,
    }
    agreement = {}
    calls: dict[str, Callable[[], object]] = {}
    for number, (name, way) in enumerate(ways.items()):
        out = outs / str(number)
        out.mkdir(parents=True)
        way(source, out)  # the first call compiles and loads, and is the one that is checked
        agreement[name] = check(name, source, out)
        calls[name] = lambda way=way, out=out: way(source, out)  # type: ignore[misc]
    spent = medians(in_turn(calls, rounds))
    print("one case from files to files")
    print(f"{'way':28} {'ms':>8} {'ours is':>9}  difference from SimpleITK")
    for name, seconds in spent.items():
        gain = seconds / spent["ours"]
        print(f"{name:28} {1e3 * seconds:8.0f} {gain:8.1f}x  {agreement[name]}")
    wanted = {
        "nibabel + scipy, order 1": 15,
        "SimpleITK with nibabel": 4,
        "TorchIO": 8,
        "MONAI": 10,
    }
    return [(f"case x {one}", spent[one] / spent["ours"], least) for one, least in wanted.items()]


def plan_of() -> tuple[Any, dict[str, Any]]:
    """The plan of a build over these cases, and its one source."""
    from fusion.plan import make_plan
    from fusion.recipe_check import check_recipe

    values = {str(value): concept for value, concept in enumerate(CONCEPTS, 1)}
    description = {
        "name": "made",
        "modality": "CT",
        "family": "CT",
        "dimension": "3D",
        "cases": {"image": "{name}/image.nii.gz", "subject": "{name}"},
        "layers": [{"kind": "label_map", "path": "{name}/label.nii.gz", "values": values}],
    }
    recipe = {
        "schema": "imaging-x/recipe/1",
        "title": "bench",
        "task": "segmentation",
        "concepts": list(CONCEPTS),
        "baseline": {"tier": "none"},
        "target": {"profile": "grid", "spacing_mm": [1, 1, 1]},
        "sources": [
            {
                "id": "made",
                "dataset": "made",
                "location": {"kind": "local", "path": "."},
                "description": description,
            }
        ],
    }
    plan = make_plan(check_recipe(recipe, {"made"}))
    return plan, plan.sources[0]


def found_case(name: str) -> FoundCase:
    return FoundCase(name, name, f"{name}/{FILES[0]}", ((f"{name}/{FILES[1]}",),), None)


def lock_of(folder: Path) -> Path:
    files = [
        {"path": path.relative_to(folder).as_posix(), "sha256": file_sha256(path)}
        for path in sorted(folder.glob("*/*.nii.gz"))
    ]
    path = folder / "lock.json"
    path.write_text(json.dumps({"sources": {"made": {"files": files}}}))
    return path


def product_table(folder: Path, rounds: int) -> list[tuple[str, float, float]]:
    """The whole case as a build does it, and how it grows with processes."""
    from fusion import pool
    from fusion.imaging.parallel import core_count
    from fusion.pool import in_children, share_cores
    from fusion.stages.harmonise import harmonise_one

    pool.CHILDREN_KEPT = 2
    plan, source = plan_of()
    lock = lock_of(folder)

    def jobs(threads: int, count: int) -> list[tuple[Any, ...]]:
        names = [f"case{n % CASES}" for n in range(count)]
        return [
            (plan, source, folder, found_case(name), folder / "built" / f"{n}", lock, threads)
            for n, name in enumerate(names)
        ]

    def run(children: int) -> None:
        threads = max(1, core_count() // children)
        cases = jobs(threads, 2 * CASES)
        for answer in in_children(harmonise_one, cases, children, lambda: None):
            if answer is not None:
                sys.exit(f"a case failed: {answer}")

    here = jobs(core_count(), 1)[0]
    ways: dict[str, Callable[[], object]] = {
        "in this process": lambda: harmonise_one(*here),
        "1 process": lambda: run(1),
        "2 processes": lambda: run(2),
    }
    for way in ways.values():
        way()
    spent = medians(in_turn(ways, max(2, rounds // 2)))
    rates = {n: (1 if n == "in this process" else 2 * CASES) / s for n, s in spent.items()}
    print("\nthe product's whole case: checks, hashes, votes, structures, round trip")
    for name, rate in rates.items():
        print(f"{name:28} {rate:8.1f} cases/s  ({1e3 / rate:.0f} ms a case)")
    print(f"a build of many cases here: {share_cores(0, 0, 1000)[1]} children")
    return [
        ("2 processes x 1 process with all threads", rates["2 processes"] / rates["1 process"], 1)
    ]


def memory_table(folder: Path) -> list[tuple[str, float, float]]:
    """Highest memory of a fresh process over one case, against its inputs and outputs."""
    command = [sys.executable, __file__, "--memory", str(folder)]
    # Without the variables that keep freed memory: it would hide what a case asks for.
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    used, arrays = json.loads(subprocess.check_output(command, text=True, env=plain))
    print(
        f"\nmemory of one whole case: {used / MIB:.0f} MiB; inputs and outputs {arrays / MIB:.0f}"
    )
    return [("inputs + outputs + 20 % over the memory used", 1.2 * arrays / used, 1)]


def measure_memory(folder: Path) -> None:
    """In a fresh process: warm up on a small case, then one large case; prints the growth."""
    from fusion.stages.harmonise import harmonise_one

    plan, source = plan_of()
    lock = folder / "lock.json"
    out = folder / "memory"
    harmonise_one(plan, source, folder, found_case("small"), out, lock, 2)
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts anew
    before = resident("VmRSS")
    harmonise_one(plan, source, folder, found_case("case0"), out, lock, 2)
    used = resident("VmHWM") - before
    arrays = 0
    for place in (folder / "case0", out):
        arrays += sum(read_volume(place / file).array.nbytes for file in FILES)
    print(json.dumps([used, arrays]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5, metavar="R")
    parser.add_argument("--memory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        measure_memory(options.memory)
        return
    shape = (options.size, options.size, options.size * 5 // 8)
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    try:
        names = [*(f"case{number}" for number in range(CASES)), "small"]
        for number, name in enumerate(names):
            place = folder / name
            place.mkdir()
            image, label, affine = ct_like(
                (48, 48, 30) if name == "small" else shape, SPACING, number
            )
            write_nifti_gz(place / FILES[0], image, affine)
            write_nifti_gz(place / FILES[1], label, affine)
        rows = chain_table(folder, options.rounds)
        rows += product_table(folder, options.rounds)
        rows += memory_table(folder)
        targets(rows)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
