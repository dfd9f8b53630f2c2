"""What the report calls a shift or an outlier."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.fingerprint import quantiles
from fusion.report import measure


def made_case(
    name: str, voxels: int, scale: float = 1.0, spacing=(1.0, 1.0, 1.0), **changes
) -> dict:
    levels = quantiles(np.linspace(0, 100 * scale, 500))
    return {
        "id": f"one__{name}", "source": "one", "name": name, "shape": [40, 50, 60],
        "spacing_mm": list(spacing), "axcodes": "RAS", "intensity": levels, "flags": [],
        "annotated": ["liver"], "present": {"liver": voxels}, "norm": None,
    } | changes  # fmt: skip


def cases(sizes, **changes) -> list[dict]:
    return [made_case(f"{n}", int(size), **changes) for n, size in enumerate(sizes)]


def test_sources_whose_labels_are_twice_as_large_are_shifted():
    rng = np.random.default_rng(1)
    one, other = cases(rng.normal(1000, 90, 30)), cases(rng.normal(2000, 90, 30))

    (row,) = measure.label_shifts({"a": one, "b": other}, ["liver"])

    assert row["shifted"]
    assert row["ks"] == 1
    assert measure.label_shifts({"a": one, "b": one[::-1]}, ["liver"])[0]["ks"] == 0


def test_a_single_case_is_a_shift_only_when_chance_does_not_explain_it():
    many = cases(range(1000, 1100))

    inside = measure.label_shifts({"a": many, "b": cases([1050])}, ["liver"])[0]
    beyond = measure.label_shifts({"a": many, "b": cases([3000])}, ["liver"])[0]
    lone = measure.label_shifts({"a": cases([1]), "b": cases([9000])}, ["liver"])[0]

    assert (inside["shifted"], beyond["shifted"], lone["shifted"]) == (False, True, False)


def test_other_voxel_sizes_do_not_look_like_other_organs():
    fine = cases(range(8000, 8800, 20), spacing=(1.0, 1.0, 1.0))
    coarse = cases(range(1000, 1100, 3), spacing=(2.0, 2.0, 2.0))

    assert not measure.label_shifts({"a": fine, "b": coarse}, ["liver"])[0]["shifted"]


def test_pictures_are_compared_by_share_not_by_pixels():
    def flat(side: int) -> list[dict]:
        return [
            made_case(
                f"{n}", side * side // 10 + n, shape=[side, side], spacing_mm=None, axcodes=None
            )
            for n in range(9)
        ]

    row = measure.label_shifts({"a": flat(100), "b": flat(1000)}, ["liver"])[0]

    assert row["medians"] == pytest.approx([0.1, 0.1], abs=0.01)


@pytest.mark.parametrize(
    ("odd", "code"),
    [
        ({"voxels": 9000}, "volume_outlier"),
        ({"voxels": 1005, "scale": 1000.0}, "intensity_outlier"),
        ({"voxels": 1005, "spacing": (1.0, 1.0, 5.0)}, "geometry_outlier"),
    ],
)
def test_a_case_far_from_the_others_is_an_outlier_of_its_kind(odd, code):
    rows = [*cases(range(1000, 1010)), made_case("odd", **odd)]

    assert measure.outliers({"one": rows})[0]["name"] == "odd"
    assert measure.outliers({"one": rows})[0]["code"] == code


def test_cases_that_hardly_differ_have_no_outlier():
    rows = [*cases([1000] * 20), made_case("other", 1010)]

    assert measure.outliers({"one": rows}) == []
    assert measure.outliers({"one": cases([1, 10, 100, 10_000])}) == [], "four cases tell nothing"


def test_no_kind_of_outlier_crowds_out_another():
    bright = [made_case(f"b{n}", 1000, scale=1000.0 + n) for n in range(25)]
    rows = [*cases([1000] * 60), *bright, made_case("large", 5000)]

    found = measure.outliers({"one": rows})

    assert len(found) == measure.MOST_OUTLIERS
    assert "large" in {row["name"] for row in found}


def test_the_mixture_of_quantiles_is_the_histogram_of_the_images():
    rng = np.random.default_rng(2)
    images = [rng.normal(50, 9, 40_000), np.where(rng.random(40_000) < 0.4, 0.0, 80.0)]
    edges = np.linspace(-0.5, 99.5, 21)

    found = measure.mixed([quantiles(image) for image in images], edges)

    expected = np.mean([np.histogram(i, edges)[0] / len(i) for i in images], axis=0)
    assert found.sum() == pytest.approx(1)
    assert np.abs(found - expected).max() < 0.01


def test_the_sample_is_the_same_whatever_the_order():
    rows = cases(range(100))

    assert measure.chosen(rows, 5) == measure.chosen(rows[::-1], 5)
    assert len(measure.chosen(rows[:3], 5)) == 3


def test_normalised_quantiles_follow_the_manifest():
    params = {"low": 10.0, "high": 90.0, "mean": 50.0, "std": 20.0}
    scaled = measure.normalised(made_case("a", 1, norm={"params": params}))

    assert (scaled[0], scaled[100], scaled[-1]) == (-2.0, pytest.approx(0, abs=0.01), 2.0)
    assert measure.normalised(made_case("a", 1, norm={"params": {"by": 50}}))[-1] == 2.0
    channels = {"method": "per_channel", "params": [{"params": {"by": 25}}, {"params": None}]}
    assert measure.normalised(made_case("a", 1, norm=channels))[-1] == 4.0
    assert measure.normalised(made_case("a", 1)) is None
