"""Results of all arms of a baseline, read from every side that the figures need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fusion.baseline.cases import FUSED, SINGLE, WITHOUT
from fusion.baseline.metrics import best_threshold
from fusion.baseline.resample import RESAMPLES, Floats, group_counts
from fusion.baseline.results import ArmRecord, CaseResult

MASKS = ("dice", "nsd", "lesion_f1")
CLASSES = ("auroc", "ap", "balanced_accuracy", "brier", "ece")
BOXES = ("box_ap",)
#: The figure that the verdict rests on, by task, and the smallest change of it that matters.
PRIMARY = {"segmentation": "dice", "classification": "auroc", "detection": "box_ap"}
DELTA = {"dice": 0.01, "auroc": 0.02, "box_ap": 0.02}
PAIR = 2
Tests = Mapping[int, Sequence[CaseResult]]  # seed -> results in order of case


@dataclass(frozen=True)
class Study:
    """What was trained and tested.

    Attributes:
        annotated: concepts that somebody looked for, per case id.
        resamples: of each bootstrap.
    """

    task: str
    sources: Sequence[str]
    concepts: Sequence[str]
    seed: int
    records: Sequence[ArmRecord]
    results: Sequence[CaseResult]
    annotated: Mapping[str, frozenset[str]]
    resamples: int = RESAMPLES

    @property
    def primary(self) -> str:
        return PRIMARY[self.task]

    @cached_property
    def metrics(self) -> list[str]:
        """The figures that these results can give."""
        tests = [row for row in self.results if row.split == "test"]
        found = list(MASKS[:2]) if any(row.masks for row in tests) else []
        lesions = (score.lesions for row in tests for score in row.masks.values())
        found += MASKS[2:] if any(row is not None for row in lesions) else []
        found += CLASSES if any(row.truth for row in tests) else []
        found += BOXES if any(row.boxes for row in tests) else []
        return found or [self.primary]

    @cached_property
    def arms(self) -> list[str]:
        """Rows of the matrix: each source alone, all, all but one where that was trained."""
        known = {record.arm for record in self.records}
        without = [WITHOUT + source for source in self.sources]
        alone = [SINGLE + source for source in self.sources if len(self.sources) > 1]
        return [*alone, FUSED, *(arm for arm in without if arm in known)]

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({record.seed for record in self.records})

    @cached_property
    def learnt(self) -> dict[str, frozenset[str]]:
        """Concepts annotated in a training case, per arm."""
        found: dict[str, frozenset[str]] = {}
        for record in self.records:
            sets = [self.annotated.get(case, frozenset()) for case in record.train_cases]
            found[record.arm] = found.get(record.arm, frozenset()).union(*sets)
        return found

    @cached_property
    def failed(self) -> dict[str, str]:
        """Arm -> why, of the arms that failed with every seed or with some."""
        return self._reasons("failed")

    @cached_property
    def cut(self) -> dict[str, str]:
        """The same of the arms that had fewer steps than the others."""
        return self._reasons("cut")

    def _reasons(self, state: str) -> dict[str, str]:
        found: dict[str, list[str]] = {}
        for record in self.records:
            if record.state == state:
                fold = f", {record.fold}" if record.fold else ""
                found.setdefault(record.arm, []).append(
                    f"seed {record.seed}{fold}: {record.reason}"
                )
        return {arm: "; ".join(reasons) for arm, reasons in found.items()}

    @cached_property
    def tests(self) -> dict[tuple[str, str], dict[int, list[CaseResult]]]:
        """(arm, source) -> seed -> test results."""
        found: dict[tuple[str, str], dict[int, list[CaseResult]]] = {}
        for row in sorted(self.results, key=lambda row: (row.seed, row.case, row.fold)):
            if row.split == "test":
                found.setdefault((row.arm, row.source), {}).setdefault(row.seed, []).append(row)
        return found

    @cached_property
    def thresholds(self) -> dict[tuple[str, int, str], float]:
        """(arm, seed, concept) -> threshold of best balanced accuracy on the arm's val cases."""
        found: dict[tuple[str, int, str], list[tuple[float, int]]] = {}
        for row in self.results:
            for concept, truth in row.truth.items() if row.split == "val" else ():
                pairs = found.setdefault((row.arm, row.seed, concept), [])
                pairs.append((row.probability[concept], truth))
        return {key: best_threshold(*np.array(pairs, float).T) for key, pairs in found.items()}

    @cached_property
    def draws(self) -> dict[str, tuple[dict[str, int], Floats]]:
        """Per test source: place of each group, and how often each resample holds it.

        All arms share them: what is compared is compared on the same cases.
        """
        found = {}
        for source in self.sources:
            rows = [
                row
                for (_, tested), seeds in self.tests.items()
                if tested == source
                for seed in seeds.values()
                for row in seed
            ]
            if not rows:
                continue
            cases = {row.case for row in rows}
            names, counts = group_counts([r.group for r in rows], self.seed, cases, self.resamples)
            found[source] = {name: n for n, name in enumerate(names)}, counts
        return found
