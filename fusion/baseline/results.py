"""What training leaves for the figures: one result per arm, seed and case, one record per arm.

They are written as `baseline/results.jsonl` into a build's work folder, whole arms at a time, so
that a baseline that was stopped goes on with the next arm.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FILE = "results.jsonl"
SURE = 0.5  # confidence from which on a box is counted as said


@dataclass(frozen=True)
class MaskScore:
    """One case and one concept that is annotated in it.

    Attributes:
        dice: None where reference and prediction are both empty: excluded, and counted.
        nsd: normalised surface Dice at max(2 mm, 1 voxel); None as above.
        lesions: true positives, false positives and misses at IoU > 0.1; None where the concept
            is not a lesion.
        reference_mm3: volume; pixels where no spacing is known.
        predicted_mm3: the same.
    """

    dice: float | None
    nsd: float | None
    lesions: tuple[int, int, int] | None
    reference_mm3: float | None
    predicted_mm3: float | None


@dataclass(frozen=True)
class BoxScore:
    """Detection in one case: (confidence, is true positive at IoU >= 0.5) per predicted box."""

    predicted: tuple[tuple[float, bool], ...]
    reference: int

    @property
    def wrong(self) -> int:
        """Boxes missed, and boxes said where there is none, with a confidence of one half."""
        said = [hit for confidence, hit in self.predicted if confidence >= SURE]
        return self.reference + len(said) - 2 * sum(said)


@dataclass(frozen=True)
class CaseResult:
    """One case under one arm; only concepts that are annotated in the case.

    Attributes:
        arm: "fused", "single:<source>" or "without:<source>".
        split: test, or val (thresholds are chosen there).
        probability: of each class.
        truth: 1 or 0; uncertain classes are left out.
        fold: of a k-fold or leave-one-source-out protocol; "" with holdout.
    """

    arm: str
    seed: int
    split: str
    case: str
    source: str
    group: str
    masks: Mapping[str, MaskScore]
    boxes: Mapping[str, BoxScore]
    probability: Mapping[str, float]
    truth: Mapping[str, int]
    fold: str = ""


@dataclass(frozen=True)
class ArmRecord:
    """One trained network: what it saw and how it went.

    Attributes:
        state: done, cut (tested, but its time was over before its steps were) or failed.
        reason: why it failed or was cut, else "".
        notes: what differs from the plan: a halved batch, a move to the CPU.
        fold: as in CaseResult; a k-fold arm has one record per fold.
    """

    arm: str
    seed: int
    state: str
    reason: str
    steps: int
    best_step: int | None
    val_quality: float | None
    last_loss: float | None
    train_cases: tuple[str, ...]
    val_cases: tuple[str, ...]
    test_cases: tuple[str, ...]
    device: str
    notes: tuple[str, ...]
    fold: str = ""


@dataclass(frozen=True)
class ArmResult:
    """A record with the results of its cases; without any where the arm failed."""

    record: ArmRecord
    cases: tuple[CaseResult, ...]


def write_results(path: Path, arms: Iterable[ArmResult]) -> None:
    """Write `arms` in place of `path`: the old file or the new one, never a half."""
    lines = []
    for arm in arms:
        lines += [json.dumps({"kind": "case", **asdict(case)}) for case in arm.cases]
        lines.append(json.dumps({"kind": "arm", **asdict(arm.record)}))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_results(path: Path) -> list[ArmResult]:
    """What `write_results` wrote, in order; nothing without a file.

    Raises:
        ValueError: a line that is not one of ours.
    """
    arms: list[ArmResult] = []
    cases: list[CaseResult] = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for row in map(json.loads, lines):
        kind = row.pop("kind")
        if kind == "case":
            cases.append(_case(row))
        elif kind == "arm":
            arms.append(ArmResult(_record(row), tuple(cases)))
            cases = []
        else:
            raise ValueError(f"{path.name}: found kind {kind!r}, expected 'case' or 'arm'")
    return arms


def _case(row: dict[str, Any]) -> CaseResult:
    masks = {concept: _mask(mask) for concept, mask in row.pop("masks").items()}
    boxes = {
        concept: BoxScore(tuple((c, hit) for c, hit in box["predicted"]), box["reference"])
        for concept, box in row.pop("boxes").items()
    }
    return CaseResult(masks=masks, boxes=boxes, **row)


def _mask(row: dict[str, Any]) -> MaskScore:
    lesions = row.pop("lesions")
    return MaskScore(lesions=tuple(lesions) if lesions else None, **row)


def _record(row: dict[str, Any]) -> ArmRecord:
    lists = {key: tuple(value) for key, value in row.items() if isinstance(value, list)}
    return ArmRecord(**{**row, **lists})
