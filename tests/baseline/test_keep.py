"""Pictures of the worst cases: the right slice, as it is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.baseline.grid import Canvas, Stack
from fusion.baseline.keep import slice_of, worst_of, write_picture
from tests.baseline.studies import case_result, mask


def stack(images: np.ndarray, inner: tuple[int, ...]) -> Stack:
    return Stack(images.astype(np.float16), None, inner, (1.0,) * len(inner), has_mm=True)


def test_a_volume_is_shown_where_it_holds_most_front_on_top_and_left_on_the_right():
    images = np.zeros((1, 1, 8, 8, 8))
    images[0, 0, 6, 1, 5] = 1  # patient right is low i: this is left; low j is back
    found = np.zeros((1, 8, 8, 8), bool)
    found[0, 6, 1, 5] = found[0, 2, 6, 5] = True
    found[0, 3, 3, 2] = True  # another slice, which holds less
    canvas = Canvas(dims=3, axis=None, edge=8, voxel_mm=1.0, patch=8, channels=1)

    made = slice_of(stack(images, (8, 8, 8)), canvas, ["cup", "disc"],
                    ({"disc": found}, {"disc": np.zeros_like(found)}))  # fmt: skip

    assert np.argwhere(made["prediction"] == 2).tolist() == [[1, 5], [6, 1]]
    assert np.argwhere(made["image"] > 0).tolist() == [[6, 1]]
    assert not made["reference"].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_stays_upright_without_what_was_padded(channels):
    images = np.zeros((1, channels, 8, 8))
    images[0, :, 2, 3] = 1
    canvas = Canvas(dims=2, axis=None, edge=8, voxel_mm=None, patch=8, channels=channels)

    made = slice_of(stack(images, (6, 4)), canvas, ["ill"], None)

    assert made["image"].shape == ((6, 4, 3) if channels == 3 else (6, 4))
    assert np.argwhere(made["image"].reshape(6, 4, -1)[..., 0] > 0).tolist() == [[1, 1]]
    assert set(made) == {"image"}


def test_the_cases_that_fail_most_are_kept_and_val_cases_are_not(tmp_path):
    rows = [case_result("fused", "a", n, masks={"disc": mask(n / 20)}) for n in range(20)]
    rows.append(case_result("fused", "a", 99, split="val", masks={"disc": mask(0.0)}))

    assert worst_of(rows) == [f"a-{n}" for n in range(10)]
    write_picture(tmp_path, "a-0", {"image": np.zeros((2, 2), np.uint8)})
    assert np.load(tmp_path / "pictures" / "a-0.npz")["image"].shape == (2, 2)
