from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fusion.bundle.write import write_bundle
from tests.bundle.factories import make_plan, make_workdir

EXCLUSIONS = [
    {
        "source": "first",
        "name": "case009",
        "stage": "harmonise",
        "code": "no_geometry",
        "detail": "both form codes are 0",
    }
]
FINDINGS = [{"code": "licence_unknown", "severity": "warning", "detail": "second"}]


def build(folder: Path, dimension: str = "3D", protocol: str = "holdout", **options) -> Path:
    make_workdir(folder / "work", dimension, protocol)
    out = folder / "bundle"
    plan = make_plan(dimension, protocol=protocol)
    write_bundle(plan, folder / "work", out, EXCLUSIONS, FINDINGS, **options)
    return out


@pytest.fixture(scope="session")
def built_once(tmp_path_factory) -> dict[str, Path]:
    """One bundle of each kind, for tests that only read."""
    make = tmp_path_factory.mktemp
    return {
        "3D": build(make("volumes"), cap_bytes=8_000, build_info={"host": "anywhere"}),
        "2D": build(make("pictures"), "2D"),
        "loso": build(make("loso"), "3D", "loso"),
    }


@pytest.fixture
def bundle(built_once, tmp_path) -> Path:
    """A 3D bundle that a test may damage."""
    return Path(shutil.copytree(built_once["3D"], tmp_path / "bundle"))
