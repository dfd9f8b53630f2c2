"""Does fusing help? Gains of the fused network, and the verdict that follows from them.

G_j is what the sources together bring to source j against j alone. U_j is what they bring to a
source that no training case comes from, against the best single other source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fusion.baseline.cases import FUSED, SINGLE, WITHOUT
from fusion.baseline.document import PRIMARY_NAMES
from fusion.baseline.matrix import Cell, figure_row
from fusion.baseline.resample import FEWEST_GROUPS, Figure, average, difference, largest
from fusion.baseline.study import DELTA, PAIR, Study


@dataclass(frozen=True)
class Gains:
    """G and U of each test source, and the mean of U; all of the primary figure."""

    metric: str
    own: Mapping[str, Figure]
    unseen: Mapping[str, Figure]
    mean_unseen: Figure

    def as_dict(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "delta": DELTA[self.metric],
            "G": {source: figure_row(figure) for source, figure in self.own.items()},
            "U": {source: figure_row(figure) for source, figure in self.unseen.items()},
            "mean": figure_row(self.mean_unseen),
        }


@dataclass(frozen=True)
class Verdict:
    """helps, harms, mixed, neutral or inconclusive; None where there is nothing to compare."""

    name: str | None
    reasons: tuple[str, ...]


def gains(study: Study, cells: Sequence[Cell]) -> Gains:
    """Paired over the same resamples, each a mean over the concepts that both arms know."""
    table = {
        (cell.arm, cell.source, cell.concept): cell
        for cell in cells
        if cell.metric == study.primary
    }

    def compared(arm: str, others: Sequence[str], source: str) -> Figure:
        shared = [
            concept
            for concept in study.concepts
            if all(table[a, source, concept].figure.value is not None for a in (arm, *others))
        ]
        if not shared:
            reasons = (table[a, source, ""].figure.reason for a in (arm, *others))
            return Figure(None, reason=next(filter(None, reasons), "no concept in common"))

        def of(name: str) -> Figure:
            one = average([table[name, source, concept].figure for concept in shared])
            return replace(one, groups=table[name, source, ""].figure.groups)

        return difference(of(arm), largest([of(other) for other in others]))

    if len(study.sources) < PAIR:
        nothing = Figure(None, reason="one source only")
        return Gains(study.primary, {}, {}, nothing)
    own = {s: compared(FUSED, [SINGLE + s], s) for s in study.sources}
    unseen = {}
    for source in study.sources:
        others = [SINGLE + other for other in study.sources if other != source]
        rest = WITHOUT + source
        if rest not in study.arms and len(study.sources) == PAIR:
            rest = others[0]  # all but one of two is the other one
        known = [o for o in others if table[o, source, ""].figure.value is not None]
        if not others or rest not in study.arms:
            unseen[source] = Figure(None, reason="no arm without this source")
        elif not known:
            unseen[source] = Figure(None, reason=table[others[0], source, ""].figure.reason)
        else:
            unseen[source] = compared(rest, known, source)
    return Gains(study.primary, own, unseen, average(list(unseen.values())))


def judge(study: Study, found: Gains, tier: str) -> Verdict:
    """The rule of the specification; each reason gives the figures it rests on."""
    if len(study.sources) < PAIR:
        return Verdict(None, ("There is one source only: nothing was fused, so no verdict.",))
    failed = tuple(f"Arm {arm} failed ({why})." for arm, why in study.failed.items())
    cut = tuple(f"Arm {arm} had fewer steps ({why})." for arm, why in study.cut.items())
    figures = _in_words(found)
    if not any(record.state != "failed" for record in study.records):
        why = "No network was trained: nothing is known of what can be learnt from the bundle."
        return Verdict("inconclusive", (why, *failed, *figures))
    if tier == "smoke":
        why = (
            "The smoke tier trains small networks once, on few small cases: it shows that the "
            "bundle can be learnt from, not whether fusing helps."
        )
        return Verdict("inconclusive", (why, *failed, *cut, *figures))
    if cut:
        why = (
            "Some networks had fewer steps than others: what differs between them need not come "
            "from their sources."
        )
        return Verdict("inconclusive", (why, *failed, *cut, *figures))
    name, reasons = _rule(found)
    if len(study.sources) == PAIR:
        note = (
            "With two sources, all but one is the other one: U cannot be above 0, and fusing "
            "cannot be shown to help on a source that it has not seen."
        )
        reasons = (*reasons, note)
    return Verdict(name, (*reasons, *failed, *figures))


def _rule(found: Gains) -> tuple[str, tuple[str, ...]]:
    delta, name = DELTA[found.metric], PRIMARY_NAMES[found.metric]
    own, mean = {s: f.interval for s, f in found.own.items()}, found.mean_unseen.interval
    harmed = [s for s, ends in own.items() if ends and ends[1] < -delta]
    gaps = _gaps(found)
    hurt = "".join(f"On {s} the fused network is worse than {s} alone by more than {delta:g} "
                   f"{name} with 95 % confidence. " for s in harmed).strip()  # fmt: skip
    if harmed and mean:
        gained = mean[0] > 0
        if gained:
            return "mixed", (hurt, "On sources that it has not seen, the fused network gains.")
        return "harms", (
            hurt,
            "No gain on sources that it has not seen is shown to make up for it.",
        )
    if gaps:
        return "inconclusive", (*((hurt,) if harmed else ()), *gaps)
    if mean and mean[0] > 0:
        why = (
            "On sources that it has not seen, the fused network is better than the best single "
            f"source, and on none of its own is it worse by more than {delta:g} {name}."
        )
        return "helps", (why,)
    everything = [*own.values(), *(f.interval for f in found.unseen.values()), mean]
    if all(ends and -delta <= ends[0] and ends[1] <= delta for ends in everything):
        return "neutral", (f"Every interval lies within {delta:g} {name} of no change.",)
    return "inconclusive", (
        "The intervals allow both a gain and none: no rule for another verdict holds.",
    )


def _gaps(found: Gains) -> tuple[str, ...]:
    """What is not known well enough to judge by."""
    rows = []
    for what, figures in (("G", found.own), ("U", found.unseen)):
        for source, figure in figures.items():
            if figure.value is None:
                rows.append(f"{what} of {source} is not known: {figure.reason}.")
            elif figure.interval is None:
                rows.append(
                    f"{what} of {source} is unreliable: {figure.groups} test groups, at least "
                    f"{FEWEST_GROUPS} are needed."
                )
    return tuple(rows)


def _in_words(found: Gains) -> tuple[str, ...]:
    """Every gain with its interval."""
    rows = [
        (f"G of {source} (fused against {source} alone)", figure)
        for source, figure in found.own.items()
    ]
    rows += [
        (f"U of {source} (all others against the best one, on {source})", figure)
        for source, figure in found.unseen.items()
    ]
    rows.append(("Mean U", found.mean_unseen))
    return tuple(f"{what}: {_said(figure, PRIMARY_NAMES[found.metric])}." for what, figure in rows)


def _said(figure: Figure, name: str) -> str:
    if figure.value is None:
        return f"not known ({figure.reason})"
    ends = figure.interval
    span = f"95 % interval {ends[0]:+.3f} to {ends[1]:+.3f}" if ends else "interval unreliable"
    return f"{figure.value:+.3f} {name}, {span}"
