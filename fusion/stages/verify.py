"""Stage verify: the bundle is checked and put in its place."""

from __future__ import annotations

import platform
import shutil
from contextlib import suppress

from fusion.bundle.names import BASELINE
from fusion.bundle.text import write_json
from fusion.bundle.verify import verify_bundle
from fusion.errors import BuildError
from fusion.imaging.errors import CaseError
from fusion.imaging.io.dicom_header import is_dicom, names_in
from fusion.stages.base import Build, Progress
from fusion.stages.sources import roots_of


def run(build: Build, progress: Progress) -> None:
    """Add the baseline, check all, and rename the bundle to its place.

    Raises:
        BuildError: phi_found or verify_failed.
    """
    progress.stage("verify", 1)
    progress.check()
    if not build.partial.is_dir() and build.out.is_dir():
        return
    _write_build_info(build)
    _add_baseline(build)
    report = verify_bundle(build.partial, _people(build, progress))
    if not report.ok:
        wrong = {check.code: check.detail for check in report.checks if not check.ok}
        failed = "; ".join(f"{code}: {detail}" for code, detail in wrong.items())
        code = "phi_found" if set(wrong) == {"privacy"} else "verify_failed"
        raise BuildError(code, f"the built bundle does not verify: {failed}")
    if build.out.exists():
        shutil.rmtree(build.out)
    build.partial.rename(build.out)
    progress.advance(1)


def _people(build: Build, progress: Progress) -> set[str]:
    """Names of people in the headers of the DICOM files that were used."""
    roots, names = roots_of(build, progress), set()
    for source, rows in build.load("lock.json")["sources"].items():
        for row in rows["files"]:
            path = roots[source] / row["path"]
            with suppress(CaseError):  # what cannot be read was not used
                if is_dicom(path):
                    names |= names_in(path)
    return names


def _write_build_info(build: Build) -> None:
    """What may differ between two builds of one bundle, and is outside SHA256SUMS."""
    info = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    write_json(build.partial / "build_info.json", info)


def _add_baseline(build: Build) -> None:
    """Its figures, its page and the weights, where a baseline was asked for."""
    if (build.workdir / "baseline.json").is_file():
        from fusion.baseline.write import write_baseline

        trained = build.workdir / "final" / BASELINE
        plan = build.locked_plan().as_dict()
        write_baseline(build.load("baseline.json"), plan, trained, build.partial)
