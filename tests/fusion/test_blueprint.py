"""The blueprint: each rule blocks what it must, unknown never passes, scores are what they say."""

from __future__ import annotations

import math

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from catalog.overlaps import OverlapGraph
from fusion.alignment import align, concepts_of, map_class
from fusion.blueprint import TITLES, Choice, draw
from fusion.compatibility import WEIGHTS, band, likeness, score
from fusion.partners import Goal, Partners
from tests.factories import make_facts

CT = {"modalities": ["CT"], "anatomies": ["Liver"], "tasks": ["Segmentation"], "dimensions": ["3D"]}
OPEN = {"licence": "CC-BY-4.0"}


def facts(slug, **fields):
    return make_facts(slug, **{**CT, **OPEN, **fields})


def drawn(*datasets, relations=None, **choice):
    return draw(datasets, OverlapGraph(relations or {}), Choice(**choice))


def verdict(blueprint, code):
    return {rule.code: rule.verdict for rule in blueprint.rules}[code]


def rule(blueprint, code):
    return next(one for one in blueprint.rules if one.code == code)


def test_every_rule_is_asked_and_says_what_it_saw():
    found = drawn(facts("one"), facts("two"))

    assert [one.code for one in found.rules] == list(TITLES)
    for one in found.rules:
        assert one.detail
    assert rule(found, "E02").seen == {"one": "3D", "two": "3D"}
    assert found.blocked == ()


@pytest.mark.parametrize(
    ("code", "field", "value"),
    [
        ("E02", "dimensions", ["2D"]),
        ("E02", "dimensions", []),
        ("E03", "modalities", ["MR"]),
        ("E03", "modalities", ["CBCT"]),
        ("E04", "tasks", ["Registration"]),
        ("E04", "tasks", []),
    ],
)
def test_what_differs_or_is_unknown_blocks(code, field, value):
    found = drawn(facts("one"), facts("two", **{field: value}))

    assert [one.code for one in found.blocked] == [code]
    assert "two" in rule(found, code).seen


def test_a_mask_serves_detection_and_classification_but_not_the_other_way():
    masks, classes = facts("masks"), facts("classes", tasks=["Classification"])

    assert drawn(masks, classes).tasks == ("Classification",)
    assert verdict(drawn(masks, classes), "E04") == "pass"
    wanted = drawn(masks, classes, task="Segmentation")
    assert "Segmentation is not in common" in rule(wanted, "E04").detail


def test_left_and_right_meet_in_the_organ_and_a_lesion_does_not():
    found = align(
        {"sides": ["kidney_left", "kidney_right", "Liver"], "whole": ["Kidney", "kidney tumour"]}
    )

    assert [one.concept for one in found.common] == ["kidney"]
    assert found.common[0].classes["sides"] == ("kidney_left", "kidney_right")
    assert found.lost == {"sides": ("Liver",), "whole": ("kidney tumour",)}


def test_a_class_that_only_looks_like_a_concept_is_proposed_and_counts_for_nothing():
    near = map_class("Spleeen")

    assert (near.how, near.concept) == ("proposed", "spleen")
    assert 80 < near.score < 100
    assert concepts_of(["Spleeen", "liver"]) == {"liver"}
    assert map_class("C7_xyz").concept is None


def test_a_likeness_is_no_proposal_where_one_denies_the_other_or_is_a_short_form():
    assert [map_class(word).how for word in ("No Pneumothorax", "Abnormal", "Mild")] == [
        "unmapped"
    ] * 3


def test_what_would_meet_if_it_were_confirmed_is_said():
    found = drawn(facts("one", classes=["spleen"]), facts("two", classes=["Spleeen", "q17"]))

    assert found.alignment.common == ()
    assert [one.concept for one in found.alignment.proposed] == ["spleen"]
    assert found.as_dict()["alignment"]["proposed"][0]["concept"] == "spleen"
    assert verdict(found, "E05") == "unknown"
    assert rule(found, "E05").detail == (
        "no concept in common yet; these would meet if confirmed: Spleen (two: Spleeen); "
        "classes not understood: 2 of two"
    )


def test_what_meets_already_needs_no_confirmation():
    one = facts("one", classes=["spleen", "liver"])
    found = drawn(one, facts("two", classes=["spleen", "Spleeen", "Liverr"]))

    assert [meeting.concept for meeting in found.alignment.proposed] == ["liver"]
    assert rule(found, "E05").detail.startswith(
        "Spleen; would meet, too, if confirmed: Liver (two: Liverr)"
    )
    assert drawn(one, one | {"slug": "three"}).alignment.proposed == ()


def test_labels_block_only_when_every_class_is_understood():
    one = facts("one", classes=["liver"])

    assert verdict(drawn(one, facts("two", classes=["spleen"])), "E05") == "block"
    assert verdict(drawn(one, facts("two", classes=["spleen"]), mode="union"), "E05") == "pass"
    assert verdict(drawn(one, facts("two", classes=["q17"])), "E05") == "unknown"
    assert verdict(drawn(one, facts("two")), "E05") == "unknown"


def test_shared_people_block_and_a_common_origin_is_watched():
    edge = [{"to": "mother", "kind": "subset", "evidence": "its page", "trust": "read"}]
    direct = drawn(facts("mother"), facts("child"), relations={"child": edge})
    sisters = drawn(facts("child"), facts("sister"), relations={"child": edge, "sister": edge})

    assert verdict(direct, "E07") == "block"
    assert "its page" in str(rule(direct, "E07").seen)
    assert verdict(sisters, "E07") == "warn"
    assert sisters.overlaps[0].path == ("child", "mother", "sister")


@pytest.mark.parametrize(
    ("licence", "profile", "e08", "e09"),
    [
        ("CC-BY-4.0", "canonical", "pass", "pass"),
        ("CC-BY-ND-4.0", "canonical", "pass", "recipe only"),
        ("CC-BY-ND-4.0", "native", "pass", "pass"),
        ("LicenseRef-OASIS-DUA", "canonical", "pass", "recipe only"),
        (None, "canonical", "unknown", "recipe only"),
    ],
)
def test_a_licence_decides_what_may_be_built(licence, profile, e08, e09):
    found = drawn(facts("one"), facts("two", licence=licence), profile=profile)

    assert (verdict(found, "E08"), verdict(found, "E09")) == (e08, e09)


def test_a_class_of_one_source_alone_blocks_classification_unless_accepted():
    pair = (
        facts("one", tasks=["Classification"], classes=["liver", "spleen"]),
        facts("two", tasks=["Classification"], classes=["liver"]),
    )

    assert verdict(drawn(*pair), "E10") == "block"
    assert "Spleen (one)" in rule(drawn(*pair), "E10").detail
    assert verdict(drawn(*pair, accept_confounding=True), "E10") == "warn"


def test_labels_made_by_a_model_are_said():
    found = drawn(facts("one", annotation="manual"), facts("two", annotation="pseudo"))

    assert verdict(found, "E13") == "warn"
    assert "training alone" in rule(found, "E13").detail


def test_the_score_is_the_weighted_mean_of_what_is_known():
    a = facts("a", classes=["liver"], annotation="manual", spacing={"median_mm": [1.0, 1.0, 2.0]})
    b = facts("b", classes=["liver"], annotation="corrected",
              spacing={"median_mm": [4.0, 1.0, 1.0]})  # fmt: skip
    found = score(a, b)
    parts = {part.name: part.value for part in found.parts}

    geometry = math.exp(-math.log(2) / 3)
    assert parts["geometry"] == pytest.approx(geometry, abs=1e-4)  # axes in another order
    assert parts == {
        "modality": 0.5, "anatomy": 1.0, "labels": 1.0, "geometry": parts["geometry"],
        "acquisition": None, "population": None, "annotation": 0.7,
    }  # fmt: skip
    total = 0.2 * 0.5 + 0.15 + 0.25 + 0.1 * geometry + 0.1 * 0.7
    assert found.known == pytest.approx(0.8)
    assert found.value == pytest.approx(total / 0.8, abs=1e-4)
    assert found.band == "recommended"


def test_unknown_is_left_out_of_the_score_and_no_zero():
    bare = {"modalities": ["CT"], "tasks": ["Segmentation"], "dimensions": ["3D"]}
    found = score(make_facts("a", **bare), make_facts("b", **bare))

    assert (found.value, found.known) == (0.5, 0.2)
    assert found.band == "not enough metadata"


@pytest.mark.parametrize(
    ("value", "known", "expected"),
    [
        (0.70, 0.60, "recommended"),
        (0.70, 0.59, "possible"),
        (0.40, 0.40, "possible"),
        (0.39, 0.80, "unlikely"),
        (1.00, 0.39, "not enough metadata"),
        (None, 0.0, "not enough metadata"),
    ],
)
def test_bands_begin_where_they_say(value, known, expected):
    assert band(value, known) == expected


CONCEPTS = st.sets(
    st.sampled_from(["kidney", "kidney_left", "liver", "spleen", "lung"]), min_size=1
)


@given(CONCEPTS, CONCEPTS)
def test_likeness_of_labels_is_symmetric_and_one_for_the_same(one, other):
    assert likeness(one, other) == likeness(other, one)
    assert likeness(one, one) == 1.0
    assert 0.0 <= likeness(one, other) <= 1.0


def test_the_weights_make_one():
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert settings.COMPATIBILITY_WEIGHTS == WEIGHTS


def test_expected_cases_come_from_counts_of_the_whole_in_a_fitting_unit():
    counts = [
        {"number": 90, "unit": "volume", "source": "curation"},
        {"number": 70, "unit": "volume", "split": "train", "source": "curation"},
        {"number": 9000, "unit": "image", "source": "curation"},
    ]
    found = drawn(facts("one", counts=counts), facts("two"))

    assert [one.cases for one in found.sources] == [90, None]
    assert found.splits == {"train": 63, "val": 9, "test": 18}
    assert found.as_dict()["expected"]["cases_unknown"] == ["two"]


def test_one_dataset_or_one_twice_is_no_blueprint():
    with pytest.raises(ValueError, match="expected 2 to 6"):
        drawn(facts("one"))
    with pytest.raises(ValueError, match="found one, one"):
        drawn(facts("one"), facts("one"))


def prepared(*rows, relations=None):
    return Partners([{"quality": 50, **one} for one in rows], OverlapGraph(relations or {}))


def test_partners_are_ranked_and_the_others_counted_by_rule():
    found = prepared(
        facts("own", classes=["liver"]),
        facts("alike", classes=["liver"]),
        facts("less", anatomies=["Brain"]),
        facts("flat", dimensions=["2D"]),
        facts("silent", tasks=[]),
    ).of("own")

    assert [one.slug for one in found.partners] == ["alike", "less"]
    assert found.blocked == {"E02": 1, "E04": 1}
    assert "both Liver" in found.partners[0].why


def test_a_goal_gets_datasets_that_all_fit_each_other():
    labels = {"classes": ["liver"], "annotation": "manual"}
    known = prepared(
        *(facts(slug, **labels) for slug in ("a", "b", "c")),
        facts("bones", anatomies=["Bone"]),
        facts("copy", **labels),
        relations={"copy": [{"to": "a", "kind": "subset", "evidence": "x", "trust": "read"}]},
    )
    found = known.for_goal(Goal("CT", "Abdomen", "Segmentation"))

    assert len(found.slugs) == 3
    assert not {"a", "copy"} <= set(found.slugs)
    assert "bones" not in found.pool
    assert known.for_goal(Goal("MR", "Abdomen", "Segmentation")).slugs == ()


def test_all_pairs_of_the_shipped_catalog_agree_with_their_blueprints(shipped):
    graph = OverlapGraph({slug: one["relations"] for slug, one in shipped.items()})
    known = Partners([{**one, "quality": 50} for one in shipped.values()], graph)
    pairs = list(known.pairs())

    assert len(pairs) > 10_000
    for one in pairs[:: len(pairs) // 100]:
        found = draw([shipped[one.a], shipped[one.b]], graph, Choice(mode="union"))
        assert {rule.code for rule in found.blocked} <= {"E05", "E10"}
        assert (found.value, found.known) == (one.value, one.known)
