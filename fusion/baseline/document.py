"""baseline.json: its schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fusion.baseline.cases import FUSED, WITHOUT

SCHEMA_VERSION = "imaging-x/baseline/1"
#: What the figures that a verdict rests on are called.
PRIMARY_NAMES = {"dice": "Dice", "auroc": "AUROC", "box_ap": "box AP"}


class Part(BaseModel):
    """Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FigurePart(Part):
    """A figure; without a value `reason` says why. `ci` is of 95 %."""

    value: float | None
    ci: tuple[float, float] | Literal["unreliable"] | None
    n_groups: int
    reason: str


class CellPart(FigurePart):
    """Trained as `arm`, tested on `source`; concept null is the mean over the concepts of both.

    `silver`: labels of the test cases were mined from text.
    """

    arm: str
    source: str
    concept: str | None
    metric: str
    n_cases: int
    n_empty_excluded: int
    n_positive: int | None
    silver: bool


class GainsPart(Part):
    """G: fused against the source alone. U: all others against the best single one of them."""

    metric: str
    delta: float
    G: dict[str, FigurePart]
    U: dict[str, FigurePart]
    mean: FigurePart  # of U


class ArmPart(Part):
    arm: str
    seed: int
    fold: str
    state: Literal["done", "cut", "failed"]
    reason: str
    steps: int
    best_step: int | None
    val_quality: float | None
    last_loss: float | None
    n_train: int
    n_val: int
    n_test: int
    device: str
    notes: list[str]


class IndexPart(Part):
    value: float | None
    balanced_accuracy: float | None
    p: float | None
    reason: str


class ShiftPart(Part):
    before: IndexPart
    after: IndexPart
    matched: bool
    n_cases: dict[str, int]
    cramers_v: dict[str, float | None]
    shortcut_risk: bool


class BinPart(Part):
    said: float
    seen: float
    n: int


class CalibrationPart(Part):
    source: str | None  # null: all sources together
    n: int
    ece: float
    brier: float
    bins: list[BinPart]


class LabelQualityPart(Part):
    duplicates: dict[str, Any]
    volume_shifts: list[dict[str, Any]]
    doubtful: list[dict[str, Any]]
    outliers: list[dict[str, Any]]


class WorstPart(Part):
    case: str
    source: str
    name: str
    score: float
    says: str


class FindingPart(Part):
    code: str
    severity: Literal["info", "warning", "error"]
    detail: str


class Baseline(Part):
    """The whole of baseline.json."""

    schema_version: Literal["imaging-x/baseline/1"] = "imaging-x/baseline/1"
    bundle_id: str
    title: str
    tier: str
    task: str
    protocol: str
    seed: int
    seeds: list[int]
    sources: list[str]
    concepts: dict[str, str]  # id -> label
    metric: str
    verdict: Literal["helps", "harms", "mixed", "neutral", "inconclusive"] | None
    reason: str
    reasons: list[str]
    gains: GainsPart | None
    arms: list[ArmPart]
    matrix: list[CellPart]
    shift: ShiftPart | None
    calibration: list[CalibrationPart]
    label_quality: LabelQualityPart | None
    worst: list[WorstPart]
    findings: list[FindingPart]
    training: dict[str, Any] = Field(description="device, versions, steps, sizes")
    notes: list[str]


def figures_of(data: Mapping[str, Any], source: str) -> list[tuple[str, float]]:
    """(Concept, primary figure) of one source under the fused network, where there is a figure.

    A protocol that leaves whole sources out has no fused network: the one that never saw the
    source stands in.
    """
    found: dict[str, list[tuple[str, float]]] = {}
    for row in data.get("matrix") or []:
        known = row["concept"] is not None and row["value"] is not None
        if known and row["source"] == source and row["metric"] == data["metric"]:
            found.setdefault(row["arm"], []).append((row["concept"], row["value"]))
    return found.get(FUSED) or found.get(WITHOUT + source) or []


def why_no_figure(data: Mapping[str, Any], source: str) -> str:
    """In a few words, why `figures_of` a source is empty."""
    if not data.get("arms"):
        return "not run"
    arms = {arm["arm"]: arm["reason"] for arm in data.get("arms") or [] if arm["state"] != "done"}
    return arms.get(FUSED) or arms.get(WITHOUT + source) or "no test case"


def verdict_words(data: Mapping[str, Any]) -> str:
    """Verdict and reason in a line; `data` is empty where no baseline was asked for."""
    said = (data.get("verdict") or "none", data.get("reason"))
    return ": ".join(filter(None, said)) if data else "not run"


def baseline_schema() -> dict[str, Any]:
    """JSON Schema of baseline.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA_VERSION.replace('/', ':')}",
        **Baseline.model_json_schema(),
    }
