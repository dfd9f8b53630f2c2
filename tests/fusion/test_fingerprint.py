"""What files hold, measured another way, and what is said when they differ from what was stated."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.fingerprint import (
    LEVELS,
    compatibility,
    differences,
    facts,
    fingerprint,
    quantiles,
    volumes,
)
from fusion.imaging.volume import Picture, Volume
from tests.imaging.make import placed

CATALOG = {
    "modalities": ["MR"], "modality_details": [], "anatomies": ["Brain"], "dimensions": ["3D"],
    "classes": [], "spacing": None, "counts": [], "annotation": None,
}  # fmt: skip


def made_source(**changes) -> dict:
    description = {
        "modality": "MR", "family": "MR", "dimension": "3D", "annotation": "manual",
        "cases": {"subject": "{name}", "split": {}},
    } | changes.pop("description", {})  # fmt: skip
    return {
        "id": "one",
        "dataset": "one",
        "catalog": CATALOG | changes.pop("catalog", {}),
        "annotated": ["hippocampus"],
        "description": description,
    } | changes


def made_case(image: Volume | Picture, **changes) -> dict:
    found = facts(image)
    return {
        **found, "original": found, "subject": "a", "annotated": ["hippocampus"],
        "present": {"hippocampus": 10}, "classes": None, "official_split": None,
    } | changes  # fmt: skip


def scan(low=0, high=900, codes="RAS", spacing=(1.0, 1.5, 3.0), shape=(7, 9, 5)) -> Volume:
    array = np.linspace(low, high, int(np.prod(shape))).reshape(shape)
    return Volume(array.astype(np.float32), placed(shape, spacing, codes))


def said(source: dict, cases: list[dict], found: int | None = None) -> dict[str, str]:
    shown = fingerprint(source, cases, len(cases) if found is None else found)
    return {row["code"]: row["detail"] for row in differences(source, shown, cases)}


@pytest.mark.parametrize("kind", ["uint8", "int16", "float32"])
def test_quantiles_are_those_of_the_whole_image_with_exact_ends(kind):
    values = np.random.default_rng(3).gamma(2.0, 30.0, (64, 96, 128))
    values = values.clip(0, 250).astype(kind)
    values[3, 4, 5], values[60, 1, 2] = 0, 254

    found = quantiles(np.asfortranarray(values))

    expected = np.quantile(values, np.linspace(0, 1, LEVELS))
    assert len(found) == LEVELS
    assert (found[0], found[-1]) == (0, 254)
    assert np.abs(np.array(found[5:-5]) - expected[5:-5]).max() < 2


def test_the_sample_does_not_follow_one_column_or_channel():
    picture = np.zeros((1024, 1024, 3), np.uint8)
    picture[..., 1], picture[..., 2] = 100, 200
    picture[:, ::2] += 50

    found = np.array(quantiles(picture))

    for value in (0, 50, 100, 150, 200, 250):
        assert np.mean(found == value) == pytest.approx(1 / 6, abs=0.02)


def test_spacing_and_size_are_told_per_anatomical_axis_whatever_the_order_of_the_file():
    rows = [
        made_case(scan(codes="PSR", spacing=(3.0, 2.0, 1.0), shape=(9, 5, 7))),
        made_case(scan(codes="LAS", spacing=(1.0, 5.0, 2.0))),
    ]

    before = fingerprint(made_source(), rows, 2)["before"]

    assert before["spacing_mm"] == {"min": [1, 3, 2], "median": [1, 4, 2], "max": [1, 5, 2]}
    assert before["size"]["median"] == [7, 9, 5]
    assert before["orientation"] == {"LAS": 1, "PSR": 1}


def test_volumes_are_in_cubic_millimetres_and_only_of_what_was_looked_for():
    case = made_case(scan(), present={"hippocampus": 10, "brain": 4})

    assert volumes(case) == {"hippocampus": 45.0}


def test_files_of_another_dimension_than_the_catalog_states_are_a_finding():
    flat = made_case(Picture(np.arange(99, dtype=np.uint8).reshape(9, 11)))

    found = said(made_source(description={"dimension": "2D"}), [flat])

    assert "the catalog says 3D, the files are 2D" in found["catalog_differs"]


def test_another_number_of_files_than_the_catalog_counts_is_a_finding():
    counts = [
        {"number": 100, "unit": "volume", "what": None, "split": None},
        {"number": 70, "unit": "volume", "what": None, "split": "train"},
    ]
    source = made_source(catalog={"counts": counts})

    assert (
        "counts 100 volumes, the files show 44"
        in (said(source, [made_case(scan())], 44)["catalog_differs"])
    )
    assert said(source, [made_case(scan())], 100) == {}


def test_another_voxel_size_than_the_catalog_states_is_a_finding():
    stated = {"min_mm": None, "median_mm": [1.0, 1.0, 1.0], "max_mm": None}
    source = made_source(catalog={"spacing": stated})

    found = said(source, [made_case(scan(spacing=(3.0, 3.0, 3.0)))])

    assert "1 x 1 x 1 mm, the files' 3 x 3 x 3 mm" in found["catalog_differs"]
    assert said(source, [made_case(scan(spacing=(1.0, 1.05, 0.95)))]) == {}


def test_a_ct_without_values_below_zero_is_a_finding():
    ct = made_source(description={"modality": "CT", "family": "CT"})

    assert "no value below 0" in said(ct, [made_case(scan(0, 255))])["fingerprint_differs"]
    assert said(ct, [made_case(scan(-1000, 800))]) == {}


def test_an_mr_with_negative_values_looks_normalised():
    found = said(made_source(), [made_case(scan(-2, 3)), made_case(scan())])

    assert "1 of 2 cases hold values below 0 (from -2)" in found["fingerprint_differs"]


def test_a_concept_that_no_case_shows_and_grey_colour_images_are_findings():
    source = made_source(description={"family": "Fundus photography", "dimension": "2D"})
    grey = made_case(
        Picture(np.arange(99, dtype=np.uint8).reshape(9, 11)), present={"hippocampus": 0}
    )

    details = [
        row["detail"]
        for row in differences(source, fingerprint(source, [grey], 1), [grey])
        if row["code"] == "fingerprint_differs"
    ]

    assert any("1 of 1 images are grey" in detail for detail in details)
    assert any("Hippocampus, no case shows it" in detail for detail in details)


def test_a_label_value_that_is_mapped_and_never_occurs_is_a_finding():
    values = {"0": "background", "1": "hippocampus_left", "5-6": "hippocampus_right"}
    layer = {"path": "x.nii.gz", "kind": "label_map", "values": values}
    source = made_source(description={"layers": [layer]})
    cases = [made_case(scan(), label_values=[0, 1]), made_case(scan(), label_values=[0, 1, 6])]

    shown = fingerprint(source, cases, 2)

    assert shown["label_values"] == {"0": 2, "1": 2, "6": 1}
    assert said(source, cases)["fingerprint_differs"].endswith("occur in no case: 5")


def test_the_fit_is_recomputed_from_what_was_measured():
    sources = [made_source(), made_source(id="two")]
    cases = [[made_case(scan())], [made_case(scan(spacing=(2.0, 3.0, 6.0)))]]
    shown = [fingerprint(s, rows, 1) for s, rows in zip(sources, cases, strict=True)]

    fit = compatibility(sources, shown, [])

    assert fit["parts"]["geometry"]["value"] == 0.5  # each axis is twice as large
    assert fit["parts"]["labels"]["value"] == 1.0
    assert fit["C"] == pytest.approx(0.9)  # nobody tells who scanned
    weights = {"modality": 0.5, "anatomy": 1, "labels": 1, "geometry": 0.5, "population": 1}
    known = {"modality": 0.2, "anatomy": 0.15, "labels": 0.25, "geometry": 0.1, "population": 0.1}
    by_hand = (sum(known[k] * weights[k] for k in known) + 0.1) / 0.9
    assert fit["S"] == pytest.approx(by_hand, abs=1e-4)
    assert fit["catalog"]["S"] != fit["S"]


def test_one_source_has_no_fit():
    source = made_source()

    fit = compatibility([source], [fingerprint(source, [made_case(scan())], 1)], [])

    assert (fit["S"], fit["C"], fit["pairs"]) == (None, None, [])
