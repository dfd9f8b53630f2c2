"""The shift index on sources that are alike, apart, and brought together."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fusion.baseline.shift import Seen, cramers_v, matched, measure_shift, seen_cases, shift_index


def seen(source: str, n: int, before, after=None, ill: int = 0, group: str = "") -> Seen:
    vector = np.asarray(before, float)
    later = vector if after is None else np.asarray(after, float)
    return Seen(
        f"{source}-{n}", source, group or f"{source}:{n}", {"ill": ill}, vector, later
    )  # fmt: skip


def sources(offset: float, after: float, number: int = 60, seed: int = 1) -> list[Seen]:
    """Two sources of like pictures; the second one is brighter by `offset`, then by `after`."""
    rng, found = np.random.default_rng(seed), []
    for place, source in enumerate("ab"):
        for n in range(number):
            picture = rng.normal(0, 1, 40)
            found.append(seen(source, n, picture + place * offset, picture + place * after, n % 2))
    return found


def test_sources_that_are_alike_have_no_shift():
    shift = measure_shift(sources(0.0, 0.0), "ab", seed=3)

    assert shift.before.value < 0.2
    assert shift.before.p > 0.05
    assert shift.before.value == shift.after.value
    assert not shift.risky


def test_sources_that_are_trivially_apart_have_all_of_it_and_harmonising_takes_it_away():
    shift = measure_shift(sources(5.0, 0.0), "ab", seed=3)

    assert shift.before.value > 0.95
    assert shift.before.p == pytest.approx(0.001)
    assert shift.after.value < 0.2
    assert shift.matched
    assert shift.cases == {"a": 60, "b": 60}


def test_three_sources_of_which_two_are_alike_are_half_told_apart():
    """BA is 1 of one and 1/2 of the two that cannot be parted: (2/3 - 1/3) / (2/3) = 1/2."""
    rng = np.random.default_rng(5)
    cases = [seen(s, n, rng.normal(9 if s == "c" else 0, 1, 40)) for s in "abc" for n in range(80)]

    assert measure_shift(cases, "abc", seed=3).before.value == pytest.approx(0.5, abs=0.12)


def test_labels_are_matched_so_that_a_rarer_disease_is_no_shift():
    """Ill pictures are bright; b has more of them. That is prevalence, not a shift of images."""
    rng, cases = np.random.default_rng(6), []
    for source, share in (("a", 0.2), ("b", 0.8)):
        for n in range(100):
            ill = int(n < 100 * share)
            cases.append(seen(source, n, rng.normal(4 * ill, 1, 40), ill=ill))

    shift = measure_shift(cases, "ab", seed=3)

    assert shift.after.value < 0.3
    assert shift.cases == {"a": 40, "b": 40}
    assert shift.association["ill"] == pytest.approx(0.6, abs=0.01)
    assert not shift.risky


def test_a_label_that_tells_the_source_is_a_risk_of_shortcuts():
    cases = [seen(s, n, np.full(4, place * 5.0) + n % 3, ill=place)
             for place, s in enumerate("ab") for n in range(30)]  # fmt: skip

    shift = measure_shift(cases, "ab", seed=3)

    assert not shift.matched  # no label is in both
    assert shift.association["ill"] == pytest.approx(1.0, abs=0.02)
    assert shift.risky
    assert shift.as_dict()["shortcut_risk"] is True


def test_no_index_is_given_without_enough_cases_or_groups():
    few = measure_shift(sources(5.0, 0.0, number=4), "ab", seed=3).before
    one = [seen("a", n, [n, 1.0]) for n in range(9)]
    one += [seen("b", n, [n, 2.0], group="all:b") for n in range(9)]
    alone = measure_shift(sources(0.0, 0.0)[:60], "a", seed=3).before

    assert (few.value, few.reason[:38]) == (None, "too few cases with labels that all sou")
    grouped = measure_shift(one, "ab", seed=3).before
    assert (grouped.value, grouped.reason) == (
        None, "all cases of b are one group: they cannot be parted",
    )  # fmt: skip
    assert (alone.value, alone.reason) == (None, "one source only")


def test_pictures_of_one_person_are_never_on_both_sides():
    """Every person has a face of their own, and no source differs: faces must not tell it."""
    rng, features, named, groups = np.random.default_rng(8), [], [], []
    for person in range(40):
        face = rng.normal(0, 5, 40)
        for _ in range(4):
            features.append(face + rng.normal(0, 0.1, 40))
            named.append("ab"[person % 2])
            groups.append(f"p{person}")

    apart = shift_index(np.array(features), named, groups, seed=3)
    leaking = shift_index(np.array(features), named, [str(n) for n in range(160)], seed=3)

    assert leaking.value > 0.9
    assert apart.value < 0.4
    assert apart.p > 0.05


def test_p_is_uniform_where_nothing_differs():
    rng = np.random.default_rng(9)
    found = []
    for trial in range(60):
        named = ["a"] * 20 + ["b"] * 20
        groups = [str(n) for n in range(40)]
        found.append(shift_index(rng.normal(0, 1, (40, 8)), named, groups, trial).p)

    assert 0.35 < np.mean(found) < 0.75
    assert np.mean(np.array(found) <= 0.05) < 0.15


def test_cramers_v_of_known_tables():
    assert cramers_v(np.array([[50.0, 0], [0, 50]])) == pytest.approx(1, abs=0.01)
    assert cramers_v(np.array([[25.0, 25], [25, 25]])) == 0
    # phi2 = 0.36, corrected by 1/199: sqrt(0.354975 / (2 - 1/199 - 1)).
    assert cramers_v(np.array([[80.0, 20], [20, 80]])) == pytest.approx(
        ((0.36 - 1 / 199) / (1 - 1 / 199)) ** 0.5
    )
    assert cramers_v(np.array([[10.0, 0], [0, 0]])) is None
    assert cramers_v(np.array([[10.0, 0], [12, 0]])) is None  # a label that every case has


def test_matching_is_the_same_for_one_seed():
    cases = sources(1.0, 0.0)
    first = matched(cases, "ab", ["ill"], 3)

    assert first == matched(cases[::-1], "ab", ["ill"], 3)


def test_grey_and_coloured_pictures_are_seen_alike(tmp_path):
    rng, cases = np.random.default_rng(0), []
    for name, shape, channels in (("a-0", (24, 31), 1), ("b-0", (40, 20, 3), 3)):
        (tmp_path / name).mkdir()
        picture = rng.integers(0, 255, shape, dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / name / "image.png")
        cases.append(
            {
                "id": name,
                "source": name[0],
                "group": name,
                "shape": list(shape[:2]),
                "channels": channels,
                "files": [{"role": "image", "path": "image.png"}],
                "classes": {"ill": 1},
                "norm": {"method": "divide", "params": {"by": 255}},
                "intensity": np.linspace(0, 255, 25).tolist(),
            }
        )

    grey, coloured = seen_cases(cases, tmp_path, tmp_path, "classification", ["ill"])

    assert grey.before.shape == coloured.before.shape
    assert np.ptp(grey.before.reshape(-1, 3), axis=1).max() == 0
