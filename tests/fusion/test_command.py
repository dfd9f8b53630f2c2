"""`fuse`: bad input ends with a clear message, a code that is not 0, and nothing left behind."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command

from tests.fusion.test_real_cases import made_source

pytestmark = pytest.mark.django_db


def recipe_in(folder: Path, mask_shape: tuple[int, int]) -> dict:
    return {
        "schema": "imaging-x/recipe/1",
        "title": "a made source",
        "task": "segmentation",
        "baseline": {"tier": "none"},
        **made_source(folder, mask_shape),
    }


def refused(folder: Path, recipe: dict) -> CommandError:
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(copy.deepcopy(recipe)))
    with pytest.raises(CommandError) as caught:
        call_command("fuse", str(file), "--out", str(folder / "out"), "--data-root", str(folder))
    assert caught.value.returncode != 0
    assert sorted(p.name for p in folder.iterdir()) == ["made", "recipe.yaml"]
    return caught.value


def test_an_unknown_key(tmp_path):
    recipe = recipe_in(tmp_path, (24, 31)) | {"tittle": "x"}

    assert "tittle: unknown key; did you mean 'title'?" in str(refused(tmp_path, recipe))


def test_an_unknown_dataset(tmp_path):
    recipe = recipe_in(tmp_path, (24, 31))
    recipe["sources"][0]["dataset"] = "stara"

    assert "found 'stara'" in str(message := refused(tmp_path, recipe))
    assert "did you mean 'stare'?" in str(message)


def test_a_missing_folder(tmp_path):
    recipe = recipe_in(tmp_path, (24, 31))
    recipe["sources"][0]["location"]["path"] = "mode"

    assert "did you mean 'made'?" in str(refused(tmp_path, recipe))


def test_a_mask_of_another_shape(tmp_path):
    message = str(refused(tmp_path, recipe_in(tmp_path, (20, 20))))

    assert "the label is (20, 20), the image (24, 31)" in message


def test_a_good_recipe_leaves_only_its_bundle(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe_in(tmp_path, (24, 31))))

    call_command("fuse", str(file), "--out", str(tmp_path / "out"), "--data-root", str(tmp_path))

    assert (tmp_path / "out" / "SHA256SUMS").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "out", "recipe.yaml"]
