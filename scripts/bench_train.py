"""Training: our loop against a plain MONAI loop, and how long ours waits for data.

Same network, loss, optimiser, files, batch and number of steps; both loops run in turns in one
process, and medians of the turns are compared. The MONAI loop is the one of its tutorials:
CacheDataset with every case cached, random crops on structures, a DataLoader.

    python scripts/bench_train.py [--steps 20] [--turns 3] [--threads 1]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import nibabel as nib
import numpy as np
import torch
from monai.data.dataloader import DataLoader
from monai.data.dataset import CacheDataset
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from monai.transforms.croppad.dictionary import RandCropByPosNegLabeld

from fusion.baseline.cases import Case, arms_of
from fusion.baseline.device import settled
from fusion.baseline.fit import Room, fit
from fusion.baseline.grid import Canvas, Stack, load
from fusion.baseline.segment import Predictor, Segmenter, partial_loss
from fusion.baseline.tier import Tier
from fusion.baseline.weights import build

CPU = torch.device("cpu")
CASES = 16
SLOWEST, LONGEST_WAIT = 1.0, 0.05


def make_cases(folder: Path, dims: int) -> list[Case]:
    """Noisy volumes with one bright ball; thick planes where planes are to be learnt."""
    rng, cases = np.random.default_rng(0), []
    shape, spacing = ((64, 64, 64), (1.0,) * 3) if dims > 2 else ((128, 128, 12), (1.0, 1.0, 6.0))  # noqa: PLR2004
    for number in range(CASES):
        places = np.indices(shape) - np.array([n // 2 for n in shape]).reshape(3, 1, 1, 1)
        label = (places**2).sum(0) < rng.integers(8, 16) ** 2
        image = rng.normal(100, 20, shape) + 80 * label
        files = []
        for name, array in (("image", image.astype(np.int16)), ("label", label.astype(np.uint8))):
            path = folder / f"{number:02d}_{name}.nii.gz"
            nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1.0])), path)
            files.append(path)
        cases.append(
            Case(
                id=f"{number:02d}", source="a", group=str(number), split="train",
                annotated=frozenset({"ball"}), classes={}, shape=shape, spacing_mm=spacing,
                channels=1, unit="unknown", images=(files[0],), label=files[1],
            )
        )  # fmt: skip
    return cases


def ours(learner: Segmenter, cases: list[Case], tier: Tier) -> Callable[[], tuple[float, float]]:
    """Images per second of our loop, and the share of its time that it waited."""
    arm = replace(arms_of(cases, ["a"], "holdout")[0], train=tuple(cases), val=())

    def run() -> tuple[float, float]:
        torch.manual_seed(0)
        net = settled(build("segmentation", learner.design(tier), None), CPU, learner.canvas.dims)
        plan = learner.plan(arm, tier, 0, Predictor(learner.canvas, CPU, Room([])))
        found = fit(net, replace(plan, steps=tier.steps), tier, lambda _: None, CPU)
        images = tier.steps * (tier.batch_3d if learner.canvas.dims > 2 else tier.batch)  # noqa: PLR2004
        return images / found.trained_s, found.waited_s / found.trained_s

    return run


def plain(
    learner: Segmenter, stacks: list[Stack], tier: Tier, batch: int
) -> Callable[[], tuple[float, float]]:
    """The same of a loop as MONAI's tutorials write it."""
    patch, dims = learner.canvas.patch, learner.canvas.dims
    items = [
        {"image": MetaTensor(image.astype(np.float32)), "label": MetaTensor(label[None] > 0)}
        for stack in stacks
        for image, label in zip(stack.images, stack.labels, strict=True)  # type: ignore[arg-type]
        if label.any()
    ]
    crop = RandCropByPosNegLabeld(
        ["image", "label"], "label", (patch,) * dims, pos=4, neg=1, num_samples=1
    )
    data = CacheDataset(items, Compose([crop]), num_workers=2, progress=False)

    def run() -> tuple[float, float]:
        torch.manual_seed(0)
        net = build("segmentation", learner.design(tier), None)
        rates = {2: tier.learning_rate_2d, 3: tier.learning_rate_3d}
        optimiser = torch.optim.AdamW(net.parameters(), lr=rates[dims])
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, tier.steps)
        draws = torch.utils.data.RandomSampler(
            data, replacement=True, num_samples=batch * tier.steps
        )
        loader = iter(DataLoader(data, batch_size=batch, sampler=draws))
        begun, waited = time.monotonic(), 0.0
        net.train()
        for _ in range(tier.steps):
            asked = time.monotonic()
            drawn: Any = next(loader)
            waited += time.monotonic() - asked
            optimiser.zero_grad()
            known = torch.ones(len(drawn["image"]), 1, dtype=torch.bool)
            loss = partial_loss(net(drawn["image"]), drawn["label"].float(), known)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            loss.item()  # a loop that shows its loss
        took = time.monotonic() - begun
        return batch * tier.steps / took, waited / took

    return run


def canvas_of(dims: int) -> Canvas:
    """Patches of 96 x 96 pixels, or of 32 x 32 x 32 voxels."""
    solid = dims > 2  # noqa: PLR2004
    edge, patch = (64, 32) if solid else (128, 96)
    return Canvas(dims, None if solid else 2, edge, 1.0, patch, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of torch, in both loops")
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    tier, failed = Tier(steps=told.steps), False
    for dims in (2, 3):
        with tempfile.TemporaryDirectory() as folder:
            cases, canvas = make_cases(Path(folder), dims), canvas_of(dims)
            stacks = {case.id: load(case, canvas, 1) for case in cases}
        learner = Segmenter(["ball"], frozenset(), canvas, stacks)
        batch = tier.batch_3d if dims > 2 else tier.batch  # noqa: PLR2004
        loops = [ours(learner, cases, tier), plain(learner, list(stacks.values()), tier, batch)]
        turns = [[loop() for loop in loops] for _ in range(told.turns)]
        (rate, wait), (other, other_wait) = (
            (median(turn[i][0] for turn in turns), median(turn[i][1] for turn in turns))
            for i in range(2)
        )
        ratio = median(turn[0][0] / turn[1][0] for turn in turns)
        print(
            f"{dims}D, batch {batch} of {canvas.patch}: ours {rate:.1f} images/s, waiting "
            f"{wait:.1%}; MONAI {other:.1f} images/s, waiting {other_wait:.1%}; {ratio:.2f} x",
            flush=True,
        )
        failed |= ratio < SLOWEST or wait > LONGEST_WAIT
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
