"""How much a baseline may cost: smoke, small or standard."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tier:
    """Limits of one tier.

    Attributes:
        cases: at most so many cases are read.
        steps: optimiser steps of a network, at most; see `steps_of`.
        shared_steps: of all networks of a seed together.
        fewest_steps: no network gets fewer.
        batch: inputs of a step, planes; `batch_3d` of patches of a volume.
        validations: how often the val cases are looked at; `patience` of them without a better
            one end the training.
        val_cases: at most so many cases choose the best step.
        seeds: each arm is trained so many times.
        edges: working sizes of planes in pixels, smallest first; each a multiple of 8.
        picture_edges: the same for pictures.
        volume_edge: working size of volumes that are learnt whole, in voxels.
        patch: largest input in pixels; `patch_3d` in voxels; multiples of 8.
        features: of the U-Net's levels; `features_3d` for volumes.
        learning_rate: of classes; `learning_rate_2d` of patches of planes, `learning_rate_3d` of
            those of volumes, `learning_rate_boxes` of boxes.
        seconds: for all networks together; one that outlives its share is cut short, or fails.
    """

    name: str = "smoke"
    cases: int = 200
    steps: int = 200
    shared_steps: int = 1_400
    fewest_steps: int = 80
    batch: int = 8
    batch_3d: int = 2
    validations: int = 4
    patience: int = 10
    val_cases: int = 20
    seeds: int = 1
    edges: tuple[int, ...] = (64, 96)
    picture_edges: tuple[int, ...] = (64, 128)
    volume_edge: int = 64
    patch: int = 128
    patch_3d: int = 32
    features: tuple[int, ...] = (16, 32, 64, 128)
    features_3d: tuple[int, ...] = (8, 16, 32, 64)
    learning_rate: float = 3e-3
    learning_rate_2d: float = 1e-2
    learning_rate_3d: float = 1e-2
    learning_rate_boxes: float = 1e-3
    seconds: float = 600.0

    def steps_of(self, networks: int) -> int:
        """Steps of each of `networks` of a seed: equal."""
        return min(self.steps, max(self.fewest_steps, self.shared_steps // max(networks, 1)))


SMOKE = Tier()
SMALL = Tier(
    name="small",
    cases=2_000,
    steps=1_000,
    shared_steps=2_000,
    fewest_steps=400,
    validations=25,
    val_cases=40,
    seeds=3,
    edges=(64, 96, 128),
    picture_edges=(64, 128, 192),
    volume_edge=96,
    patch_3d=48,
    features_3d=(16, 32, 64, 128),
    learning_rate_2d=3e-3,
    learning_rate_3d=3e-3,
    seconds=7_200.0,
)
STANDARD = Tier(
    name="standard",
    cases=20_000,
    steps=10_000,
    shared_steps=20_000,
    fewest_steps=4_000,
    batch=16,
    batch_3d=4,
    validations=50,
    val_cases=100,
    seeds=3,
    edges=(128, 256, 512),
    picture_edges=(128, 256, 512),
    volume_edge=192,
    patch=256,
    patch_3d=96,
    features=(32, 64, 128, 256),
    features_3d=(32, 64, 128, 256),
    learning_rate=1e-3,
    learning_rate_2d=1e-3,
    learning_rate_3d=1e-3,
    seconds=7_200.0,
)
TIERS = {tier.name: tier for tier in (SMOKE, SMALL, STANDARD)}
