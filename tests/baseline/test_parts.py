from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.baseline.cases import Case, limited, source_weights
from fusion.baseline.grid import area_weights, canvas_for, load, shrunk_labels
from fusion.baseline.masks import lesions, mask_score
from fusion.baseline.segment import partial_loss
from fusion.baseline.tier import SMOKE
from tests.baseline.made import Work


def case(number: int, source: str, split: str = "train", **more) -> Case:
    known = {
        "id": f"{source}__{number:012x}",
        "source": source,
        "group": f"g:{source}{number}",
        "split": split,
        "annotated": frozenset({"disc"}),
        "classes": {},
        "shape": (60, 48),
        "spacing_mm": None,
        "channels": 1,
        "unit": "unknown",
        "images": (Path("image.png"),),
        "label": Path("label.png"),
    }
    return Case(**{**known, **more})


def test_a_concept_gets_no_gradient_from_inputs_that_are_not_annotated_for_it():
    logits = torch.zeros(2, 2, 8, 8, requires_grad=True)
    annotated = torch.tensor([[True, False], [True, True]])

    partial_loss(logits, torch.ones(2, 2, 8, 8), annotated).backward()

    assert logits.grad[0, 1].abs().sum() == 0
    for known in (logits.grad[0, 0], logits.grad[1, 0], logits.grad[1, 1]):
        assert known.abs().sum() > 0


def score(predicted: np.ndarray, reference: np.ndarray, *spacing: float, has_mm=True, lesion=False):
    return mask_score(predicted, reference, spacing, has_mm=has_mm, is_lesion=lesion)


def test_dice_is_of_the_whole_volume_and_not_the_mean_of_its_planes():
    reference = np.zeros((2, 4, 4), bool)
    predicted = reference.copy()
    reference[0], predicted[0] = True, True
    predicted[1, 0, 0] = True  # its plane alone would score 0

    found = score(predicted, reference, 5.0, 1.0, 2.0)

    assert found.dice == pytest.approx(32 / 33)
    assert (found.reference_mm3, found.predicted_mm3) == (160.0, 170.0)


def test_both_empty_is_no_score_and_one_empty_is_zero():
    empty, full = np.zeros((1, 4, 4), bool), np.ones((1, 4, 4), bool)

    found = [score(*pair, 1.0, 1.0, 1.0) for pair in ((empty, empty), (empty, full), (full, empty))]

    assert [(one.dice, one.nsd) for one in found] == [(None, None), (0.0, 0.0), (0.0, 0.0)]


@pytest.mark.parametrize(
    ("spacing", "has_mm", "shift", "expected"),
    [
        ((1.0, 1.0, 1.0), True, 2, 1.0),  # 2 mm away: within the tolerance
        ((1.0, 1.0, 1.0), True, 3, 0.5),  # of two sheets each, two lie within
        ((3.0, 3.0, 3.0), True, 1, 1.0),  # one voxel is 3 mm: as far as can be asked
        ((1.0, 1.0, 1.0), False, 2, 0.5),  # no mm: one pixel
    ],
)
def test_surfaces_may_be_two_millimetres_or_one_voxel_apart(spacing, has_mm, shift, expected):
    reference, predicted = np.zeros((2, 1, 30, 40), bool)
    reference[0, 10], predicted[0, 10 + shift] = True, True  # a line each: all surface
    if expected < 1:
        reference[0, 25], predicted[0, 25] = True, True  # and one that both see

    found = score(predicted, reference, *spacing[1:], spacing[0], has_mm=has_mm)

    assert found.nsd == pytest.approx(expected)


def test_lesions_are_counted_one_by_one():
    reference, predicted = np.zeros((2, 20, 20), bool)
    reference[0:4, 0:4] = reference[10:14, 10:14] = True
    predicted[0:4, 2:6] = True  # IoU 1/3
    predicted[13:17, 13:17] = True  # IoU 1/31
    predicted[0:2, 15:17] = True

    assert lesions(predicted, reference) == (1, 2, 1)
    assert lesions(np.zeros_like(predicted), reference) == (0, 0, 2)
    assert score(predicted[None], reference[None], 1.0, 1.0, 1.0, lesion=True).lesions == (1, 2, 1)
    assert score(predicted[None], reference[None], 1.0, 1.0, 1.0).lesions is None


def test_thin_structures_keep_their_area_when_planes_shrink():
    labels = np.zeros((1, 200, 200), np.uint8)
    labels[0, :, 100] = 1  # a vessel of one pixel: half a pixel wide on 100 x 100
    labels[0, 20:60, 20:60] = 2

    small = shrunk_labels(labels, (100, 100))

    assert 50 <= np.count_nonzero(small == 1) <= 100
    assert np.count_nonzero(small == 2) == 400


@pytest.mark.parametrize(("size", "target"), [(10, 5), (13, 5), (7, 7), (5, 9)])
def test_shrinking_keeps_the_mean(size: int, target: int):
    weights = area_weights(size, target)

    values = np.random.default_rng(1).uniform(size=size)

    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    assert (weights @ values).mean() == pytest.approx(values.mean())


def test_a_millimetre_is_as_long_in_every_volume():
    cases = [
        case(0, "a", shape=(256, 256, 9), spacing_mm=(1.0, 1.0, 5.0)),
        case(1, "b", shape=(100, 50, 9), spacing_mm=(0.5, 2.0, 5.0)),
    ]

    canvas = canvas_for(cases, SMOKE)

    assert (canvas.dims, canvas.axis, canvas.edge) == (2, 2, 96)
    assert canvas.shape_of(cases[0].shape, cases[0].spacing_mm) == (96, 96)
    assert canvas.shape_of(cases[1].shape, cases[1].spacing_mm) == (19, 38)  # 50 x 100 mm


def test_a_few_whole_heads_do_not_blur_the_crops_that_they_are_learnt_with():
    heads = [case(i, "heads", shape=(181, 217, 181), spacing_mm=(1.0, 1.0, 1.0)) for i in range(2)]
    crops = [case(i, "crops", shape=(35, 50, 36), spacing_mm=(1.0, 1.0, 1.0)) for i in range(98)]

    canvas = canvas_for([*heads, *crops], SMOKE)

    assert canvas.voxel_mm == 1
    assert canvas.shape_of((181, 217, 181), (1.0, 1.0, 1.0)) == (181, 217, 181)
    assert canvas_for(heads, SMOKE).voxel_mm == pytest.approx(217 / 64)
    half = canvas_for([*heads, *crops[:2]], SMOKE)  # what is large in the mean costs as much
    assert half.voxel_mm == pytest.approx(((181**2 * 217 + 35 * 50 * 36) / 2) ** (1 / 3) / 64)


@pytest.mark.parametrize(
    ("shape", "spacing", "dims", "axis"),
    [
        ((40, 50, 30), (1.0, 1.0, 1.5), 3, None),
        ((256, 256, 24), (0.9, 0.9, 5.0), 2, 2),  # thick axial planes
        ((20, 256, 256), (4.0, 0.9, 0.9), 2, 0),  # thick sagittal ones
        ((200, 200, 6), (1.0, 1.0, 1.0), 2, 2),  # few
    ],
)
def test_the_voxels_say_whether_a_volume_is_learnt_whole_or_plane_by_plane(
    shape, spacing, dims, axis
):
    cases = [case(i, "a", shape=shape, spacing_mm=spacing) for i in range(3)]

    canvas = canvas_for(cases, SMOKE)

    assert (canvas.dims, canvas.axis) == (dims, axis)
    assert len(canvas.shape_of(shape, spacing)) == dims


def test_small_planes_are_padded_and_never_resampled(tmp_path: Path):
    from fusion.baseline.cases import read_cases

    Work(tmp_path).picture("a", "train")
    (read,) = read_cases(tmp_path)

    canvas = canvas_for([read], SMOKE)
    stack = load(read, canvas, concepts=1)

    assert stack.images.shape == (1, 1, 64, 64)
    assert stack.labels.shape == (1, 64, 64)
    assert not stack.labels[:, :2].any()
    bright = stack.images[0, 0, 2:62, 8:56] > 0.5
    np.testing.assert_array_equal(stack.labels[0, 2:62, 8:56] == 1, bright)


def test_a_label_value_beyond_the_concepts_is_named(tmp_path: Path):
    from fusion.baseline.cases import read_cases

    Work(tmp_path).picture("a", "train", label=np.full((60, 48), 3))
    (read,) = read_cases(tmp_path)

    with pytest.raises(ValueError, match="found 3, most 1"):
        load(read, canvas_for([read], SMOKE), concepts=1)


def test_a_draw_keeps_a_small_source_whole_and_of_a_large_one_the_splits_for_one_seed():
    cases = [case(i, "big", "train" if i % 5 else "test") for i in range(500)]
    cases += [case(i, "small", "train") for i in range(30)]

    kept = limited(cases, 200, seed=1)

    assert len(kept) == 200
    assert sum(c.source == "small" for c in kept) == 30
    assert 0.17 < sum(c.split == "test" for c in kept) / 170 < 0.23
    assert kept == limited(cases, 200, seed=1)
    assert kept != limited(cases, 200, seed=2)


def test_a_large_source_does_not_drown_a_small_one():
    cases = [case(i, "big") for i in range(100)] + [case(0, "small")]

    weights = source_weights(cases)

    assert sum(weights) == pytest.approx(1)
    assert weights[-1] == pytest.approx(1 / 11)  # sqrt(1) of sqrt(100) + sqrt(1)
