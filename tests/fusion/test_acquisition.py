"""How datasets are got: the plan of each record of the shipped catalog."""

from __future__ import annotations

import pytest

from fusion.acquisition import count_by_connector, narrowed, plan_of, timed
from fusion.errors import BuildError
from fusion.locations import place_of
from fusion.sources.idc import collection_ids, collections
from tests.factories import make_facts


def link(url: str, kind: str = "official") -> dict:
    return {"url": url, "kind": kind, "source": "curation", "issue": None}


@pytest.mark.parametrize(
    ("url", "location", "to_pin"),
    [
        ("https://zenodo.org/records/42", {"kind": "zenodo", "record": 42}, ()),
        ("https://zenodo.org/record/42#.X", {"kind": "zenodo", "record": 42}, ()),
        ("https://doi.org/10.5281/zenodo.42", {"kind": "zenodo", "record": 42}, ()),
        (
            "https://huggingface.co/datasets/some/set/tree/main",
            {"kind": "huggingface", "repo_id": "some/set"},
            ("revision",),
        ),
        (
            "https://openneuro.org/datasets/ds000001/versions/1.0.0",
            {"kind": "openneuro", "dataset": "ds000001"},
            (),
        ),
        (
            "https://figshare.com/articles/dataset/A_name/7/2",
            {"kind": "figshare", "article": 7, "version": 2},
            (),
        ),
        (
            "https://plos.figshare.com/articles/dataset/2_names/7",
            {"kind": "figshare", "article": 7},
            ("version",),
        ),
        (
            "https://doi.org/10.6084/m9.figshare.7.v3",
            {"kind": "figshare", "article": 7, "version": 3},
            (),
        ),
        (
            "https://data.mendeley.com/datasets/3ksd7w7jkx/2",
            {"kind": "mendeley", "dataset": "3ksd7w7jkx", "version": 2},
            (),
        ),
        (
            "https://doi.org/10.17632/3ksd7w7jkx",
            {"kind": "mendeley", "dataset": "3ksd7w7jkx"},
            ("version",),
        ),
        (
            "https://www.kaggle.com/datasets/a/b",
            {"kind": "kaggle", "dataset": "a/b"},
            ("version",),
        ),
        (
            "https://www.kaggle.com/a/b/versions/3",
            {"kind": "kaggle", "dataset": "a/b", "version": 3},
            (),
        ),
        (
            "https://www.synapse.org/#!Synapse:syn27618412/wiki/616881",
            {"kind": "synapse", "entity": "syn27618412"},
            (),
        ),
        (
            "https://physionet.org/content/ct-ich/1.3.1/",
            {"kind": "physionet", "project": "ct-ich", "version": "1.3.1"},
            (),
        ),
        (
            "https://s3.amazonaws.com/bucket-of-ann/v1/",
            {"kind": "s3", "bucket": "bucket-of-ann", "prefix": "v1"},
            (),
        ),
        (
            "https://bucket-of-ann.s3.amazonaws.com/",
            {"kind": "s3", "bucket": "bucket-of-ann"},
            (),
        ),
        (
            "https://example.org/a/images.tar.gz",
            {"kind": "http", "files": [{"url": "https://example.org/a/images.tar.gz"}]},
            ("sha256",),
        ),
    ],
)
def test_a_link_tells_connector_and_address(url, location, to_pin):
    plan = plan_of(make_facts("one", links=[link(url)], size_bytes=10, access="open"))

    assert (plan.location, plan.to_pin) == (location, to_pin)
    assert plan.is_automatic
    assert plan.bytes == 10
    assert plan.disk_bytes in {10, 40}


@pytest.mark.parametrize(
    "url",
    [
        "https://figshare.com/collections/A/4107803/1",
        "https://doi.org/10.6084/m9.figshare.c.6615571.v1",
        "https://huggingface.co/some/model",
        "https://zenodo.org/communities/miccai",
        "https://www.kaggle.com/competitions/rsna",
        "https://www.kaggle.com/c/siim-isic-melanoma-classification/data",
        "https://example.org/download.zip?token=1",
    ],
)
def test_what_is_no_address_of_files_stays_with_a_person(url):
    plan = plan_of(make_facts("one", links=[link(url)], homepage=url))

    assert not plan.is_automatic
    assert plan.location == {"kind": "manual", "path": "one", "page": url}
    place_of(plan.location)
    assert any("data root as one" in step for step in plan.steps)


@pytest.mark.parametrize("kind", ["retired", "paper", "other"])
def test_links_that_lead_to_no_files_are_not_used(kind):
    plan = plan_of(make_facts("one", links=[link("https://zenodo.org/records/42", kind)]))

    assert not plan.is_automatic


def test_who_must_be_asked_first_is_asked_first():
    facts = make_facts("one", links=[link("https://zenodo.org/records/42")], access="application")

    plan = plan_of(facts)

    assert plan.needs == "application"
    assert not plan.is_automatic
    assert any("a person decides" in step for step in plan.steps)


def test_more_than_300_records_are_fetched_by_a_connector_with_a_location_that_a_recipe_takes(
    shipped,
):
    counts = count_by_connector(list(shipped.values()))
    plans = [plan_of(facts) for facts in shipped.values()]
    automatic = [plan for plan in plans if plan.is_automatic]

    assert sum(counts.values()) == len(shipped)
    assert sum(n for name, n in counts.items() if name != "manual") == len(automatic) >= 300
    fill = {"revision": "a" * 40, "version": 1}
    for plan in automatic:
        known = {key: fill[key] for key in plan.to_pin if key in fill}
        if plan.connector == "physionet" and known:
            known["version"] = "1.0.0"
        place_of({**plan.location, **known})
        assert plan.address.startswith("http")
    assert all(plan.steps and plan.terms for plan in plans)


def test_every_collection_that_a_plan_names_is_in_the_index(shipped):
    plans = [plan_of(facts) for facts in shipped.values()]
    named = {one for p in plans if p.connector == "idc" for one in p.location["collections"]}

    assert len(named) > 150
    assert named <= set(collections()) == collection_ids()


def test_a_part_is_planned_with_exact_files_and_bytes(shipped):
    whole = narrowed(plan_of(shipped["4d-lung"]), modality="CT")
    part = narrowed(plan_of(shipped["4d-lung"]), subjects=2, modality="CT")

    assert (whole.subjects, part.subjects) == (20, 2)
    assert 0 < part.bytes < whole.bytes
    assert 0 < part.files < whole.files
    assert part.location["subjects"] == 2
    assert part.terms == ("Series under CC BY 3.0",)


def test_what_was_granted_to_an_account_is_fetched_by_it_where_the_place_allows():
    facts = make_facts("one", links=[link("https://physionet.org/content/mimic-cxr/2.0.0/")])

    plan = plan_of(
        {**facts, "access": "application", "licence": "LicenseRef-PhysioNet-Credentialed"}
    )

    assert (plan.connector, plan.needs, plan.variable) == (
        "physionet", "application", "PHYSIONET_LOGIN",
    )  # fmt: skip
    assert "a person decides" in plan.steps[0]
    assert any("PHYSIONET_LOGIN on your account page" in step for step in plan.steps)
    assert any(plan.address in line for line in plan.accept)


def test_terms_are_to_be_accepted_where_there_are_some_and_others_have_another_name():
    def plan(licence: str, access: str, number: int):
        links = [link(f"https://zenodo.org/records/{number}")]
        return plan_of(make_facts("one", links=links, licence=licence, access=access))

    open_one, signed, other = (
        plan("CC-BY-4.0", "open", 1), plan("CC-BY-4.0", "registration", 1),
        plan("CC-BY-4.0", "registration", 2),
    )  # fmt: skip

    assert (open_one.accept, open_one.accept_digest) == ((), "")
    assert signed.accept == ("the terms at https://zenodo.org/records/1",)
    assert len({signed.accept_digest, other.accept_digest, ""}) == 3


def test_the_time_is_that_of_the_speed_that_is_known_and_else_unknown(tmp_path, settings):
    facts = make_facts("one", links=[link("https://zenodo.org/records/42")], size_bytes=10**9)
    plan = plan_of({**facts, "access": "open"})
    settings.STATE_DIR = tmp_path

    unknown, stated = timed(plan), timed(plan, mbit=80)
    speeds = tmp_path / "cache" / "speeds"
    speeds.mkdir(parents=True)
    (speeds / "zenodo.org.json").write_text('{"bytes": 5e6, "seconds": 1}')
    measured = timed(plan)
    settings.FETCH_HOSTS = {"zenodo.org": (1, 1e6)}
    limited = timed(plan, mbit=80)

    found = [(one.seconds, one.speed) for one in (unknown, stated, measured, limited)]
    assert found == [(None, ""), (100, "stated"), (200, "measured"), (1000, "limit")]


def test_a_plan_names_the_files_that_a_shipped_description_expects(shipped):
    plan = plan_of(shipped["kits23"])

    assert plan.expects
    assert all("{" in one or "*" in one or "." in one for one in plan.expects)


def test_the_first_subjects_of_openneuro_are_planned_without_a_figure_that_nobody_states():
    url = "https://openneuro.org/datasets/ds000001"
    plan = narrowed(plan_of(make_facts("one", links=[link(url)], size_bytes=10)), subjects=2)

    assert plan.location == {"kind": "openneuro", "dataset": "ds000001", "subjects": 2}
    assert (plan.files, plan.bytes, plan.disk_bytes) == (None, None, None)


def test_a_part_of_what_has_no_index_is_refused():
    plan = plan_of(make_facts("one", links=[link("https://zenodo.org/records/42")]))

    with pytest.raises(BuildError, match="allow_patterns"):
        narrowed(plan, subjects=2)
