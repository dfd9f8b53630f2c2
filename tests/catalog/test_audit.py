"""The audit: each code fires on the slip it is named after, and not beside it."""

from __future__ import annotations

import datetime as dt
import io

import pytest
from django.core.management import CommandError, call_command

from catalog.audit import CODES, assess, audit, totals, url_problem
from tests.factories import make_facts

GOOD = {
    "year": 2020,
    "modalities": ["CT"],
    "anatomies": ["Liver"],
    "tasks": ["Segmentation"],
    "labelled": True,
    "licence": "CC-BY-4.0",
    "access": "open",
    "homepage": "https://example.org/sets/7",
    "counts": [{"number": 10, "unit": "volume", "source": "curation"}],
}


def codes(**changes):
    claims = changes.pop("claims", None)
    fields = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    return [finding.code for finding in audit([make_facts("x", claims, **fields)])]


def test_a_sound_record_has_no_finding():
    assert codes() == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"year": 1901}, "year_out_of_range"),
        ({"year": dt.datetime.now(tz=dt.UTC).year + 1}, "year_out_of_range"),
        ({"year": None}, "year_unknown"),
        ({"homepage": "http://no-dot/x"}, "url_malformed"),
        ({"homepage": "https://wiki.cancerimagingarchive.net/x"}, "url_retired"),
        ({"homepage": None}, "homepage_unknown"),
        (
            {"counts": [{"number": 1414, "source": "project-imaging-x", "raw": "1.4k"}]},
            "count_without_unit",
        ),
        ({"counts": []}, "size_unknown"),
        ({"labelled": False}, "unlabelled_but_supervised"),
        ({"modalities": ["Dermoscopy"]}, "modality_foreign"),
        ({"access": "application"}, "open_licence_closed_access"),
        ({"licence": None}, "licence_unknown"),
        ({"access": None}, "access_unknown"),
    ],
)
def test_a_slip_has_its_code(changes, code):
    assert codes(**changes) == [code]


def test_parts_may_not_exceed_the_whole():
    def count(number, split=None):
        return {"number": number, "unit": "volume", "split": split, "source": "curation"}

    assert codes(counts=[count(10), count(8, "train"), count(2, "test")]) == []
    assert codes(counts=[count(10), count(8, "train"), count(3, "test")]) == ["parts_exceed_whole"]


def test_a_conflict_is_found_until_a_curator_weighs_it():
    claims = {"year": [{"value": 2019, "source": "amid"}, {"value": 2020, "source": "eva"}]}
    assert codes(year=None, claims=claims) == ["conflict"]

    claims["year"].append({"value": 2019, "source": "curation", "reason": "release notes"})
    assert codes(year=None, claims=claims) == []


def test_one_name_or_page_for_two_datasets_is_found_unless_they_are_related():
    one, other = make_facts("a", name="Twin", **GOOD), make_facts("b", name="twin", **GOOD)
    assert [f.code for f in audit([one, other])] == ["same_homepage", "same_name"]

    relation = {"to": "a", "kind": "version_of", "evidence": "its page"}
    related = make_facts("b", name="twin", relations=[relation], **GOOD)
    assert audit([one, related]) == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/x",
        "https://a",
        r"https://a.example/x\_y",
        "https://[::1/x",
        "http://a b.c/",
    ],
)
def test_addresses_that_no_browser_opens(url):
    assert url_problem(url)


def test_the_score_has_parts_and_an_error_halves_it():
    whole = assess(make_facts("x", **GOOD))
    wrong = assess(make_facts("x", **{**GOOD, "labelled": False}))

    assert sum(of for _, _, of in whole.parts) == 100
    assert whole.score == sum(earned for _, earned, _ in whole.parts)
    assert wrong.score < whole.score / 1.9


def test_the_shipped_catalog_has_no_error_and_the_command_says_so():
    out = io.StringIO()
    call_command("audit_catalog", fail_on="error", stdout=out)

    said = out.getvalue()
    assert all(code in said for code in CODES)


def test_the_command_fails_on_what_it_is_told_to(tmp_path):
    (tmp_path / "x.yaml").write_text(
        "slug: x\nname: X\nsources: [{id: idc}]\nyear: [{value: 1901, source: idc}]\n"
    )
    with pytest.raises(CommandError, match="1 findings at error or above"):
        call_command(
            "audit_catalog",
            records=tmp_path,
            harvested=tmp_path,
            fail_on="error",
            stdout=io.StringIO(),
        )


def test_totals_list_every_code():
    assert set(totals([])) == set(CODES)
