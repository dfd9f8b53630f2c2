"""Files that take longer to read than anybody waits: each says how far it is, and can be stopped.

Those of a TiB have no content, and a reader that cannot be stopped would never come to their end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fusion.build import Build, run_stage
from fusion.errors import CancelledError
from fusion.imaging.file_hash import file_sha256
from fusion.locations import ExpectedFile, Manual
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from fusion.recipe_files import example_recipes, load_recipe
from fusion.sources import acquire
from fusion.sources.archive import unpack
from fusion.sources.download import _digests, git_sha1
from tests.fusion.test_real_cases import made_source
from tests.fusion.test_recipe import KNOWN

TIB = 1 << 40


class Watching:
    """A progress that notes the units, and whose user cancels once told of so many."""

    def __init__(self, patience: int = 1000) -> None:
        self.patience, self.total, self.units = patience, 0, [0]

    def stage(self, _name: str, total: int) -> None:
        self.total = total

    def advance(self, done: int) -> None:
        self.units.append(done)

    def check(self) -> None:
        if len(self.units) > self.patience:
            raise CancelledError

    def case(self, *_: object, **__: object) -> None: ...


def looks(most: int) -> Callable[[], None]:
    """A check that stops after so many."""
    left = iter(range(most))

    def check() -> None:
        if next(left, None) is None:
            raise CancelledError

    return check


def empty(path: Path, size: int) -> Path:
    """A file of zeros that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def acquiring(root: Path, size: int, progress: Watching) -> Build:
    """The stage `acquire` of four small pictures with masks, the second picture of `size` bytes."""
    base = load_recipe(example_recipes()["retinal-vessels"]) | {"baseline": {"tier": "none"}}
    plan = make_plan(check_recipe(base | made_source(root, (24, 31)), KNOWN))
    empty(root / "made" / "images" / "1.png", size)
    build = Build(plan, root, root / "work", root / "bundle")
    run_stage("acquire", build, progress)
    return build


def test_a_large_file_moves_the_progress_of_its_stage_while_it_is_read(tmp_path):
    progress = Watching()

    build = acquiring(tmp_path, 50 << 20, progress)

    assert progress.total == 100
    assert progress.units == sorted(progress.units)
    assert len(set(progress.units)) > 45  # a block is half a unit of 100
    assert progress.units[-1] == 100
    files = build.load("lock.json")["sources"]["made"]["files"]
    assert [row["sha256"] for row in files if row["bytes"] == 50 << 20] == [
        file_sha256(tmp_path / "made" / "images" / "1.png")
    ]


def test_reading_a_file_of_a_tib_ends_soon_after_the_user_cancels(tmp_path):
    progress = Watching(patience=20)

    with pytest.raises(CancelledError):
        acquiring(tmp_path, TIB, progress)

    assert progress.units[-1] == 0  # 20 blocks of a TiB


def test_a_huge_archive_or_expected_file_is_left_when_the_user_cancels(tmp_path):
    huge = empty(tmp_path / "set.tar", TIB)
    expected = ExpectedFile(path="set.tar", md5="0" * 32, sha256="0" * 64)
    place = Manual(kind="manual", path="set.tar", files=[expected])

    with pytest.raises(CancelledError):
        unpack(huge, tmp_path / "cache", check=looks(3))
    with pytest.raises(CancelledError):
        acquire(place, data_root=tmp_path, cache=tmp_path / "cache", check=looks(3))

    assert not (tmp_path / "cache").exists()


def test_the_hashes_of_a_huge_download_end_when_it_is_stopped(tmp_path):
    huge = empty(tmp_path / "blob", TIB)

    with pytest.raises(CancelledError):
        _digests(huge, looks(3))
    with pytest.raises(CancelledError):
        git_sha1(huge, looks(3))
