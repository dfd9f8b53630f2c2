"""Finished cases are found again by content: what changed is done again, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fusion.build import STAGES, Build, run_stage
from fusion.errors import BuildError
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from fusion.recipe_files import example_recipes, load_recipe
from fusion.results import ResultFolder
from tests.fusion.test_real_cases import Silent, made_source
from tests.fusion.test_recipe import KNOWN

ROOMY = 1 << 40


class Counting(ResultFolder):
    """A store that remembers which results it was given."""

    def __init__(self, root: Path, limit_bytes: int = ROOMY) -> None:
        super().__init__(root, limit_bytes)
        self.kept: list[str] = []

    def keep(self, key: str, folder: Path) -> None:
        self.kept.append(folder.name)
        super().keep(key, folder)


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "store")


@pytest.fixture
def fused(tmp_path: Path) -> Callable[..., str]:
    """Builds a recipe of two small sources of four cases each; returns SHA256SUMS."""
    sources = made_source(tmp_path, (24, 31))["sources"]
    (tmp_path / "made").rename(tmp_path / "one")
    sources += made_source(tmp_path, (24, 31))["sources"]
    (tmp_path / "made").rename(tmp_path / "two")
    # no two pictures are the same
    for number, path in enumerate(sorted(tmp_path.glob("*/images/*.png"))):
        noise = np.random.default_rng(number).integers(0, 255, (24, 31, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    for source, name, dataset in zip(sources, ("one", "two"), ("stare", "chase-db1"), strict=True):
        source |= {"id": name, "location": {"kind": "local", "path": name}, "dataset": dataset}

    def build(out: str, store: ResultFolder | None, **changes: Any) -> str:
        base = load_recipe(example_recipes()["retinal-vessels"])
        base |= {"sources": sources, "accept": {}, "baseline": {"tier": "none"}, **changes}
        plan = make_plan(check_recipe(base, KNOWN))
        made = Build(plan, tmp_path, tmp_path / f"{out}.work", tmp_path / out, results=store)
        for stage in STAGES:
            run_stage(stage, made, Silent())
        return (made.out / "SHA256SUMS").read_text()

    build.sources = sources
    return build


def test_the_bundle_has_the_same_bytes_with_and_without_the_store(fused, store):
    plain = fused("plain", None)

    assert fused("first", store) == plain
    assert len(store.kept) == 8
    assert fused("second", store) == plain
    assert len(store.kept) == 8


def test_a_changed_title_seed_or_split_reuses_every_case(fused, store):
    fused("first", store)
    changes = {"title": "another title", "seed": 7}
    splits = {"protocol": "holdout", "train": 0.5, "val": 0.25, "test": 0.25}

    again = fused("second", store, **changes, splits=splits)

    assert len(store.kept) == 8
    assert again == fused("plain", None, **changes, splits=splits)


def test_a_changed_label_rule_of_one_source_redoes_that_source_only(fused, store):
    fused("first", store)
    fused.sources[1]["description"]["layers"][0]["threshold"] = 100

    again = fused("second", store)

    assert len(store.kept) == 12
    assert {name.partition("__")[0] for name in store.kept[8:]} == {"two"}
    assert again == fused("plain", None)


def test_a_changed_licence_or_reference_redoes_nothing(fused, store):
    fused("first", store)
    fused.sources[0]["description"] |= {"citation": "A. Body, 2026", "doi": "10.1/x"}

    assert "A. Body" not in fused("second", store)
    assert len(store.kept) == 8


def test_a_changed_picture_redoes_its_case_only(fused, store, tmp_path):
    fused("first", store)
    picture = tmp_path / "one" / "images" / "2.png"
    Image.fromarray(255 - np.asarray(Image.open(picture))).save(picture)

    again = fused("second", store)

    assert len(store.kept) == 9
    assert again == fused("plain", None)


@pytest.mark.parametrize("damage", ["a flipped byte", "cut short", "gone", "no sums"])
def test_a_damaged_result_is_made_again_and_never_used(fused, store, tmp_path, damage):
    plain = fused("first", store)
    picture = next((tmp_path / "store").glob("??/*/image.png"))
    other = tmp_path / "other"
    other.write_bytes(picture.read_bytes())
    if damage == "a flipped byte":
        data = bytearray(other.read_bytes())
        data[len(data) // 2] ^= 1
        other.write_bytes(data)
        other.replace(picture)
    elif damage == "cut short":
        other.write_bytes(other.read_bytes()[:20])
        other.replace(picture)
    elif damage == "gone":
        picture.unlink()
    else:
        (picture.parent / "sums.json").write_text("")

    assert fused("second", store) == plain
    assert len(store.kept) == 9
    assert fused("third", store) == plain
    assert len(store.kept) == 9


def test_what_a_host_could_not_read_is_tried_again_by_the_next_run(fused, store, tmp_path):
    (tmp_path / "one" / "images" / "3.png").write_bytes(b"")

    for out in ("first", "second"):
        with pytest.raises(BuildError, match="3: unreadable"):
            fused(out, store)

    assert len(store.kept) == 7


def test_the_store_forgets_what_was_used_longest_ago_but_nothing_that_is_needed(fused, tmp_path):
    store = Counting(tmp_path / "store", limit_bytes=0)
    fused("first", store)
    places = sorted((tmp_path / "store").glob("??/*"))
    for age, place in enumerate(places):
        os.utime(place, (1_000_000 + age, 1_000_000 + age))
    sizes = [sum(path.stat().st_size for path in place.iterdir()) for place in places]

    store.limit_bytes = sum(sizes[3:]) + sizes[0]

    assert store.evict(needed={places[0].name}) == 2
    assert [place.exists() for place in places] == [True, False, False] + [True] * 5
