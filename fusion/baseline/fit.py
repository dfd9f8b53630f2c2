"""One training loop for both tasks."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusion.baseline.tier import Tier


class ArmFailedError(Exception):
    """An arm that gives no result; the others go on."""


@dataclass(frozen=True)
class Batch:
    """Inputs (B, C, H, W), targets, and per input which concepts are annotated (B, K)."""

    images: Tensor
    targets: Tensor
    annotated: Tensor


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Plan:
    """What one arm trains: `quality` is measured on val cases, None where there are none."""

    draw: Callable[[], Batch]
    loss: Loss
    quality: Callable[[nn.Module], float] | None
    steps: int


@dataclass(frozen=True)
class Fitted:
    """How training went."""

    best_step: int
    best_quality: float | None
    last_loss: float


def fit(net: nn.Module, plan: Plan, tier: Tier, advance: Callable[[], None]) -> Fitted:
    """Train `net` in place; with val cases it ends with its best weights.

    Raises:
        ArmFailedError: the loss is not a number, or the tier's time is over.
    """
    optimiser = torch.optim.AdamW(net.parameters(), lr=tier.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.steps)
    every = max(1, plan.steps // tier.validations)
    best: tuple[float, int, dict[str, Tensor]] | None = None
    deadline = time.monotonic() + tier.seconds
    last = 0.0
    for step in range(1, plan.steps + 1):
        last = _step(net, plan, optimiser, step)
        schedule.step()
        if plan.quality and (step % every == 0 or step == plan.steps):
            quality = plan.quality(net)
            if best is None or quality > best[0]:
                best = quality, step, copy.deepcopy(net.state_dict())
        advance()
        if time.monotonic() > deadline:
            raise ArmFailedError(f"timeout: {step} of {plan.steps} steps in {tier.seconds:g} s")
    if best is None:
        return Fitted(plan.steps, None, last)
    net.load_state_dict(best[2])
    return Fitted(best[1], best[0], last)


def _step(net: nn.Module, plan: Plan, optimiser: torch.optim.Optimizer, step: int) -> float:
    net.train()
    batch = plan.draw()
    optimiser.zero_grad()
    loss = plan.loss(net(batch.images), batch.targets, batch.annotated)
    value = float(loss.detach())
    if not torch.isfinite(loss.detach()):
        raise ArmFailedError(f"loss is {value} at step {step}")
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return value
