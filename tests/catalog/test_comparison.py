"""Side by side: what differs, what is unknown, what all share, and what their licences allow."""

from __future__ import annotations

import pytest

from catalog.comparison import FIELDS, compare
from catalog.overlaps import OverlapGraph
from tests.factories import make_facts

LUNG = {"modalities": ["CT"], "anatomies": ["Lung"], "dimensions": ["3D"]}


def rows(*facts, relations=None):
    found = compare(facts, OverlapGraph(relations or {}))
    return {row.field: row for row in found.rows}, found


def test_every_field_says_whether_it_is_the_same_differs_or_is_unknown():
    field, _ = rows(
        make_facts("one", year=2011, tasks=["Segmentation"], access="open", **LUNG),
        make_facts("two", year=2016, tasks=["Segmentation"], **LUNG),
        make_facts("three", tasks=["Segmentation"], access="open", **LUNG),
    )

    assert list(field) == list(FIELDS)
    assert field["year"].state == "differs"
    assert field["year"].values == (2011, 2016, None)
    assert field["year"].unknown == (False, False, True)
    assert field["tasks"].state == "same"
    assert field["access"].state == "partly unknown"
    assert field["doi"].state == "unknown"


def test_the_order_of_a_list_is_no_difference_and_what_every_list_holds_is_told():
    field, _ = rows(
        make_facts("one", tasks=["Detection", "Segmentation"], anatomies=["Lung", "Heart"]),
        make_facts("two", tasks=["Segmentation", "Detection"], anatomies=["Heart", "Liver"]),
        make_facts("three", tasks=["Segmentation", "Detection"]),
    )

    assert field["tasks"].state == "same"
    assert field["anatomies"].state == "differs"
    assert field["anatomies"].shared == ("Heart",)


def test_no_disease_is_a_value_and_differs_from_one():
    field, _ = rows(
        make_facts("healthy", diseases=[]),
        make_facts("ill", diseases=["Glaucoma"]),
        make_facts("silent"),
    )

    assert field["diseases"].state == "differs"
    assert field["diseases"].unknown == (False, False, True)


def test_a_voxel_size_compares_in_its_order():
    field, _ = rows(
        make_facts("one", spacing={"median_mm": [1.0, 1.0, 3.0]}),
        make_facts("two", spacing={"median_mm": [3.0, 1.0, 1.0]}),
    )

    assert field["spacing"].state == "differs"


def test_equal_numbers_in_other_words_or_from_another_source_do_not_differ():
    def counted(source, raw, number=20):
        return [{"number": number, "unit": "image", "source": source, "raw": raw}]

    field, _ = rows(
        make_facts("one", counts=counted("curation", "twenty")),
        make_facts("two", counts=counted("project-imaging-x", "20 images")),
    )
    other, _ = rows(
        make_facts("one", counts=counted("curation", None)),
        make_facts("two", counts=counted("curation", None, 21)),
    )

    assert field["counts"].state == "same"
    assert other["counts"].state == "differs"


def test_a_field_on_which_the_sources_of_one_dataset_disagree_is_marked_there():
    claims = {
        "year": [
            {"value": 2011, "source": "project-imaging-x"},
            {"value": 2012, "source": "openmedlab"},
        ]
    }
    field, _ = rows(make_facts("one", claims), make_facts("two", year=2011))

    assert field["year"].conflicts == (True, False)
    assert field["tasks"].conflicts == (False, False)


def test_shared_concepts_are_the_narrowest_that_hold_for_all():
    _, found = rows(
        make_facts("one", anatomies=["Lung"], modalities=["CBCT"], diseases=["Glioma"]),
        make_facts("two", anatomies=["Heart", "Liver"], modalities=["CT"]),
    )

    assert found.concepts["anatomy"] == ("Chest",)
    assert found.concepts["modality"] == ("CT",)
    assert found.concepts["disease"] == ()


def test_images_that_cannot_be_fused_share_no_family_of_modality():
    _, cone = rows(make_facts("one", modalities=["CBCT"]), make_facts("two", modalities=["CT"]))
    _, both = rows(
        make_facts("one", modalities=["CT", "PET"]), make_facts("two", modalities=["CT"])
    )

    assert cone.families_of_modality == ()
    assert both.families_of_modality == ("CT",)


@pytest.mark.parametrize(
    ("licences", "commercial", "one_file", "unknown"),
    [
        (("CC-BY-4.0", "CC0-1.0"), True, True, ()),
        (("CC-BY-4.0", "CC-BY-NC-4.0"), False, True, ()),
        (("CC-BY-SA-4.0", "CC-BY-NC-4.0"), False, False, ()),
        (("CC-BY-4.0", None), False, False, ("two",)),
    ],
)
def test_the_licence_of_all_allows_what_every_one_allows(licences, commercial, one_file, unknown):
    one, two = ({"licence": name} if name else {} for name in licences)
    _, found = rows(make_facts("one", **one), make_facts("two", **two))

    assert found.licence.commercial is commercial
    assert found.licence.one_file is one_file
    assert found.licence_unknown == unknown
    assert found.as_dict()["licence"]["ids"] == sorted(name for name in licences if name)


def test_the_licence_of_the_labels_counts_too():
    _, found = rows(
        make_facts("one", licence="CC-BY-4.0", licence_labels="CC-BY-NC-4.0"),
        make_facts("two", licence="CC-BY-4.0"),
    )

    assert not found.licence.commercial


def test_people_in_two_of_them_and_versions_of_one_work_are_told():
    relation = {"to": "two", "kind": "subset", "evidence": "its paper", "trust": "read"}
    _, found = rows(
        make_facts("one", family="Series"),
        make_facts("two"),
        make_facts("three", family="Series"),
        relations={"one": [relation]},
    )

    assert [(o.a, o.b, o.certainty) for o in found.overlaps] == [("one", "two", "certain")]
    assert [(f.name, f.slugs) for f in found.families] == [("Series", ("one", "three"))]
