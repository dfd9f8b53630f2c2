"""Segmentation: a small 2D U-Net over planes, scored over whole cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from monai.metrics.meandice import DiceMetric
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from fusion.baseline.cases import Arm, Case
from fusion.baseline.fit import Batch, Plan
from fusion.baseline.planes import Stack
from fusion.baseline.pool import Pool, annotated_mask, labelled_planes
from fusion.baseline.score import CaseScore
from fusion.baseline.tier import Tier

_PREDICT = 32  # planes at once
_DICE_CE = DiceCELoss(sigmoid=True, batch=True)


@dataclass(frozen=True)
class Segmenter:
    """One output channel per concept, each a yes or no of its own.

    So a case that is not annotated for a concept says nothing about it.
    """

    concepts: Sequence[str]
    channels: int
    stacks: Mapping[str, Stack]
    device: torch.device

    def network(self) -> nn.Module:
        """A U-Net with 16 to 128 features."""
        net: nn.Module = UNet(
            spatial_dims=2,
            in_channels=self.channels,
            out_channels=len(self.concepts),
            channels=(16, 32, 64, 128),
            strides=(2, 2, 2),
        )
        return net.to(self.device)

    def plan(self, arm: Arm, tier: Tier, steps: int, seed: int) -> Plan:
        """What to train on, with which loss, chosen by mean Dice of the val cases."""
        planes = {case.id: labelled_planes(self.stacks[case.id]) for case in arm.train}
        pool = Pool(arm.train, self.stacks, planes, np.random.default_rng(seed))

        def draw() -> Batch:
            drawn = pool.draw(tier.batch)
            labels = np.stack([self._labels(case)[plane] for case, plane in drawn])
            mask = annotated_mask([case for case, _ in drawn], self.concepts, self.device)
            return Batch(pool.images(drawn, self.device), self._one_hot(labels, 1), mask)

        def quality(net: nn.Module) -> float:
            dice = [d for case in arm.val for d in self.score(net, case).dice.values()]
            return float(np.mean([d for d in dice if d is not None] or [0.0]))

        return Plan(draw, partial_loss, quality if arm.val else None, steps)

    def score(self, net: nn.Module, case: Case) -> CaseScore:
        """Dice over all planes of the case, for the concepts annotated in it."""
        known = [k for k, concept in enumerate(self.concepts) if concept in case.annotated]
        predicted = self._predict(net, case)[known]
        reference = self._one_hot(self._labels(case), 0)[known] > 0
        dice = case_dice(predicted, reference)
        return CaseScore(
            case.source, case.group, dict(zip([self.concepts[k] for k in known], dice, strict=True))
        )

    def _predict(self, net: nn.Module, case: Case) -> Tensor:
        """(K, Z, edge, edge) of bool."""
        images = torch.from_numpy(self.stacks[case.id].images)
        net.eval()
        with torch.inference_mode():
            parts = [
                net(part.to(self.device, torch.float32)) > 0
                for part in torch.split(images, _PREDICT)
            ]
        return torch.cat(parts).movedim(1, 0)

    def _labels(self, case: Case) -> np.ndarray:
        labels = self.stacks[case.id].labels
        if labels is None:
            raise ValueError(f"{case.id}: found no label file, expected one for segmentation")
        return labels

    def _one_hot(self, labels: np.ndarray, axis: int) -> Tensor:
        values = np.arange(1, len(self.concepts) + 1, dtype=labels.dtype)
        hot = np.stack([labels == value for value in values], axis=axis)
        return torch.from_numpy(hot).to(self.device, torch.float32)


def partial_loss(logits: Tensor, targets: Tensor, annotated: Tensor) -> Tensor:
    """Dice and cross-entropy, averaged over concepts.

    Concept k is learnt only from inputs with `annotated[:, k]`: the others give it no gradient.

    Args:
        logits: (B, K, H, W).
        targets: (B, K, H, W) of 0 and 1.
        annotated: (B, K) of bool.
    """
    losses = [
        _DICE_CE(logits[known, k : k + 1], targets[known, k : k + 1])
        for k, known in enumerate(annotated.unbind(1))
        if known.any()
    ]
    return torch.stack(losses).mean() if losses else logits.new_zeros(())


def case_dice(predicted: Tensor, reference: Tensor) -> list[float | None]:
    """Dice of each concept over all planes; both empty gives None, one empty 0.

    Args:
        predicted: (K, Z, H, W) of bool.
        reference: the same.
    """
    if not len(reference):
        return []
    metric = DiceMetric(include_background=True, reduction="none", ignore_empty=False)
    dice = metric(predicted[None].float(), reference[None].float())
    filled = (predicted | reference).flatten(1).any(dim=1).tolist()
    return [
        value if any_voxel else None
        for value, any_voxel in zip(torch.as_tensor(dice)[0].tolist(), filled, strict=True)
    ]
