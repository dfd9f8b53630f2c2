"""Stage acquire: the files of every source, fetched, listed and hashed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion.cases import FoundCase
from fusion.errors import BuildError
from fusion.imaging.file_hash import file_sha256
from fusion.source import SourceDescription
from fusion.stages.base import Build, Progress
from fusion.stages.sources import acquired_roots, described, found_in, paths_of


def run(build: Build, progress: Progress) -> None:
    """Fetch, list and hash the files of every source."""
    progress.stage("acquire", 100)
    share = 100 / len(build.plan.sources)
    roots = acquired_roots(build, progress)
    lock: dict[str, Any] = {}
    for number, source in enumerate(build.plan.sources):
        root, description = roots[source["id"]], described(source)
        found, _ = found_in(description, root, progress.check)
        used = sorted(_files_of(found, root, description))
        rows = _hashed(root, used, progress, number * share, share)
        if not found:
            arrays = (one.file for one in description.cases.arrays)
            pattern = description.cases.template() or ", ".join(dict.fromkeys(arrays))
            place = source["location"].get("path", root.name)
            raise BuildError(
                "source_failed",
                f"source {source['id']}: no file below {place!r} matches {pattern!r}",
            )
        lock[source["id"]] = {"location": source["location"], "files": rows}
        progress.advance(round((number + 1) * share))
    build.save("roots.json", {i: str(root) for i, root in roots.items()})
    build.save("lock.json", {"schema": "imaging-x/lock/1", "sources": lock})


def _hashed(
    root: Path, paths: Sequence[str], progress: Progress, before: float, share: float
) -> list[dict[str, Any]]:
    """Bytes and SHA-256 of the files; `share` units of the stage, however large one file is."""
    sizes = {path: (root / path).stat().st_size for path in paths}
    total, read, rows = max(1, sum(sizes.values())), 0, []
    for path, size in sizes.items():

        def told(part: int, read: int = read) -> None:
            progress.check()
            progress.advance(int(before + share * min(1.0, (read + part) / total)))

        told(0)
        rows.append({"path": path, "bytes": size, "sha256": file_sha256(root / path, told)})
        read += size
    return rows


def _files_of(found: list[FoundCase], root: Path, description: SourceDescription) -> set[str]:
    paths = {path for case in found for path in paths_of(case, root)}
    for one in description.cases.arrays if found else ():
        paths |= {file for file in one.files() if (root / file).is_file()}
    for table in description.tables() if found else ():
        if not (root / table).is_file():
            raise BuildError("source_failed", f"{description.name}: no table {table!r}")
        paths.add(table)
    return paths
