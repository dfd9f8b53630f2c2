"""Stage package: the bundle is written beside its place."""

from __future__ import annotations

from fusion.bundle.write import write_bundle
from fusion.dedup import DETAIL_THRESHOLDS, THRESHOLDS
from fusion.report.write import FOLDER
from fusion.stages.base import Build, Progress, all_exclusions, all_findings
from fusion.stages.sources import roots_of


def run(build: Build, progress: Progress) -> None:
    """Write the bundle's files; nothing of it is decided here."""
    progress.stage("package", 1)
    progress.check()
    dedup = build.load("dedup.json")
    plan, report = build.locked_plan(), build.load("report.json")
    facts = {
        "tiers": ["T0", "T1", "T2", "T3", "T4"],
        "thresholds": THRESHOLDS | (DETAIL_THRESHOLDS if dedup["detail"] else {}),
        "hits": dedup["hits"],
        "merged_by": dedup["merged_by"],
        "shared": dedup["shared"],
        "plan": plan.overlap_plan or "drop_child_copies",
        "reviewed": plan.accept["leak_review"],
    }
    if dedup["detail"]:
        facts["detail"] = dedup["detail"]
    write_bundle(
        plan,
        build.workdir / "final",
        build.partial,
        all_exclusions(build),
        [*all_findings(build), *report["findings"]],
        {"seed": plan.seed, "protocol": plan.protocol},
        facts,
        report=build.workdir / FOLDER,
        measured=report,
        roots=roots_of(build, progress),
        lock=build.load("lock.json"),
    )
    progress.advance(1)
