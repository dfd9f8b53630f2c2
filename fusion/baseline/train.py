"""Train and test the arms of a baseline. Imports torch and MONAI: seconds and about 1 GB."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fusion.baseline import weights
from fusion.baseline.cases import FUSED, Arm, Case
from fusion.baseline.classify import Classifier, is_exclusive
from fusion.baseline.detect import Detector
from fusion.baseline.device import (
    held,
    name_of,
    repeatable,
    settled,
    thread_count,
    versions,
)
from fusion.baseline.fit import ArmFailedError, Fitted, Room, fit
from fusion.baseline.grid import Canvas, Stack, load
from fusion.baseline.keep import slice_of, worst_of, write_picture
from fusion.baseline.results import (
    FILE,
    ArmRecord,
    ArmResult,
    CaseResult,
    read_results,
    write_results,
)
from fusion.baseline.segment import Predictor, Segmenter
from fusion.baseline.tier import Tier
from fusion.imaging.parallel import in_order

JOB, CHECKPOINTS = "job.json", "checkpoints"
Learner = Segmenter | Classifier | Detector


@dataclass(frozen=True)
class Job:
    """Everything that decides the numbers.

    Attributes:
        lesions: concepts whose single findings are counted.
        target: profile and spacing of the bundle; `names` of its channels; `facts` about it.
    """

    task: str
    concepts: Sequence[str]
    lesions: frozenset[str]
    cases: Sequence[Case]
    arms: Sequence[Arm]
    canvas: Canvas
    seed: int
    tier: Tier
    target: Mapping[str, Any]
    names: Sequence[str]
    facts: Mapping[str, Any]

    @cached_property
    def networks(self) -> list[Network]:
        """Each arm with each seed; arms that learn from the same cases share a network."""
        found: dict[Any, list[Arm]] = defaultdict(list)
        for arm in self.arms:
            found[arm.learns].append(arm)
        return [
            Network(tuple(arms), self.seed + i)
            for i in range(self.tier.seeds)
            for arms in found.values()
        ]

    @property
    def steps(self) -> int:
        """Optimiser steps of each network: equal."""
        return self.tier.steps_of(len(self.networks) // self.tier.seeds)

    @property
    def total(self) -> int:
        """Units of progress: cases decoded, steps, cases tested."""
        return len(self.cases) + sum(self.units(network) for network in self.networks)

    def units(self, network: Network) -> int:
        """Of one network."""
        return self.steps + len(network.tested)

    @cached_property
    def is_ct(self) -> bool:
        """Whether intensities are HU, which the training cases of each arm scale."""
        return all(case.unit == "hu" for case in self.cases)

    @property
    def signature(self) -> str:
        """Digest of what decides the numbers: results of another job are of no use."""
        rows = [
            [c.id, c.split, sorted(c.annotated), dict(c.classes), c.norm, c.shape, c.spacing_mm]
            for c in self.cases
        ]
        facts = [self.task, self.concepts, rows, asdict(self.tier), self.seed, dict(self.facts)]
        text = json.dumps([facts, versions(), self.canvas.as_dict()], sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Network:
    """One training: the arms that it serves, and its seed."""

    arms: tuple[Arm, ...]
    seed: int

    @property
    def tested(self) -> list[Case]:
        """Test cases of all its arms, and its val cases."""
        found = {case.id: case for arm in self.arms for case in (*arm.test, *arm.val)}
        return sorted(found.values(), key=lambda case: case.id)

    @property
    def name(self) -> str:
        """Unique, and safe as a file's name."""
        arm = self.arms[0]
        text = json.dumps([arm.learns, self.seed])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Meter:
    """Counts units of work; at each it asks whether to stop."""

    def __init__(
        self, total: int, progress: Callable[[int, int], None], check: Callable[[], None]
    ) -> None:
        self.total, self.done = total, 0
        self._progress, self._check = progress, check

    def advance(self, units: int = 1) -> None:
        if units > 0:
            self.done += units
            self._check()
            self._progress(self.done, self.total)


def train_arms(
    job: Job, device: str, threads: int, meter: Meter, folder: Path
) -> tuple[list[ArmResult], dict[str, Any]]:
    """Results of all arms, and where they were computed.

    `folder` keeps what is done: the same job goes on from there after a stop.
    """
    count = thread_count(threads)
    with held(device) as place, repeatable(job.seed, count, place):
        _tidy(job, folder)
        runner = Runner(job, _load_all(job, meter), place, meter, folder, stopwatch(place))
        arms = runner.run_all()
        runner.keep_best()
    where = {
        "device": place.type,
        "device_name": name_of(place),
        "threads": count,
        "versions": versions(),
    }
    return arms, where


def stopwatch(place: torch.device) -> Callable[[], float]:
    """Seconds of work so far; on a CPU those that this thread had it for.

    So a machine that is busy with other things cuts no network short.
    """
    clock = time.thread_time if place.type == "cpu" else time.monotonic
    begun = clock()
    return lambda: clock() - begun


def _tidy(job: Job, folder: Path) -> None:
    """Nothing of another job is left in the folder."""
    path = folder / JOB
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) == job.signature:
        return
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    path.write_text(json.dumps(job.signature), encoding="utf-8")


def _load_all(job: Job, meter: Meter) -> dict[str, Stack]:
    stacks = {}

    def one(number: int) -> Stack:
        return load(job.cases[number], job.canvas, len(job.concepts))

    for case, stack in zip(job.cases, in_order(one, len(job.cases)), strict=True):
        stacks[case.id] = stack
        meter.advance()
    return stacks


@dataclass(frozen=True)
class Runner:
    """Runs networks one after the other; a failed one does not stop the others."""

    job: Job
    stacks: Mapping[str, Stack]
    place: torch.device
    meter: Meter
    folder: Path
    spent: Callable[[], float]  # seconds
    done: dict[tuple[str, str, int], ArmResult] = field(default_factory=dict)

    def run_all(self) -> list[ArmResult]:
        """Every arm with every seed, in order; finished ones are found again."""
        path = self.folder / FILE
        self.done.update({_key(arm.record): arm for arm in read_results(path)})
        waiting = len(self.job.networks)
        for network in self.job.networks:
            if not all(key in self.done for key in self._keys(network)):
                begun = self.meter.done
                for arm in self.run(network, waiting):
                    self.done[_key(arm.record)] = arm
                write_results(path, self._in_order())
                shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)
                self.meter.advance(begun + self.job.units(network) - self.meter.done)
            else:
                self.meter.advance(self.job.units(network))
            waiting -= 1
        return self._in_order()

    def run(self, network: Network, waiting: int) -> list[ArmResult]:
        """Train and test one network; `waiting` of them, this one too, share the time left."""
        asked = [(arm, arm.objection()) for arm in network.arms]
        results = [self._failed(arm, network, reason, []) for arm, reason in asked if reason]
        able = replace(network, arms=tuple(arm for arm, reason in asked if not reason))
        if not able.arms:
            return results
        begun = self.meter.done
        deadline = self.spent() + (self.job.tier.seconds - self.spent()) / waiting
        notes: list[str] = []
        for place in self._places():
            self.meter.done = begun
            try:
                return results + self._trained(able, place, notes, deadline)
            except ArmFailedError as error:
                reason = str(error)
                break
            except torch.OutOfMemoryError as error:
                reason = f"out of memory: {error}"
                notes.append(f"out of memory on {place.type} with one input")
        return results + [self._failed(arm, network, reason, notes) for arm in able.arms]

    def keep_best(self) -> None:
        """The fused network that the val cases liked best, as the bundle's weights."""
        fused = [
            arm.record
            for arm in self._in_order()
            if arm.record.arm == FUSED and arm.record.state != "failed"
        ]
        first = [record for record in fused if record.fold == fused[0].fold]
        if first and not (self.folder / weights.WEIGHTS).is_file():
            best = max(first, key=lambda record: record.val_quality or 0.0)
            kept = self._weights(best.seed, best.fold)
            (kept / weights.NETWORK).replace(self.folder / weights.NETWORK)
            (kept / weights.WEIGHTS).replace(self.folder / weights.WEIGHTS)
        shutil.rmtree(self.folder / FUSED, ignore_errors=True)

    def _weights(self, seed: int, fold: str) -> Path:
        return self.folder / FUSED / f"{seed}{fold}"

    def _places(self) -> list[torch.device]:
        cpu = torch.device("cpu")
        return [self.place] if self.place == cpu else [self.place, cpu]

    def _keys(self, network: Network) -> Iterator[tuple[str, str, int]]:
        return ((arm.name, arm.fold or "", network.seed) for arm in network.arms)

    def _in_order(self) -> list[ArmResult]:
        keys = [key for network in self.job.networks for key in self._keys(network)]
        rank = {(arm.name, arm.fold or ""): i for i, arm in enumerate(self.job.arms)}
        return [
            self.done[key]
            for key in sorted(keys, key=lambda key: (rank[key[:2]], key[2]))
            if key in self.done
        ]

    def _failed(self, arm: Arm, network: Network, reason: str, notes: list[str]) -> ArmResult:
        record = self._record(arm, network, self.place, notes)
        return ArmResult(replace(record, state="failed", reason=reason, steps=0), ())

    def _record(
        self, arm: Arm, network: Network, place: torch.device, notes: Sequence[str]
    ) -> ArmRecord:
        train, val, test = (
            tuple(case.id for case in part) for part in (arm.train, arm.val, arm.test)
        )
        return ArmRecord(
            arm=arm.name,
            seed=network.seed,
            state="done",
            reason="",
            steps=self.job.steps,
            best_step=None,
            val_quality=None,
            last_loss=None,
            train_cases=train,
            val_cases=val,
            test_cases=test,
            device=place.type,
            notes=tuple(notes),
            fold=arm.fold or "",
        )

    def _learner(self) -> Learner:
        job = self.job
        if job.task == "segmentation":
            return Segmenter(job.concepts, job.lesions, job.canvas, self.stacks)
        if job.task == "detection":
            return Detector(job.concepts, job.canvas, self.stacks, job.cases)
        exclusive = is_exclusive(job.cases, job.concepts)
        return Classifier(job.concepts, exclusive, job.canvas, self.stacks)

    def _trained(
        self, network: Network, place: torch.device, notes: list[str], deadline: float
    ) -> list[ArmResult]:
        job, arm = self.job, network.arms[0]
        learner, room = self._learner(), Room(notes)
        predictor = Predictor(job.canvas, place, room)
        design = learner.design(job.tier)
        train = [self.stacks[case.id] for case in arm.train]
        window = weights.window_of(train) if job.is_ct else None
        torch.manual_seed(network.seed)  # every arm starts from the same weights
        net = settled(weights.build(job.task, design, window), place, job.canvas.dims)
        plan = learner.plan(arm, job.tier, network.seed, predictor)
        plan = replace(plan, steps=job.steps, is_over=lambda: self.spent() > deadline)
        checkpoint = self.folder / CHECKPOINTS / f"{network.name}-{place.type}.pt"
        fitted = fit(net, plan, job.tier, self.meter.advance, place, room, checkpoint)
        outcomes = {}
        for case in network.tested:
            outcomes[case.id] = learner.outcome(net, case, predictor)
            self.meter.advance()
        results = []
        for one in network.arms:
            record = _with_fit(self._record(one, network, place, room.notes), fitted)
            results.append(ArmResult(record, tuple(_cases(record, one, outcomes))))
            if one.name == FUSED:
                self._save(net, learner, record, design, window)
                self._keep_pictures(net, learner, results[-1], predictor)
        return results

    def _keep_pictures(
        self,
        net: nn.Module,
        learner: Learner,
        result: ArmResult,
        predictor: Predictor,
    ) -> None:
        """Of the cases that the network fails most, for the report."""
        cases = {case.id: case for case in self.job.cases}
        for name in worst_of(result.cases):
            pair = None
            if not isinstance(learner, Classifier):
                pair = learner.pair(net, cases[name], predictor)
            arrays = slice_of(self.stacks[name], self.job.canvas, self.job.concepts, pair)
            write_picture(self.folder, name, arrays)

    def _save(
        self,
        net: nn.Module,
        learner: Learner,
        record: ArmRecord,
        network: Mapping[str, Any],
        window: Sequence[float] | None,
    ) -> None:
        job = self.job
        learnt = {"seed": record.seed, "best_step": record.best_step, "fold": record.fold}
        design = weights.Design(
            task=job.task,
            concepts=list(job.concepts),
            network=network,
            window=window,
            canvas=job.canvas,
            target=dict(job.target),
            unit="hu" if job.is_ct else "unknown",
            channels=list(job.names),
            exclusive=isinstance(learner, Classifier) and learner.exclusive,
            facts={**job.facts, **learnt, "tier": job.tier.name},
        )
        weights.save(self._weights(record.seed, record.fold), net, design)


def _key(record: ArmRecord) -> tuple[str, str, int]:
    return record.arm, record.fold, record.seed


def _with_fit(record: ArmRecord, fitted: Fitted) -> ArmRecord:
    quality = None if fitted.best_quality is None else round(fitted.best_quality, 6)
    cut = f"cut short by the time limit: {fitted.steps} of {record.steps} steps"
    return replace(
        record,
        state="cut" if fitted.is_cut else "done",
        reason=cut if fitted.is_cut else "",
        steps=fitted.steps,
        best_step=fitted.best_step,
        val_quality=quality,
        last_loss=round(fitted.last_loss, 6),
    )


def _cases(
    record: ArmRecord, arm: Arm, outcomes: Mapping[str, Mapping[str, Any]]
) -> Iterator[CaseResult]:
    nothing: dict[str, Any] = {"masks": {}, "boxes": {}, "probability": {}, "truth": {}}
    for split, cases in (("test", arm.test), ("val", arm.val)):
        for case in cases:
            yield CaseResult(
                arm=record.arm,
                seed=record.seed,
                split=split,
                case=case.id,
                source=case.source,
                group=case.group,
                fold=record.fold,
                **{**nothing, **outcomes[case.id]},
            )
