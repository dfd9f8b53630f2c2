"""Classification: a small 2D DenseNet over planes; a volume is the mean of its planes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.networks.nets.densenet import DenseNet
from torch import Tensor, nn

from fusion.baseline.cases import Arm, Case
from fusion.baseline.fit import Batch, Plan
from fusion.baseline.planes import Stack
from fusion.baseline.pool import Pool, spread
from fusion.baseline.score import CaseGuess, best_threshold
from fusion.baseline.tier import Tier

_PLANES = 8  # of one volume


@dataclass(frozen=True)
class Classifier:
    """One output per concept; uncertain and unannotated truths are never learnt or scored."""

    concepts: Sequence[str]
    channels: int
    stacks: Mapping[str, Stack]
    device: torch.device

    def network(self) -> nn.Module:
        """A DenseNet with three blocks of two layers."""
        net: nn.Module = DenseNet(
            spatial_dims=2,
            in_channels=self.channels,
            out_channels=len(self.concepts),
            init_features=16,
            growth_rate=12,
            block_config=(2, 2, 2),
            norm=("instance", {"affine": True}),  # small batches of mixed sources
        )
        return net.to(self.device)

    def plan(self, arm: Arm, tier: Tier, steps: int, seed: int) -> Plan:
        """What to train on, with which loss, chosen by the mean likelihood of the val cases."""
        planes = {case.id: self._planes(case) for case in arm.train}
        pool = Pool(arm.train, self.stacks, planes, np.random.default_rng(seed))

        def draw() -> Batch:
            drawn = pool.draw(tier.batch)
            truths = [truth_of(case, self.concepts) for case, _ in drawn]
            hot = [[float(truth.get(c, 0)) for c in self.concepts] for truth in truths]
            mask = [[c in truth for c in self.concepts] for truth in truths]
            return Batch(
                pool.images(drawn, self.device),
                torch.tensor(hot, device=self.device),
                torch.tensor(mask, device=self.device),
            )

        def quality(net: nn.Module) -> float:
            guesses = [self.guess(net, case) for case in arm.val]
            return float(np.mean([_log_likelihood(guess) for guess in guesses]))

        return Plan(draw, masked_cross_entropy, quality if arm.val else None, steps)

    def guess(self, net: nn.Module, case: Case) -> CaseGuess:
        """Probability of each concept in a case."""
        images = torch.from_numpy(self.stacks[case.id].images[self._planes(case)])
        net.eval()
        with torch.inference_mode():
            logits = net(images.to(self.device, torch.float32)).mean(dim=0)
        probability = torch.sigmoid(logits).double().tolist()
        return CaseGuess(
            case.source,
            case.group,
            dict(zip(self.concepts, probability, strict=True)),
            truth_of(case, self.concepts),
        )

    def thresholds(self, net: nn.Module, val: Sequence[Case]) -> dict[str, float]:
        """Per concept, chosen on the val cases; 0.5 without."""
        guesses = [self.guess(net, case) for case in val]
        return {concept: _threshold(guesses, concept) for concept in self.concepts}

    def _planes(self, case: Case) -> np.ndarray:
        return spread(np.arange(len(self.stacks[case.id].images)), _PLANES)


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


def _log_likelihood(guess: CaseGuess) -> float:
    hits = [
        p if guess.truth[c] else 1 - p for c, p in guess.probability.items() if c in guess.truth
    ]
    return float(np.mean(np.log(np.clip(hits, 1e-6, 1)))) if hits else 0.0


def _threshold(guesses: Sequence[CaseGuess], concept: str) -> float:
    known = [guess for guess in guesses if concept in guess.truth]
    probability = np.array([guess.probability[concept] for guess in known])
    return best_threshold(probability, np.array([guess.truth[concept] for guess in known]))
