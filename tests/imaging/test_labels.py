"""Label values are read safely and mapped completely, or the case is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fusion.imaging.errors import CaseError
from fusion.imaging.label_kernels import count, look_up, survey
from fusion.imaging.labels import as_integers, binarise, from_probabilities, remap


def test_floats_next_to_integers_are_integers():
    found = as_integers(np.array([[0.0, 0.99999997], [2.0, 5.0000001]]))

    np.testing.assert_array_equal(found, [[0, 1], [2, 5]])
    assert found.dtype == np.uint8


@pytest.mark.parametrize("values", [[0.4], [0, 1.01], [-1], [70_000], [np.nan], [np.inf], [1j]])
def test_what_no_label_map_holds_is_refused(values):
    with pytest.raises(CaseError) as caught:
        as_integers(np.array(values))
    assert caught.value.code == "dtype_refused"


def test_values_over_255_are_kept_in_16_bits():
    for dtype in (np.uint16, np.int32, np.float32, np.int64):
        found = as_integers(np.array([0, 300, 65_535], dtype))
        assert found.dtype == np.uint16
        assert found.tolist() == [0, 300, 65_535]
    assert as_integers(np.array([True, False])).tolist() == [1, 0]


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.integers(1, 400), st.integers(0, 400), min_size=1, max_size=20),
    st.integers(0, 99),
)
def test_remap_follows_its_table_and_nothing_else(table, seed):
    keys = np.array([0, *table])
    labels = np.random.default_rng(seed).choice(keys, (4, 5, 3)).astype(np.uint16)

    found = remap(labels, table)

    full = {0: 0, **table}
    np.testing.assert_array_equal(found, np.vectorize(full.get)(labels))
    assert found.dtype == (np.uint8 if max(full.values()) < 256 else np.uint16)


def test_a_value_without_a_mapping_is_named_with_its_voxels():
    labels = np.zeros((4, 4), np.uint8)
    labels[0, :3] = 7

    with pytest.raises(CaseError, match=r"values 7 \(3 voxels\)") as caught:
        remap(labels, {1: 1})
    assert caught.value.code == "label_unmapped"
    assert remap(labels, {7: 300})[0, 0] == 300
    with pytest.raises(ValueError, match="outside 0 to 65535"):
        remap(labels, {7: 70_000})


def test_background_can_be_mapped_on_purpose():
    assert remap(np.array([0, 1]), {0: 2, 1: 1}).tolist() == [2, 1]


def test_the_likeliest_map_wins_and_the_rest_is_background():
    grey = np.array([200, 100, 10, 128, 0], np.uint8)
    white = np.array([50, 140, 10, 127, 0], np.uint8)

    found = from_probabilities([grey, white], 255)

    assert found.tolist() == [1, 2, 0, 1, 0]
    with pytest.raises(CaseError, match="probability maps"):
        from_probabilities([grey, white[:2]], 255)


def test_a_threshold_reads_one_channel():
    ringing = np.array([[0, 120], [135, 255]], np.uint8)
    assert binarise(ringing, 127).tolist() == [[0, 0], [1, 1]]
    two = np.stack([ringing, 255 - ringing, ringing], axis=-1)
    assert binarise(two, 127, channel=1).tolist() == [[1, 1], [0, 0]]
    with pytest.raises(CaseError, match="channel 1"):
        binarise(np.zeros((2, 2, 2)), 127, channel=1)


def test_a_refusal_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(CaseError("unreadable", "a.nii: cut")))  # noqa: S301
    assert (error.code, error.message) == ("unreadable", "a.nii: cut")


@pytest.mark.parametrize("seed", range(12))
def test_counts_and_parts_are_those_of_numpy_and_scipy(seed):
    rng = np.random.default_rng(seed)
    kind, top = (np.uint16, 300) if seed % 2 else (np.uint8, 7)
    labels = rng.choice([0, 0, 0, 1, 2, top], tuple(rng.integers(1, 14, 3))).astype(kind)
    if seed % 3 == 0:
        labels = np.asfortranarray(labels)[::-1]

    counts, parts = survey(labels)

    np.testing.assert_array_equal(counts, np.bincount(labels.ravel()))
    touching = np.ones((3, 3, 3))
    for value in range(1, len(parts)):
        assert parts[value] == ndimage.label(labels == value, structure=touching)[1]


@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6), (1, 1, 1)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_table_is_looked_up_in_any_memory_order(shape, order):
    labels = np.random.default_rng(1).integers(0, 9, shape).astype(np.uint8)
    labels = np.asarray(labels, order=order)[::-1]
    table = np.arange(9, dtype=np.uint16) * 1000

    found = look_up(table, labels)

    np.testing.assert_array_equal(found, table[labels])
    np.testing.assert_array_equal(count(labels), np.bincount(labels.ravel()))
