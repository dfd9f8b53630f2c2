"""`fuse`: bad input ends with a clear message, a code that is not 0, and nothing left behind."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from django.conf import settings
from django.core.management import CommandError, call_command
from PIL import Image

from fusion.bundle.summary import summarise
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


def test_the_guide_s_own_example_runs_as_it_stands(tmp_path):
    guide = (settings.BASE_DIR / "docs" / "fusing-your-data.md").read_text()
    for block in re.findall(r"```yaml\n(# (\S+)\n.*?)```", guide, re.DOTALL):
        (tmp_path / block[1]).write_text(block[0])
    rng = np.random.default_rng(5)
    mask = np.zeros((24, 31), np.uint8)
    mask[3:9, 4:9] = 255
    for folder in ("first", "second"):
        for kind in ("images", "masks"):
            (tmp_path / folder / kind).mkdir(parents=True)
        for name in (f"{person}_{eye}.png" for person in range(5) for eye in "LR"):
            image = rng.integers(0, 255, (24, 31, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / folder / "images" / name)
            Image.fromarray(np.roll(mask, int(name[0]), 1)).save(tmp_path / folder / "masks" / name)

    out = str(tmp_path / "bundle")
    recipe = str(tmp_path / "recipe.yaml")
    call_command("fuse", recipe, "--data-root", str(tmp_path), "--out", out)
    call_command("verify_bundle", out)

    assert [s["used"] for s in summarise(Path(out))["sources"]] == [10, 10]
