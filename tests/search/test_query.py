from __future__ import annotations

import pytest
from django.http import QueryDict

from catalog.search.errors import QueryError
from catalog.search.query import PARAMETERS, Query


def test_synonyms_in_a_facet_become_the_canonical_term():
    query = Query.from_params(QueryDict("modality=mri&modality=CXR&access=public"))

    assert query.filters == {"modality": ("MR", "X-ray"), "access": ("open",)}


@pytest.mark.parametrize(
    ("params", "parameter", "nearest"),
    [
        ({"modality": "ultrasond"}, "modality", "Ultrasound"),
        ({"anatomy": "hipocampus"}, "anatomy", "Hippocampus"),
        ({"task": "segmentaton"}, "task", "Segmentation"),
        ({"access": "opne"}, "access", "open"),
        ({"licence": "cc-by-40"}, "licence", "CC-BY-4.0"),
        ({"year": "unknwn"}, "year", "unknown"),
        ({"sort": "newst"}, "sort", "newest"),
        ({"modalty": "MR"}, "modalty", "modality"),
        ({"license": "MIT"}, "license", "licence"),
    ],
)
def test_a_misspelled_name_or_value_is_refused_with_the_nearest_one(params, parameter, nearest):
    with pytest.raises(QueryError, match=nearest) as caught:
        Query.from_params(params)

    assert [(e["path"], e["nearest"]) for e in caught.value.errors] == [(parameter, nearest)]


@pytest.mark.parametrize("params", [
    {"page": "0"}, {"limit": "101"}, {"limit": "ten"}, {"year_from": "20l9"}, {"year": "19"},
    {"year_from": "2020", "year_to": "2010"}, {"page": "9999", "limit": "100"},
    {"page": ["1", "2"]}, {"page": "²"},
])  # fmt: skip
def test_a_number_that_cannot_be_is_refused(params):
    with pytest.raises(QueryError) as caught:
        Query.from_params(params)

    assert caught.value.errors[0]["path"] in params


def test_every_fault_is_named_at_once():
    with pytest.raises(QueryError) as caught:
        Query.from_params({"modality": ["MR", "foo"], "yaer": "2020", "limit": "x"})

    assert {error["path"] for error in caught.value.errors} == {"modality", "yaer", "limit"}


@pytest.mark.parametrize("facet", ["modality", "anatomy", "task", "dimension", "access", "licence",
                                   "year", "disease"])  # fmt: skip
def test_unknown_is_an_option_of_every_facet(facet):
    assert Query.from_params({facet: "Unknown"}).filters == {facet: ("unknown",)}


def test_a_query_survives_its_own_query_string():
    query = Query.from_params(
        {"q": "lung  ct", "anatomy": ["lung", "heart"], "year_from": "2015", "page": "2",
         "sort": "newest", "limit": "5"}
    )  # fmt: skip
    again = QueryDict(mutable=True)
    for name, value in query.to_params():
        again.appendlist(name, value)

    assert Query.from_params(again) == query
    assert hash(Query.from_params(again)) == hash(query)
    assert {name for name, _ in query.to_params()} <= set(PARAMETERS)


def test_toggling_an_option_twice_changes_nothing_but_the_page():
    query = Query.from_params({"modality": "MR", "page": "3"})

    assert query.toggle("modality", "CT").filters == {"modality": ("MR", "CT")}
    assert query.toggle("modality", "CT").toggle("modality", "CT") == query.replace(page=1)
    assert query.toggle("modality", "MR").filters == {}


def test_empty_choices_of_a_form_mean_nothing():
    assert Query.from_params({"q": "", "modality": "", "year_from": "", "page": ""}) == Query()
