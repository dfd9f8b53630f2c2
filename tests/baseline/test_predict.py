from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from django.core.management import CommandError, call_command

from fusion.baseline import FOLDER, Tier, run_baseline
from tests.baseline.made import Work, disc, plan

BALL = Tier(steps=80, volume_edge=32)


def ball(centre_mm, affine: np.ndarray, shape, radius: float = 9.0) -> np.ndarray:
    """Bool: which voxel centres lie in a ball, wherever the grid lies."""
    voxels = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    return np.linalg.norm(voxels - centre_mm, axis=-1) <= radius


def image_of(label: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 60, label.shape)
    return (noise + 300 * label).astype(np.int16)


def oblique(spacing, degrees: float) -> np.ndarray:
    """Voxels turned about two axes, one of them flipped, stored in another order."""
    a = np.radians(degrees)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    axes = (about_z @ about_x)[:, [2, 0, 1]] * [1, -1, 1] * spacing
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, [12.5, -40.0, 7.0]
    return affine


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Baseline folder of a network that was trained on bright balls in volumes of 2 mm."""
    work = Work(tmp_path_factory.mktemp("balls"))
    rng = np.random.default_rng(1)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    for split in ["train"] * 8 + ["val"] * 2 + ["test"] * 2:
        label = ball(rng.uniform(16, 46, 3), affine, (32, 30, 28))
        work.stored("a", split, image_of(label, len(work.cases)), label, affine)
    told = plan("a", profile="grid", spacing_mm=[2, 2, 2])
    result = run_baseline(told, work.root, device="cpu", threads=1, tier=BALL)
    assert result["training"]["dimensions"] == 3
    scores = [row["value"] for row in result["matrix"] if row["metric"] == "dice"]
    assert scores
    assert min(scores) > 0.85
    return work.root / FOLDER


def test_a_ball_is_found_where_it_lies_in_an_oblique_volume_of_long_voxels(balls, tmp_path: Path):
    affine, shape = oblique((0.9, 3.1, 1.4), 17.0), (60, 19, 44)
    centre = affine[:3, :3] @ [31, 8, 20] + affine[:3, 3]
    label = ball(centre, affine, shape)
    nib.save(nib.Nifti1Image(image_of(label, 5), affine), tmp_path / "new.nii.gz")

    call_command("predict", str(balls), str(tmp_path / "new.nii.gz"), out=tmp_path / "out")

    found = nib.load(tmp_path / "out" / "new.nii.gz")
    mask = np.asarray(found.dataobj) == 1
    np.testing.assert_allclose(found.affine, affine, atol=1e-4)
    assert mask.shape == shape
    assert 2 * (mask & label).sum() / (mask.sum() + label.sum()) > 0.85
    where = affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine[:3, 3]
    assert np.linalg.norm(where - centre) < 1.0  # mm: half a voxel of the network's grid


def test_the_network_says_what_it_was_trained_on(balls: Path, tmp_path: Path):
    told = json.loads((balls / "network.json").read_text())
    picture = tmp_path / "picture.png"
    Work(tmp_path / "work").picture("a", "train")
    next((tmp_path / "work").rglob("image.png")).rename(picture)

    assert (told["concepts"], told["canvas"]["dims"], told["unit"]) == (["disc"], 3, "unknown")
    for images, words in (
        ([picture], "found a picture, expected a volume"),
        ([f"{picture},{picture}"], "found 2 channels, expected one image"),
        ([picture, picture], "found 'picture' twice"),
        ([tmp_path / "none.nii"], "none.nii"),
    ):
        with pytest.raises(CommandError, match=words):
            call_command("predict", str(balls), *map(str, images), out=tmp_path / "out")
    with pytest.raises(CommandError, match=r"found no network.json"):
        call_command("predict", str(tmp_path), str(picture), out=tmp_path / "out")


def test_pictures_keep_their_size_and_classes_come_as_a_table(tmp_path: Path):
    masks, classes = Work(tmp_path / "masks"), Work(tmp_path / "classes")
    for split in ["train"] * 8 + ["test"]:
        masks.picture("a", split)
        classes.picture("a", split, label=None, classes={"disc": len(classes.cases) % 2})
    quick = Tier(steps=60, picture_edges=(32,), validations=1)
    run_baseline(plan("a"), masks.root, device="cpu", threads=1, tier=quick)
    brief = Tier(steps=2, fewest_steps=2, picture_edges=(32,), validations=1)
    told = plan("a", task="classification")
    run_baseline(told, classes.root, device="cpu", threads=1, tier=brief)
    image, label = disc(77, (90, 70))
    from PIL import Image

    Image.fromarray(image).save(tmp_path / "new.png")
    Image.fromarray(image[:50]).save(tmp_path / "part.png")

    files = [str(tmp_path / "new.png"), str(tmp_path / "part.png")]
    call_command("predict", str(masks.root), *files, out=tmp_path / "out")
    call_command("predict", str(classes.root / FOLDER), *files, out=tmp_path / "out")

    mask = np.asarray(Image.open(tmp_path / "out" / "new.png"))
    assert mask.shape == label.shape
    assert 2 * ((mask == 1) & (label == 1)).sum() / ((mask == 1).sum() + label.sum()) > 0.6
    assert np.asarray(Image.open(tmp_path / "out" / "part.png")).shape == (50, 70)
    rows = (tmp_path / "out" / "probabilities.csv").read_text().splitlines()
    assert rows[0] == "image,disc"
    assert [row.split(",")[0] for row in rows[1:]] == ["new", "part"]
    assert all(0 <= float(row.split(",")[1]) <= 1 for row in rows[1:])
