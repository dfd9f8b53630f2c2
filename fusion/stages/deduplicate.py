"""Stage deduplicate: copies of images are found and left out."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from fusion.bundle.content import file_of
from fusion.dedup import Access, copy_rank, find_duplicates, overlap_findings
from fusion.errors import BuildError
from fusion.harmonise import THUMB_FILE, read_original
from fusion.imaging.geometry import to_ras
from fusion.imaging.hashes import read_thumb
from fusion.imaging.io import read_image
from fusion.imaging.volume import Volume
from fusion.stages.base import Build, Progress, exclude, harmonised_cases
from fusion.stages.sources import case_of, described, roots_of


def run(build: Build, progress: Progress) -> None:
    """Find who is in several cases and which images are there twice; leave the copies out.

    Raises:
        BuildError: overlap_found, when the recipe refuses sources that share images.
    """
    cases = harmonised_cases(build)
    progress.stage("deduplicate", len(cases))
    accepted = set(build.plan.accept["unknown_subjects"])
    single = {
        s["id"]: f"all:{s['id']}"
        for s in build.plan.sources
        if not described(s).cases.has_subjects and s["id"] not in accepted
    }
    rank = copy_rank(build.plan.sources, build.plan.overlaps)
    access = _access(build, cases, progress)
    found = find_duplicates(cases, single, access, rank=rank, concepts=build.plan.concept_ids())
    progress.check()
    if build.plan.overlap_plan == "refuse" and found.shared:
        pairs = "; ".join(f"{row['a']} and {row['b']}: {row['tiers']}" for row in found.shared)
        raise BuildError("overlap_found", f"overlap_plan is refuse, but images are shared: {pairs}")
    found.findings += overlap_findings(found.shared, build.plan.overlaps)
    excluded = []
    for case in cases:
        if case["id"] in found.excluded:
            detail = found.excluded[case["id"]]
            named = (case["source"], case["name"])
            excluded.append(exclude(progress, named, "deduplicate", "duplicate", detail))
    build.save("dedup.json", {**vars(found), "rows": excluded})
    progress.advance(len(cases))


def _access(build: Build, cases: list[dict[str, Any]], progress: Progress) -> Access:
    """Thumbnails, labels and original images of the work folder, read when they are asked for."""
    folder, rows = build.workdir / "cases", {case["id"]: case for case in cases}

    def thumb(case_id: str) -> Any:
        progress.check()
        return read_thumb(folder / case_id / THUMB_FILE, solid=len(rows[case_id]["shape"]) == 3)  # noqa: PLR2004

    def label(case_id: str) -> Any:
        progress.check()
        file = file_of(rows[case_id], "label")
        if file is None:
            return None
        found = read_image(folder / case_id / file["path"])
        return (to_ras(found)[0] if isinstance(found, Volume) else found).array

    @cache
    def ingested() -> dict[tuple[str, str], dict[str, Any]]:
        return {(c["source"], c["name"]): c for c in build.load("cases.json")["cases"]}

    @lru_cache(maxsize=4)
    def original(case_id: str) -> Any:
        progress.check()
        row = rows[case_id]
        source = next(s for s in build.plan.sources if s["id"] == row["source"])
        root = roots_of(build, progress)[source["id"]]
        data = ingested()[row["source"], row["name"]]
        return read_original(described(source), root, case_of(data))

    return Access(thumb, label, original)
