"""Stage baseline: networks are trained and tested."""

from __future__ import annotations

from fusion.stages.base import Build, Progress


def run(build: Build, progress: Progress) -> None:
    """Train and test; a failed baseline is reported, the bundle stays."""
    path = build.workdir / "baseline.json"
    if build.plan.baseline["tier"] == "none" or path.is_file():
        progress.stage("baseline", 1)
        progress.advance(1)
        return
    plan = build.locked_plan()
    progress.stage("baseline", 100)
    from fusion.baseline import run_baseline  # it loads torch
    from fusion.baseline.evaluate import not_run

    def units(done: int, total: int) -> None:
        progress.advance(round(100 * done / max(total, 1)))

    try:
        result = run_baseline(
            plan.as_dict(),
            build.workdir / "final",
            device=build.device,
            threads=build.threads,
            progress=units,
            check=progress.check,
        )
    except ValueError as error:
        result = not_run(plan.as_dict(), plan.baseline["tier"], str(error))
    build.save("baseline.json", result)
