"""Results of made-up arms whose figures can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fusion.baseline.results import ArmRecord, CaseResult, MaskScore
from fusion.baseline.study import Study

Score = Callable[[str, str, int], float | None]  # arm, source, number of the case -> Dice


def arms_of(sources: Sequence[str]) -> list[str]:
    return [*(f"single:{s}" for s in sources), "fused", *(f"without:{s}" for s in sources)]


def case_result(arm: str, source: str, n: int, **more) -> CaseResult:
    known = {"seed": 1, "split": "test", "masks": {}, "boxes": {}, "probability": {}, "truth": {}}
    fixed = {"case": f"{source}-{n}", "group": f"g{source}-{n}"}
    return CaseResult(**{"arm": arm, "source": source, **fixed, **known, **more})


def record(arm: str, train: Sequence[str] = ("t",), seed: int = 1, reason: str = "") -> ArmRecord:
    state = "failed" if reason else "done"
    return ArmRecord(arm, seed, state, reason, 10, 5, 0.5, 0.1, tuple(train), (), (), "cpu", (), "")


def mask(dice: float | None, lesions: tuple[int, int, int] | None = None) -> MaskScore:
    return MaskScore(dice, dice, lesions, 100.0, 100.0)


def study(sources: Sequence[str], dice: Score, number: int = 30, **more) -> Study:
    """Every arm on every source, `number` cases each, one concept, one seed."""
    results = [
        case_result(arm, source, n, masks={"disc": mask(dice(arm, source, n))})
        for arm in arms_of(sources)
        for source in sources
        for n in range(number)
    ]
    known = {
        "task": "segmentation",
        "sources": list(sources),
        "concepts": ["disc"],
        "seed": 7,
        "records": [record(arm) for arm in arms_of(sources)],
        "results": results,
        "annotated": {"t": frozenset({"disc"})},
        "resamples": 2000,
    }
    return Study(**{**known, **more})


def classes(arm: str, source: str, said: Sequence[float], truth: Sequence[int], **more) -> list:
    return [
        case_result(arm, source, n, probability={"ill": p}, truth={"ill": t}, **more)
        for n, (p, t) in enumerate(zip(said, truth, strict=True))
    ]


def spread(n: int, width: float = 0.05) -> float:
    """Fixed noise of a case, the same in every arm."""
    return float(np.sin(12.9898 * (n + 1)) * width)


def shifted(own: float, other: float, fused: float, rest: float):
    """Dice on its own source, of another source, fused, and of all the others together."""

    def dice(arm: str, source: str, n: int) -> float:
        if arm == "fused":
            base = fused
        elif arm.startswith("without:"):
            base = rest if arm.endswith(f":{source}") else fused
        else:
            base = own if arm.endswith(f":{source}") else other
        return base + spread(n)

    return dice
