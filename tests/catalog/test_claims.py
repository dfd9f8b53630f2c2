"""Claims: whom the catalog follows, what stays unknown, and what is called a conflict."""

from __future__ import annotations

import pytest

from catalog.claims import Claim, chosen, conflicting, sources
from catalog.record import DatasetRecord, resolve
from tests.factories import make_facts


def claim(value, source, **more):
    return Claim(value=value, source=source, **more)


def test_the_publisher_is_followed_before_the_table_and_the_table_before_a_list():
    claims = [claim(2019, "project-imaging-x"), claim(2018, "openneuro"), claim(2020, "amid")]

    assert chosen(claims, "year").value == 2018
    assert chosen(claims[::2], "year").value == 2019


def test_a_curator_is_followed_even_to_unknown():
    claims = [claim("CC-BY-3.0", "idc"), claim(None, "curation", reason="terms differ")]

    assert chosen(claims, "licence").value is None
    assert make_facts("x", {"licence": [c.model_dump() for c in claims]})["licence"] is None


def test_the_first_of_two_curators_claims_is_followed():
    claims = [claim(2012, "curation"), claim(2011, "curation")]

    assert chosen(claims, "year").value == 2012


def test_a_guessed_access_is_kept_and_never_followed():
    facts = make_facts("x", {"access": [{"value": "open", "source": "project-imaging-x"}]})

    assert facts["access"] == "unknown"
    assert [(row["value"], row["used"]) for row in facts["claims"]] == [("open", False)]


def test_equals_that_disagree_on_a_licence_leave_it_unknown():
    claims = [claim("CC-BY-4.0", "amid"), claim("CC-BY-NC-4.0", "eva")]

    assert chosen(claims, "licence") is None
    assert chosen([claim(2019, "amid"), claim(2020, "eva")], "year").value == 2019
    assert conflicting(claims)


def test_one_list_may_say_more_than_the_other_without_conflict():
    assert not conflicting([claim(["CT"], "idc"), claim(["CT", "PET"], "amid")])
    assert conflicting([claim(["CT", "MR"], "idc"), claim(["CT", "PET"], "amid")])
    assert not conflicting([claim(2019, "idc"), claim(None, "curation")])


def test_each_unit_follows_its_best_source_and_a_bare_number_is_no_size():
    counts = [
        {"number": 300, "source": "project-imaging-x"},
        {"number": 210, "unit": "subject", "source": "idc"},
        {"number": 300, "unit": "subject", "source": "curation"},
        {"number": 621, "unit": "series", "source": "idc"},
    ]
    facts = make_facts("x", counts=counts)

    shown = [(row["number"], row["unit"], row["source"]) for row in facts["counts"]]
    assert shown == [(300, "subject", "curation"), (621, "series", "idc")]
    assert "counts" in facts["conflicts"]
    assert len([row for row in facts["claims"] if row["field"] == "counts"]) == 4


def test_parts_of_a_split_are_no_conflict_with_the_whole():
    counts = [
        {"number": 300, "unit": "volume", "source": "amid"},
        {"number": 210, "unit": "volume", "split": "train", "source": "amid"},
    ]

    assert make_facts("x", counts=counts)["conflicts"] == []


def test_a_claim_names_a_known_source():
    with pytest.raises(ValueError, match="found source 'hearsay', expected one of curation"):
        DatasetRecord.model_validate(
            {
                "slug": "x",
                "name": "X",
                "sources": [{"id": "idc"}],
                "year": [{"value": 2000, "source": "hearsay"}],
            }
        )


def test_every_source_says_where_its_facts_come_from():
    for source in sources().values():
        assert source.title
        assert source.retrieved.year >= 2026
        assert source.url or source.id == "curation"


def test_a_paper_is_no_homepage():
    links = [
        {"url": "https://doi.org/10.1/x", "kind": "paper", "source": "curation"},
        {"url": "https://mirror.example/x", "kind": "mirror", "source": "curation"},
    ]
    facts = make_facts("x", links=links)

    assert facts["homepage"] == "https://mirror.example/x"
    assert resolve(DatasetRecord(slug="y", name="Y", sources=[{"id": "idc"}]))["homepage"] is None


def test_the_copy_in_an_archive_is_not_the_homepage():
    links = [
        {"url": "https://doi.org/10.7937/x", "source": "idc"},
        {"url": "https://challenge.example/x", "source": "project-imaging-x"},
    ]

    assert make_facts("x", links=links)["homepage"] == "https://challenge.example/x"
    assert make_facts("x", links=links[:1])["homepage"] == "https://doi.org/10.7937/x"
