"""More like this: rare concepts count most, families stay out, overlaps are told."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from catalog.search.similar import Neighbours
from tests.factories import make_facts

MR_BRAIN = {"modalities": ["MR"], "anatomies": ["Brain"]}


def slugs(found):
    return [one.slug for one in found]


@pytest.fixture(scope="module")
def known(shipped):
    return Neighbours(shipped.values())


def test_a_rare_concept_in_common_counts_more_than_a_frequent_one():
    many = [make_facts(f"brain-{n}", **MR_BRAIN, tasks=["Segmentation"]) for n in range(20)]
    asked = make_facts("asked", **MR_BRAIN, tasks=["Segmentation"], diseases=["Glioma"])
    rare = make_facts("zz-rare", **MR_BRAIN, diseases=["Glioma"])

    found = Neighbours([*many, asked, rare]).of("asked")

    assert found[0].slug == "zz-rare"
    assert (found[0].shared[0].term, found[0].shared[0].datasets) == ("Glioma", 2)
    assert found[0].why.startswith("disease Glioma")


def test_a_collection_of_everything_is_less_like_one_thing_than_its_equal():
    everything = make_facts(
        "all-in-one",
        modalities=["CT", "MR", "Ultrasound", "X-ray", "OCT"],
        anatomies=["Liver", "Brain", "Retina", "Chest"],
        tasks=["Segmentation", "Classification"],
    )
    asked, equal = (
        make_facts(slug, modalities=["CT"], anatomies=["Liver"], tasks=["Segmentation"])
        for slug in ("asked", "equal")
    )

    first, second = Neighbours([everything, asked, equal]).of("asked")

    assert (first.slug, second.slug) == ("equal", "all-in-one")
    assert second.score < first.score == pytest.approx(1)


def test_a_shared_parent_is_a_reason_and_weaker_than_the_same_organ():
    asked = make_facts("asked", modalities=["CT"], anatomies=["Lung"])
    same = make_facts("same", modalities=["CT"], anatomies=["Lung"])
    sibling = make_facts("sibling", modalities=["CT"], anatomies=["Heart"])
    stranger = make_facts("stranger", modalities=["CT"], anatomies=["Retina"])

    found = Neighbours([asked, same, sibling, stranger]).of("asked")

    assert slugs(found) == ["same", "sibling", "stranger"]
    assert "anatomy Chest" in found[1].why
    assert "Chest" not in found[0].why


def test_the_own_family_is_left_out_and_listed_apart():
    rows = [
        make_facts("series-1", family="Series", **MR_BRAIN),
        make_facts("series-2", family="Series", **MR_BRAIN),
        make_facts("other", **MR_BRAIN),
    ]
    known = Neighbours(rows)

    assert slugs(known.of("series-1")) == ["other"]
    assert known.family("series-1") == ("series-2",)


def test_a_dataset_with_the_same_people_is_marked():
    relation = {"to": "parent", "kind": "subset", "evidence": "its paper", "trust": "read"}
    rows = [
        make_facts("child", relations=[relation], **MR_BRAIN),
        make_facts("parent", **MR_BRAIN),
        make_facts("other", **MR_BRAIN),
    ]

    overlaps = {one.slug: one.overlap for one in Neighbours(rows).of("child")}

    assert overlaps["parent"].certainty == "certain"
    assert overlaps["other"] is None


def test_nothing_is_like_a_dataset_of_which_nothing_is_known():
    rows = [make_facts("bare", name="Bare words"), make_facts("other", name="Other words")]

    assert Neighbours(rows).of("bare") == ()
    assert Neighbours(rows).of("came-later") == ()


def test_of_equals_the_one_nearest_in_years_comes_first_whatever_the_order_given():
    years = {"a-1999": 1999, "b-2019": 2019, "c-unknown": None, "d-2021": 2021, "asked": 2020}
    rows = [make_facts(s, **MR_BRAIN, **({"year": y} if y else {})) for s, y in years.items()]
    expected = ["b-2019", "d-2021", "a-1999", "c-unknown"]

    assert slugs(Neighbours(rows).of("asked")) == expected
    assert slugs(Neighbours(reversed(rows)).of("asked")) == expected


@pytest.mark.parametrize(
    ("slug", "expected"),
    [
        ("lidc-idri", "luna16"),
        ("kits19", "kipa22"),
        ("chexpert", "padchest"),
        ("breakhis", "bracs"),
        ("refuge", "papila"),
    ],
)
def test_known_alternatives_are_found_in_the_shipped_catalog(known, slug, expected):
    assert expected in slugs(known.of(slug))


@pytest.mark.alone
def test_every_shipped_dataset_gets_its_likes_at_once(known, shipped):
    start = time.perf_counter()
    found = {slug: known.of(slug) for slug in shipped}
    seconds = time.perf_counter() - start

    assert seconds / len(found) < 0.02
    for slug, likes in found.items():
        families = {shipped[one.slug]["family"] for one in likes} - {None}
        assert shipped[slug]["family"] not in families
        assert slug not in slugs(likes)
        assert all(one.shared for one in likes)
        assert all(0 < one.score <= 1 for one in likes)
        assert all(a.score >= b.score for a, b in pairwise(likes))
