"""Licences: unknown allows nothing; combining is order-free and never allows more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from license_expression import get_spdx_licensing

from catalog.licences import LICENCES, combine, from_text, licence, nearest, parts_of

SINGLE = st.sampled_from([*sorted(LICENCES), "Nobody-Knows-1.0"])
EXPRESSIONS = st.recursive(
    SINGLE | st.just("GPL-2.0-only WITH Classpath-exception-2.0"),
    lambda inner: st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(
        lambda three: f"({three[0]}) {three[1]} ({three[2]})"
    ),
    max_leaves=4,
)
IDS = SINGLE | st.just("") | EXPRESSIONS
LISTS = st.lists(IDS, max_size=6)
PERMISSIONS = ("redistribute", "adapt", "commercial", "combinable", "one_file")
DUTIES = ("attribution", "dua", "notice", "no_combination")


def test_ids_are_spdx_or_licence_refs():
    known = get_spdx_licensing().known_symbols

    assert [i for i in LICENCES if not i.startswith("LicenseRef-") and i not in known] == []


@given(LISTS, st.randoms())
def test_order_and_repetition_do_not_matter(ids, random):
    shuffled = ids * 2
    random.shuffle(shuffled)

    assert combine(shuffled) == combine(ids)


@given(LISTS, IDS)
def test_a_further_licence_never_allows_more(ids, further):
    before, after = combine(ids), combine([*ids, further])

    for permission in PERMISSIONS:
        assert getattr(before, permission) or not getattr(after, permission), permission
    for duty in DUTIES:
        assert getattr(after, duty) or not getattr(before, duty), duty
    assert set(before.share_alike) <= set(after.share_alike)


@given(st.text(max_size=30))
def test_an_id_outside_the_table_allows_nothing(text):
    terms = licence(text)

    if not terms.known:
        assert (terms.redistribute, terms.adapt, terms.commercial) == (False, False, False)


def test_a_missing_licence_blocks_the_whole():
    whole = combine(["CC0-1.0", None])

    assert not whole.redistribute
    assert not whole.one_file


@pytest.mark.parametrize(
    ("ids", "one_file"),
    [
        (["CC-BY-4.0", "CC0-1.0"], True),
        (["CC-BY-SA-4.0", "CC-BY-4.0"], True),
        (["CC-BY-SA-4.0", "CC-BY-NC-4.0"], False),
        (["CC-BY-NC-SA-4.0", "CC-BY-NC-4.0"], True),
        (["CC-BY-SA-4.0", "CC-BY-SA-3.0"], False),
        (["CC-BY-ND-4.0", "CC-BY-4.0"], False),
    ],
)
def test_one_derived_file_needs_adaptable_parts_and_one_share_alike(ids, one_file):
    assert combine(ids).one_file is one_file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CC BY 4.0", "CC-BY-4.0"),
        ("CC BY 4.0.", "CC-BY-4.0"),
        ("CC-BY-SA 4.0", "CC-BY-SA-4.0"),
        ("by-nc-sa 4.0", "CC-BY-NC-SA-4.0"),
        ("CC0: Public Domain", "CC0-1.0"),
        ("cc-by-nc-nd-3.0", "CC-BY-NC-ND-3.0"),
        ("CC BY-NC-SA", None),
        ("CC", None),
        ("Custom", None),
    ],
)
def test_only_a_wording_without_doubt_names_a_licence(text, expected):
    found = from_text(text)

    assert (found.id if found else None) == expected


def allows(text: str | None) -> tuple[bool, ...]:
    return tuple(getattr(licence(text), name) for name in PERMISSIONS[:3])


@given(EXPRESSIONS, EXPRESSIONS)
def test_both_allow_what_each_allows_in_either_order(one, other):
    both = licence(f"({one}) AND ({other})")

    assert both == licence(f"({other}) AND ({one})")
    assert allows(both.id) == tuple(
        a and b for a, b in zip(allows(one), allows(other), strict=True)
    )
    assert both.share_alike == (licence(one).share_alike or licence(other).share_alike)
    assert both.known == (licence(one).known and licence(other).known)


@given(EXPRESSIONS, EXPRESSIONS)
def test_a_choice_is_one_of_its_sides_in_either_order(one, other):
    chosen = parts_of(f"({one}) OR ({other})")

    assert chosen == parts_of(f"({other}) OR ({one})")
    assert chosen in (parts_of(one), parts_of(other))
    assert allows(f"({one}) OR ({other})") >= max(allows(one), allows(other))


@given(EXPRESSIONS)
def test_an_expression_counts_as_its_parts(text):
    assert combine([text]) == combine(parts_of(text))


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("CC-BY-4.0 AND MIT", ["CC-BY-4.0", "MIT"]),
        ("MIT AND CC-BY-4.0 AND MIT", ["CC-BY-4.0", "MIT"]),
        ("CC-BY-NC-4.0 OR CC-BY-4.0", ["CC-BY-4.0"]),
        ("MIT AND (CC0-1.0 OR CC-BY-4.0)", ["CC0-1.0", "MIT"]),
        ("LicenseRef-anything OR CC-BY-NC-ND-4.0", ["CC-BY-NC-ND-4.0"]),
    ],
)
def test_an_expression_names_the_licences_that_hold(text, ids):
    assert [row.id for row in parts_of(text)] == ids


@pytest.mark.parametrize(
    "text", ["CC-BY-4.0 AND", "MIT OR OR MIT", "CC-BY-4.0 AND unheard-of-1.0", "(MIT AND MIT"]
)
def test_a_broken_or_unknown_expression_allows_nothing(text):
    assert not licence(text).known
    assert allows(text) == (False, False, False)


def test_an_exception_never_frees_more_than_its_licence():
    assert allows("GPL-2.0-only WITH Classpath-exception-2.0") == allows("GPL-2.0-only")
    assert licence("GPL-2.0-only WITH Classpath-exception-2.0").share_alike


def test_a_misspelt_id_has_a_nearest_one():
    assert nearest("CC-BYNC-4.0").id == "CC-BY-NC-4.0"
