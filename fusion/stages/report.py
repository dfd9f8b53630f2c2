"""Stage report: what the files hold is measured and drawn."""

from __future__ import annotations

from fusion.report.write import FOLDER, write_report
from fusion.stages.base import Build, Progress, all_exclusions, all_findings, harmonised_cases


def run(build: Build, progress: Progress) -> None:
    """Measure what the files hold, set it beside what was said of them, and draw it."""
    progress.stage("report", 100)

    def units(done: int, total: int) -> None:
        progress.advance(round(100 * done / max(total, 1)))
        progress.check()

    added = write_report(
        build.locked_plan().as_dict(),
        build.workdir / "final",
        harmonised_cases(build),
        all_exclusions(build),
        all_findings(build),
        build.workdir / FOLDER,
        units,
    )
    build.save("report.json", added)
    progress.advance(100)
