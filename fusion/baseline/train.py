"""Train and test the arms of a baseline. Imports torch and MONAI: seconds and about 1 GB."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from fusion.baseline.cases import Arm, Case
from fusion.baseline.classify import Classifier
from fusion.baseline.device import name_of, pick, repeatable, thread_count, versions
from fusion.baseline.fit import ArmFailedError, fit
from fusion.baseline.planes import Canvas, Stack, load
from fusion.baseline.score import Report
from fusion.baseline.segment import Segmenter
from fusion.baseline.tier import Tier


@dataclass(frozen=True)
class Job:
    """Everything that decides the numbers."""

    task: str
    concepts: Sequence[str]
    cases: Sequence[Case]
    arms: Sequence[Arm]
    canvas: Canvas
    seed: int
    tier: Tier

    @property
    def steps(self) -> int:
        """Optimiser steps of each arm."""
        return self.tier.steps_of(len(self.arms))

    @property
    def total(self) -> int:
        """Units of progress: cases decoded, steps, cases tested."""
        return len(self.cases) + sum(self.steps + len(arm.test) for arm in self.arms)


class Meter:
    """Counts units of work; at each it asks whether to stop."""

    def __init__(
        self, total: int, progress: Callable[[int, int], None], check: Callable[[], None]
    ) -> None:
        self.total, self.done = total, 0
        self._progress, self._check = progress, check

    def advance(self, units: int = 1) -> None:
        self.done += units
        self._check()
        self._progress(self.done, self.total)


def train_arms(
    job: Job, device: str, threads: int, meter: Meter
) -> tuple[Report, list[dict[str, Any]], dict[str, Any]]:
    """Results, one record per arm, and where they were computed."""
    place, count = pick(device), thread_count(threads)
    with repeatable(job.seed, count):
        runner = Runner(job, _load_all(job, meter), place, meter)
        records = [runner.run(arm) for arm in job.arms]
    where = {
        "device": place.type,
        "device_name": name_of(place),
        "threads": count,
        "versions": versions(),
    }
    return runner.report, records, where


def _load_all(job: Job, meter: Meter) -> dict[str, Stack]:
    stacks = {}
    for case in job.cases:
        stacks[case.id] = load(case, job.canvas, len(job.concepts))
        meter.advance()
    return stacks


@dataclass(frozen=True)
class Runner:
    """Runs arms one after the other; a failed one does not stop the others."""

    job: Job
    stacks: Mapping[str, Stack]
    place: torch.device
    meter: Meter
    report: Report = field(default_factory=Report)

    def run(self, arm: Arm) -> dict[str, Any]:
        """Train and test one arm; its record says which cases it saw."""
        record = {
            "name": arm.name,
            "state": "done",
            "steps": self.job.steps,
            "train_cases": [case.id for case in arm.train],
            "val_cases": [case.id for case in arm.val],
            "test_cases": [case.id for case in arm.test],
        }
        end = self.meter.done + self.job.steps + len(arm.test)
        if reason := arm.objection():
            return record | self._failed(arm, reason, end)
        try:
            return record | self._trained(arm)
        except ArmFailedError as error:
            return record | self._failed(arm, str(error), end)
        except torch.OutOfMemoryError:
            return record | self._failed(arm, "out of GPU memory", end)

    def _failed(self, arm: Arm, reason: str, end: int) -> dict[str, Any]:
        self.report.failed.update({case.source: reason for case in arm.test})
        self.meter.advance(end - self.meter.done)
        return {"state": "failed", "reason": reason}

    def _trained(self, arm: Arm) -> dict[str, Any]:
        job = self.job
        torch.manual_seed(job.seed)  # every arm starts from the same weights
        kind = Segmenter if job.task == "segmentation" else Classifier
        task = kind(job.concepts, job.canvas.channels, self.stacks, self.place)
        net = task.network()
        plan = task.plan(arm, job.tier, job.steps, job.seed)
        fitted = fit(net, plan, job.tier, self.meter.advance)
        if isinstance(task, Classifier):
            thresholds = task.thresholds(net, arm.val)
            self.report.thresholds.update({case.source: thresholds for case in arm.test})
        for case in arm.test:
            self._test(task, net, case)
        quality = None if fitted.best_quality is None else round(fitted.best_quality, 6)
        return {
            "best_step": fitted.best_step,
            "val_quality": quality,
            "last_loss": round(fitted.last_loss, 6),
        }

    def _test(self, task: Segmenter | Classifier, net: torch.nn.Module, case: Case) -> None:
        if isinstance(task, Segmenter):
            self.report.scores.append(task.score(net, case))
        else:
            self.report.guesses.append(task.guess(net, case))
        self.meter.advance()
