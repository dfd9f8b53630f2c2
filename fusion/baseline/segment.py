"""Segmentation: a U-Net over patches of planes or volumes, scored over whole cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers.utils import sliding_window_inference
from monai.losses.dice import DiceCELoss
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from fusion.baseline.cases import Arm, Case
from fusion.baseline.device import Precision, is_out_of_memory, memory_format
from fusion.baseline.fit import Batch, Plan, Room
from fusion.baseline.grid import SOLID, Canvas, Stack
from fusion.baseline.masks import mask_score
from fusion.baseline.pool import Pool, annotated_mask, spread
from fusion.baseline.tier import Tier

_WINDOWS = {2: 32, SOLID: 8}  # through the network at once
_OVERLAP = 0.25
_SURELY_NOT = -30.0  # a logit that adds nothing to Dice and cross-entropy
_DICE_CE = DiceCELoss(sigmoid=True, batch=True)


@dataclass(frozen=True)
class Segmenter:
    """One output channel per concept, each a yes or no of its own.

    So a case that is not annotated for a concept says nothing about it.
    """

    concepts: Sequence[str]
    lesions: frozenset[str]
    canvas: Canvas
    stacks: Mapping[str, Stack]

    def design(self, tier: Tier) -> dict[str, Any]:
        """Arguments of `unet`."""
        solid = self.canvas.dims == SOLID
        return {
            "spatial_dims": self.canvas.dims,
            "in_channels": self.canvas.channels,
            "out_channels": len(self.concepts),
            "channels": list(tier.features_3d if solid else tier.features),
        }

    def plan(self, arm: Arm, tier: Tier, seed: int, predictor: Predictor) -> Plan:
        """What to train on, with which loss, chosen by mean Dice of the val cases."""
        pool = Pool(arm.train, self.stacks, self.canvas.patch, seed, self.concepts).ready()
        solid = self.canvas.dims == SOLID
        size = tier.batch_3d if solid else tier.batch
        rate = tier.learning_rate_3d if solid else tier.learning_rate_2d

        ignores = any(self.stacks[case.id].ignore for case in arm.train)

        def draw(step: int) -> Batch:
            windows = pool.draw(step, size)
            labels = np.stack([self.labels(w.case)[w.plane][w.within] for w in windows])
            mask = annotated_mask([w.case for w in windows], self.concepts)
            return Batch(pool.images(windows), labels.astype(np.int32), mask)

        def targets(labels: Tensor) -> Tensor:
            values = torch.arange(1, len(self.concepts) + 1, device=labels.device)
            shape = (1, -1, *[1] * (labels.ndim - 1))
            hot = (labels[:, None] == values.view(shape)).float()
            return torch.cat([hot, (labels[:, None] > len(values)).float()], 1) if ignores else hot

        val = [arm.val[i] for i in spread(np.arange(len(arm.val)), tier.val_cases)]

        def quality(net: nn.Module) -> float:
            dice = [d for case in val for d in self._dice(net, case, predictor)]
            return float(np.mean(dice or [0.0]))

        steps = 0  # set by who knows the budget
        return Plan(draw, targets, partial_loss, quality if val else None, steps, rate)

    def outcome(self, net: nn.Module, case: Case, predictor: Predictor) -> dict[str, Any]:
        """Scores of each concept annotated in the case."""
        stack = self.stacks[case.id]
        predicted, reference = self.pair(net, case, predictor)
        return {
            "masks": {
                concept: mask_score(
                    predicted[concept],
                    reference[concept],
                    stack.spacing,
                    has_mm=stack.has_mm,
                    is_lesion=concept in self.lesions,
                )
                for concept in predicted
            }
        }

    def _dice(self, net: nn.Module, case: Case, predictor: Predictor) -> list[float]:
        predicted, reference = self.pair(net, case, predictor)
        sums = {c: int(predicted[c].sum()) + int(reference[c].sum()) for c in predicted}
        return [
            2 * int((predicted[c] & reference[c]).sum()) / total
            for c, total in sums.items()
            if total
        ]

    def pair(
        self, net: nn.Module, case: Case, predictor: Predictor
    ) -> tuple[dict[str, npt.NDArray[np.bool_]], dict[str, npt.NDArray[np.bool_]]]:
        """Predicted and true mask (N, ...) of each annotated concept; none where nobody looked."""
        stack, labels = self.stacks[case.id], self.labels(case)
        logits = stack.unpadded(predictor.logits(net, stack.images))
        known = [(k, c) for k, c in enumerate(self.concepts) if c in case.annotated]
        inner = stack.unpadded(labels)
        counts = inner <= len(self.concepts)
        guess = {c: (logits[:, k] > 0) & counts for k, c in known}
        return guess, {c: inner == k + 1 for k, c in known}

    def labels(self, case: Case) -> npt.NDArray[np.uint16]:
        """The label map of a case, which it must have."""
        labels = self.stacks[case.id].labels
        if labels is None:
            raise ValueError(f"{case.id}: found no label file, expected one for segmentation")
        return labels


@dataclass(frozen=True)
class Predictor:
    """Sliding windows over whole images, as many at once as fit."""

    canvas: Canvas
    place: torch.device
    room: Room

    def logits(self, net: nn.Module, images: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
        """(N, K, ...) of images (N, C, ...)."""
        net.eval()
        precision = Precision(self.place)

        def run(windows: Tensor) -> Tensor:
            windows = windows.to(self.place, memory_format=memory_format(windows))
            with precision.cast():
                return net(windows).float()  # type: ignore[no-any-return]

        parts, start = [], 0
        with torch.inference_mode():
            while start < len(images):
                size = min(self.room.windows, _WINDOWS[self.canvas.dims])
                # A volume is cut into windows; planes are many already.
                chunk = 1 if self.canvas.dims == SOLID else size
                inputs = torch.from_numpy(images[start : start + chunk].astype(np.float32))
                found = None
                try:
                    found = self._slide(inputs, size, run)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                if found is None:  # not while the error holds on to what the failed try had made
                    self.room.halve("windows", size)
                    continue
                parts.append(found)
                start += chunk
        return np.concatenate(parts)

    def _slide(self, inputs: Tensor, size: int, run: Any) -> npt.NDArray[np.float32]:
        roi = (self.canvas.patch,) * self.canvas.dims
        if tuple(inputs.shape[2:]) == roi:
            return np.asarray(run(inputs).cpu())
        slid = sliding_window_inference(
            inputs, roi, size, run, overlap=_OVERLAP, mode="gaussian", device=torch.device("cpu")
        )
        return np.asarray(torch.as_tensor(slid))


def unet(**design: Any) -> nn.Module:
    """MONAI's U-Net; each level halves the one before."""
    return UNet(strides=(2,) * (len(design["channels"]) - 1), **design)


def partial_loss(logits: Tensor, targets: Tensor, annotated: Tensor) -> Tensor:
    """Dice and cross-entropy, averaged over concepts.

    Concept k is learnt only from inputs with `annotated[:, k]`: the others give it no gradient.

    Args:
        logits: (B, K, ...).
        targets: (B, K, ...) of 0 and 1; one more is 1 where nobody annotated: no gradient there.
        annotated: (B, K) of bool.
    """
    if targets.shape[1] > logits.shape[1]:
        logits = logits.masked_fill(targets[:, -1:] > 0, _SURELY_NOT)
    losses = [
        _DICE_CE(logits[known, k : k + 1], targets[known, k : k + 1])
        for k, known in enumerate(annotated.unbind(1))
        if known.any()
    ]
    return torch.stack(losses).mean() if losses else logits.new_zeros(())
