"""Stage ingest: files become cases."""

from __future__ import annotations

from dataclasses import asdict

from fusion.stages.base import Build, Progress, exclude
from fusion.stages.sources import described, found_in, roots_of


def run(build: Build, progress: Progress) -> None:
    """Files become cases; what lacks an image or a label is excluded with its code."""
    progress.stage("ingest", len(build.plan.sources))
    roots = roots_of(build, progress)
    rows, excluded, noticed = [], [], []
    for done, source in enumerate(build.plan.sources, 1):
        found, findings = found_in(described(source), roots[source["id"]], progress.check)
        noticed += [{**row, "detail": f"{source['id']}: {row['detail']}"} for row in findings]
        for case in found:
            progress.check()
            if case.code:
                named = (source["id"], case.name)
                excluded.append(exclude(progress, named, "ingest", case.code, case.detail))
            else:
                rows.append({"source": source["id"], **asdict(case)})
                progress.case(source["id"], case.name, "pending", stage="ingest")
        progress.advance(done)
    build.save("cases.json", {"cases": rows, "excluded": excluded, "findings": noticed})
