"""One training loop for all tasks: early stop, checkpoints, and smaller parts where memory ends."""

from __future__ import annotations

import copy
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fusion.baseline.device import Precision, is_out_of_memory, memory_format
from fusion.baseline.tier import Tier

_AHEAD = 4  # batches in memory, so that a draw that comes late is not waited for


class ArmFailedError(Exception):
    """An arm that gives no result; the others go on."""


@dataclass(frozen=True)
class Batch:
    """Inputs (B, C, ...), targets, and per input which concepts are annotated (B, K)."""

    images: npt.NDArray[np.float32]
    targets: npt.NDArray[Any]
    annotated: npt.NDArray[np.bool_]


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Plan:
    """What one arm trains.

    `draw` takes the number of a step, `quality` looks at val cases (None: there are none),
    `targets` brings drawn targets into the form that the loss takes, on the device.
    """

    draw: Callable[[int], Batch]
    targets: Callable[[Tensor], Tensor]
    loss: Loss
    quality: Callable[[nn.Module], float] | None
    steps: int
    learning_rate: float | None = None  # else the tier's
    is_over: Callable[[], bool] = lambda: False  # the time that this arm may take


@dataclass
class Room:
    """How much goes through the network at once; halved when memory ends, and noted."""

    notes: list[str]
    part: int = 1 << 30
    windows: int = 1 << 30

    def halve(self, what: str, size: int, step: int | None = None) -> None:
        """Half of `size` from now on; out of memory with one input is passed on.

        Raises:
            torch.OutOfMemoryError: there is no half of one.
        """
        if size <= 1:
            raise torch.OutOfMemoryError(f"{what}: one input does not fit")
        half = size // 2
        setattr(self, what, half)
        at = f" at step {step}" if step else ""
        words = {"part": "training inputs", "windows": "windows to predict"}[what]
        self.notes.append(f"out of memory with {size} {words} at once{at}: {half} from then on")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Fitted:
    """How training went. Times are for benches, never for results."""

    steps: int
    best_step: int | None
    best_quality: float | None
    last_loss: float
    is_cut: bool = False  # its time was over before its steps were
    waited_s: float = 0.0
    trained_s: float = 0.0


@dataclass
class State:
    """All that a training needs to go on."""

    step: int = 0
    best: tuple[float, int, dict[str, Tensor]] | None = None
    worse: int = 0  # validations since the best one
    last: float = 0.0
    notes: list[str] = field(default_factory=list)


def fit(
    net: nn.Module,
    plan: Plan,
    tier: Tier,
    advance: Callable[[int], None],
    place: torch.device,
    room: Room | None = None,
    checkpoint: Path | None = None,
) -> Fitted:
    """Train `net` in place; with val cases it ends with its best weights.

    With `checkpoint` the training is saved there at each validation, and goes on from there.
    Where its time is over after at least half of its steps it ends early, looked at once more.

    Raises:
        ArmFailedError: the loss is not a number, or the time is over before half of the steps.
        torch.OutOfMemoryError: not even one input fits.
    """
    room = room or Room([])
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.learning_rate or tier.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.steps)
    precision = Precision(place)
    state = State(notes=room.notes)
    parts = {"net": net, "optimiser": optimiser, "schedule": schedule, "scaler": precision.scaler}
    if checkpoint is not None and checkpoint.is_file():
        _restore(checkpoint, state, parts, room, place)
        advance(state.step)
    every = max(1, plan.steps // tier.validations)
    begun, waited, is_cut = time.monotonic(), 0.0, False
    with _ahead(plan, state.step) as drawn:
        while state.step < plan.steps and state.worse < tier.patience and not is_cut:
            state.step += 1
            asked = time.monotonic()
            batch = next(drawn)
            waited += time.monotonic() - asked
            state.last = _step(net, plan, batch, optimiser, precision, place, room, state.step)
            schedule.step()
            is_cut = state.step < plan.steps and plan.is_over()
            if is_cut and 2 * state.step < plan.steps:
                raise ArmFailedError(f"timeout: {state.step} of {plan.steps} steps")
            if state.step % every == 0 or state.step == plan.steps or is_cut:
                if plan.quality:
                    _judge(net, plan.quality(net), state)
                if checkpoint is not None:
                    _save(checkpoint, state, parts, room)
            advance(1)
    took = time.monotonic() - begun
    advance(plan.steps - state.step)
    quality, step, best = state.best or (None, None, None)
    if best is not None:
        net.load_state_dict(best)
    return Fitted(state.step, step, quality, state.last, is_cut, waited, took)


@contextmanager
def _ahead(plan: Plan, done: int) -> Iterator[Iterator[Batch]]:
    """Batches of the steps after `done`; the next few are drawn while a step is computed."""
    with ThreadPoolExecutor(1, thread_name_prefix="draw") as pool:

        def batches() -> Iterator[Batch]:
            steps = iter(range(done + 1, plan.steps + 1))
            coming = deque(pool.submit(plan.draw, step) for step in islice(steps, _AHEAD))
            while coming:
                batch = coming.popleft().result()
                coming.extend(pool.submit(plan.draw, step) for step in islice(steps, 1))
                yield batch

        yield batches()


def _judge(net: nn.Module, quality: float, state: State) -> None:
    if state.best is None or quality > state.best[0]:
        state.best = quality, state.step, copy.deepcopy(net.state_dict())
        state.worse = 0
    else:
        state.worse += 1


def _step(
    net: nn.Module,
    plan: Plan,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    precision: Precision,
    place: torch.device,
    room: Room,
    step: int,
) -> float:
    """One optimiser step over the whole batch, in parts that fit."""
    net.train()
    size = len(batch.images)
    value = None
    while value is None:
        part = min(room.part, size)
        optimiser.zero_grad(set_to_none=True)
        try:
            value = _gradients(net, plan, batch, precision, place, part, step)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Not while the error is handled: it holds on to all that the failed try had made.
        if value is None:
            optimiser.zero_grad(set_to_none=True)
            room.halve("part", part, step)
    if any(weight.grad is not None for weight in net.parameters()):
        precision.step(optimiser)
    return value


def _gradients(
    net: nn.Module,
    plan: Plan,
    batch: Batch,
    precision: Precision,
    place: torch.device,
    part: int,
    step: int,
) -> float:
    """Loss of the batch, `part` inputs at a time; the gradients are added to the weights'."""
    value, size = 0.0, len(batch.images)
    for start in range(0, size, part):
        chosen = slice(start, start + part)
        images = torch.from_numpy(batch.images[chosen])
        images = images.to(place, memory_format=memory_format(images))
        with precision.cast():
            logits = net(images)
        loss = plan.loss(
            logits.float(),
            plan.targets(torch.from_numpy(batch.targets[chosen]).to(place)),
            torch.from_numpy(batch.annotated[chosen]).to(place),
        )
        share = len(images) / size
        value += share * float(loss.detach())
        if not np.isfinite(value):
            raise ArmFailedError(f"loss is {value} at step {step}")
        if loss.requires_grad:
            precision.backward(loss * share)
    return value


def _save(path: Path, state: State, parts: dict[str, Any], room: Room) -> None:
    """Written aside, synced, renamed: the file is always a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: part.state_dict() for name, part in parts.items()}
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(
            {
                "parts": content,
                "state": {name: getattr(state, name) for name in ("step", "best", "worse", "last")},
                "room": [room.part, room.windows, room.notes],
            },
            file,
        )
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _restore(
    path: Path, state: State, parts: dict[str, Any], room: Room, place: torch.device
) -> None:
    content = torch.load(path, map_location=place, weights_only=True)
    for name, part in parts.items():
        # A GPU that computes in bf16 scales nothing: to one that does, it has nothing to say.
        if saved := content["parts"][name]:
            part.load_state_dict(saved)
    for name, value in content["state"].items():
        setattr(state, name, value)
    room.part, room.windows, notes = content["room"]
    room.notes[:] = notes
