"""Classification: a small DenseNet over whole planes or volumes; a cut volume is their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.networks.nets.densenet import DenseNet
from torch import Tensor, nn

from fusion.baseline.cases import Arm, Case
from fusion.baseline.fit import Batch, Plan
from fusion.baseline.grid import SOLID, Canvas, Stack
from fusion.baseline.pool import Pool, spread
from fusion.baseline.segment import Predictor
from fusion.baseline.tier import Tier

_PLANES = 8  # of one volume


@dataclass(frozen=True)
class Classifier:
    """One output per concept; uncertain and unannotated truths are never learnt or scored.

    Attributes:
        exclusive: every case has exactly one of the classes: probabilities sum to 1. Else each
            class is a yes or no of its own.
    """

    concepts: Sequence[str]
    exclusive: bool
    canvas: Canvas
    stacks: Mapping[str, Stack]

    def design(self, tier: Tier) -> dict[str, Any]:
        """Arguments of `dense_net`."""
        return {
            "spatial_dims": self.canvas.dims,
            "in_channels": self.canvas.channels,
            "out_channels": len(self.concepts),
            "init_features": tier.features[0],
        }

    def plan(self, arm: Arm, tier: Tier, seed: int, predictor: Predictor) -> Plan:
        """What to train on, with which loss, chosen by the mean likelihood of the val cases."""
        pool = Pool(arm.train, self.stacks, self.canvas.patch, seed)
        size = tier.batch_3d if self.canvas.dims == SOLID else tier.batch

        def draw(step: int) -> Batch:
            windows = pool.draw(step, size)
            truths = [truth_of(window.case, self.concepts) for window in windows]
            hot = np.array([[t.get(c, 0) for c in self.concepts] for t in truths], np.float32)
            mask = np.array([[c in truth for c in self.concepts] for truth in truths])
            return Batch(pool.images(windows), hot, mask)

        val = [arm.val[i] for i in spread(np.arange(len(arm.val)), tier.val_cases)]

        def quality(net: nn.Module) -> float:
            found = [self.outcome(net, case, predictor) for case in val]
            return float(np.mean([_log_likelihood(one) for one in found]))

        loss = exclusive_cross_entropy if self.exclusive else masked_cross_entropy
        return Plan(draw, lambda hot: hot, loss, quality if val else None, 0)

    def outcome(self, net: nn.Module, case: Case, predictor: Predictor) -> dict[str, Any]:
        """Probability of each concept annotated in a case, and the truth where it is certain."""
        truth = truth_of(case, self.concepts)
        found = self.probabilities(net, self.stacks[case.id], predictor)
        return {
            "probability": {c: p for c, p in found.items() if c in case.annotated},
            "truth": truth,
        }

    def probabilities(self, net: nn.Module, stack: Stack, predictor: Predictor) -> dict[str, float]:
        """Of each concept in one image."""
        planes = spread(np.arange(len(stack.images)), _PLANES)
        logits = torch.from_numpy(predictor.logits(net, stack.images[planes])).double().mean(dim=0)
        values = logits.softmax(dim=0) if self.exclusive else torch.sigmoid(logits)
        return dict(zip(self.concepts, values.tolist(), strict=True))


def dense_net(**design: Any) -> nn.Module:
    """MONAI's DenseNet with three blocks of two layers."""
    return DenseNet(
        growth_rate=12,
        block_config=(2, 2, 2),
        norm=("instance", {"affine": True}),  # small batches of mixed sources
        **design,
    )


def is_exclusive(cases: Sequence[Case], concepts: Sequence[str]) -> bool:
    """Whether every case has exactly one of several classes, and all are known."""
    truths = [truth_of(case, concepts) for case in cases]
    return len(concepts) > 1 and all(
        len(truth) == len(concepts) and sum(truth.values()) == 1 for truth in truths
    )


def truth_of(case: Case, concepts: Sequence[str]) -> dict[str, int]:
    """Concepts that are certain in a case, with 1 or 0."""
    return {
        concept: case.classes[concept]
        for concept in concepts
        if concept in case.annotated and case.classes.get(concept) in {0, 1}
    }


def masked_cross_entropy(logits: Tensor, targets: Tensor, annotated: Tensor) -> Tensor:
    """Binary cross-entropy over annotated entries of (B, K)."""
    if not annotated.any():
        return logits.new_zeros(())
    return nn.functional.binary_cross_entropy_with_logits(logits[annotated], targets[annotated])


def exclusive_cross_entropy(logits: Tensor, targets: Tensor, _: Tensor) -> Tensor:
    """Cross-entropy of classes (B, K) of which each input has one."""
    return nn.functional.cross_entropy(logits, targets)


def _log_likelihood(found: Mapping[str, Mapping[str, float]]) -> float:
    hits = [
        found["probability"][c] if true else 1 - found["probability"][c]
        for c, true in found["truth"].items()
    ]
    return float(np.mean(np.log(np.clip(hits, 1e-6, 1)))) if hits else 0.0
