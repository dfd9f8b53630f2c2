"""Joins of hashes are exact, and the second look finds a copy where it was moved to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.imaging.hashes import look, shared_slices
from fusion.imaging.pairs import (
    TooManyPairsError,
    correlations,
    crossing_pairs,
    near_pairs,
)
from fusion.imaging.registration import aligned_correlation
from fusion.imaging.volume import Picture
from tests.imaging.test_hashes import photo


def scattered(seed: int, count: int) -> np.ndarray:
    """Hashes around a few centres, some of them equal."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**64, max(1, count // 4), dtype=np.uint64)
    hashes = rng.choice(centres, count) if count else np.zeros(0, np.uint64)
    for _ in range(5):
        flip = rng.random(count) < 0.7
        hashes = np.where(
            flip, hashes ^ (np.uint64(1) << rng.integers(0, 64, count, np.uint64)), hashes
        )
    return hashes


def distance(a, b) -> int:
    return (int(a) ^ int(b)).bit_count()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 8), st.integers(0, 60))
def test_near_pairs_are_exactly_those_of_the_full_comparison(seed, max_bits, count):
    hashes = scattered(seed, count)

    found = near_pairs(hashes, max_bits)

    expected = [
        (i, j)
        for i in range(count)
        for j in range(i + 1, count)
        if distance(hashes[i], hashes[j]) <= max_bits
    ]
    assert [tuple(pair) for pair in found.tolist()] == expected


@pytest.mark.parametrize("count", [3_000, 60_000])
@pytest.mark.parametrize("max_bits", [2, 4, 6])
def test_joins_of_many_hashes_are_exact_however_they_are_cut(count, max_bits):
    """Large lists are cut into fewer bands, of which one may differ in a bit."""
    hashes = scattered(count, count)
    asked = np.random.default_rng(1).choice(count, 200, replace=False)

    found = near_pairs(hashes, max_bits)

    both = np.concatenate([found, found[:, ::-1]])
    for i in asked.tolist():
        near = np.flatnonzero(np.bitwise_count(hashes ^ hashes[i]) <= max_bits)
        assert sorted(both[both[:, 0] == i, 1].tolist()) == [j for j in near.tolist() if j != i]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 7), st.integers(0, 40))
def test_crossing_pairs_are_exactly_those_of_the_full_comparison(seed, max_bits, count):
    hashes = scattered(seed, 2 * count)
    left, right = hashes[:count], hashes[count:]

    found = crossing_pairs(left, right, max_bits)

    expected = [
        (i, j)
        for i in range(count)
        for j in range(count)
        if distance(left[i], right[j]) <= max_bits
    ]
    assert [tuple(pair) for pair in found.tolist()] == expected


def test_equal_hashes_are_all_paired():
    assert near_pairs(np.array([7, 9, 7, 7], np.uint64), 0).tolist() == [[0, 2], [0, 3], [2, 3]]
    with pytest.raises(ValueError, match="max_bits"):
        near_pairs(np.zeros(2, np.uint64), 64)


def test_a_crowd_is_refused_before_its_pairs_fill_the_memory():
    crowd = np.zeros(1_000_000, np.uint64)

    with pytest.raises(TooManyPairsError):
        near_pairs(crowd, 6, most=1_000_000)
    with pytest.raises(TooManyPairsError):
        crossing_pairs(crowd, crowd, 6, most=1_000_000)
    close = np.arange(4096, dtype=np.uint64)  # twelve bits: hundreds of pairs each
    with pytest.raises(TooManyPairsError):
        near_pairs(close, 6, most=10_000)


def thumbs(*pictures: np.ndarray) -> np.ndarray:
    return np.stack([look(Picture(one)).thumb for one in pictures])


def test_the_second_look_finds_a_cut_copy_again_and_tells_pictures_apart():
    first, second = photo(1).array, photo(2).array
    found = thumbs(first, first[4:-4, 5:-5], first[6:, :-9], second, first[:, ::-1])

    assert correlations(found, np.array([[0, 1], [0, 2]])).max() < 0.99
    for n in (1, 2):
        assert aligned_correlation(found[0], found[n]) >= 0.99
    assert aligned_correlation(found[0], found[3]) < 0.9
    assert correlations(found, np.array([[0, 4]]))[0] < 0.9
    assert correlations(found, np.array([[0, 4]]), mirrored=True)[0] > 0.999


def test_a_black_margin_that_two_pictures_share_does_not_make_them_alike():
    first, second = (np.pad(photo(n).array // 2 + 60, 90) for n in (1, 2))
    found = thumbs(first, second)

    assert np.corrcoef(found[0].ravel(), found[1].ravel())[0, 1] > 0.9
    assert correlations(found, np.array([[0, 1]]))[0] < 0.8


def test_a_blank_thumbnail_is_like_nothing():
    assert correlations(np.zeros((2, 64, 64), np.uint8), np.array([[0, 1]])).tolist() == [0]


def test_images_that_share_five_words_are_paired_and_a_word_of_all_pairs_none():
    common = np.arange(1, 4, dtype=np.uint64)
    tokens = [np.unique(np.r_[common, np.arange(n * 10, n * 10 + 9)]) for n in range(1, 100)]
    tokens = [one.astype(np.uint64) for one in tokens]
    twin = np.unique(np.r_[tokens[50], np.uint64(5_000)]).astype(np.uint64)

    assert shared_slices([*tokens, twin]) == [(50, 99)]
    assert shared_slices([]) == []
    assert shared_slices([np.zeros(0, np.uint64)] * 3) == []
