"""Suggestions while typing: the right ones, in order, in the words that a search understands."""

from __future__ import annotations

import threading

import pytest

from catalog import vocab
from catalog.search.engine import Engine, search
from catalog.search.interpret import interpret
from catalog.search.query import Query
from catalog.search.suggest import (
    CARRIED,
    LIMIT,
    MAX_LIMIT,
    ConceptSuggestion,
    DatasetSuggestion,
    Live,
    Suggester,
    did_you_mean,
)
from catalog.search.words import fold
from tests.factories import make_facts


@pytest.fixture(scope="module")
def real_facts(shipped) -> list[dict]:
    return list(shipped.values())


@pytest.fixture(scope="module")
def real_suggester(real_facts) -> Suggester:
    return Suggester(real_facts)


@pytest.fixture(scope="module")
def small() -> Suggester:
    brain = {"modalities": ["MR"], "anatomies": ["Brain"]}
    return Suggester(
        [
            make_facts("seg-brain", name="SegBrain", tasks=["Segmentation"], **brain),
            make_facts("seg-eye", name="SegEye", modalities=["OCT"], anatomies=["Retina"]),
            make_facts("kits19", name="KiTS19", aliases=["Kidney Tumor 2019"], year=2019),
            make_facts("chase-db1", name="CHASE_DB1", anatomies=["Retina"]),
            make_facts("openneuro-ds000174", name="A study of sleep", **brain),
            make_facts("a-glioma", name="A Glioma", diseases=["Glioma"], **brain),
            make_facts("b-tumour", name="B tumour", diseases=["Brain tumour"], **brain),
            make_facts("lungs", name="Lungs", anatomies=["Lung"], diseases=["Lung cancer"]),
            make_facts("liver-ct", name="Liver", modalities=["CT"], anatomies=["Liver"]),
        ]
    )


def concepts(found) -> list[ConceptSuggestion]:
    return [item for item in found if isinstance(item, ConceptSuggestion)]


def terms(found) -> list[str]:
    return [item.term for item in concepts(found)]


def slugs(found) -> list[str]:
    return [item.slug for item in found if isinstance(item, DatasetSuggestion)]


def test_a_concept_counts_the_datasets_of_narrower_ones_too(small: Suggester):
    found = {item.term: item for item in concepts(small.suggest("brain tum"))}

    assert found["Brain tumour"].count == 2  # one of them says glioma
    assert found["Cancer"].count == 3
    assert found["Cancer"].matched == "tumour"


def test_counts_over_the_catalog_are_what_a_scan_gives(real_suggester: Suggester, real_facts):
    for text, facet, term in (("segm", "task", "Segmentation"), ("abd", "anatomy", "Abdomen")):
        wanted = {term, *vocab.descendants(facet, term)}
        number = sum(not wanted.isdisjoint(facts[CARRIED[facet]]) for facts in real_facts)
        (found,) = [x for x in concepts(real_suggester.suggest(text)) if x.term == term]
        assert found.count == number > 100


def test_what_stands_before_the_last_concept_is_kept(small: Suggester):
    first = small.suggest("brain MR seg")[0]

    assert first.as_dict() == {
        "kind": "concept", "facet": "task", "term": "Segmentation", "count": 1,
        "matched": "seg", "text": "brain MR Segmentation",
    }  # fmt: skip


def test_only_datasets_that_fit_the_words_before_are_offered(small: Suggester):
    assert slugs(small.suggest("seg")) == ["seg-brain", "seg-eye"]
    assert slugs(small.suggest("brain MR seg")) == ["seg-brain"]
    assert slugs(small.suggest("OCT seg")) == ["seg-eye"]
    assert slugs(small.suggest("kidney 2019")) == slugs(small.suggest("2019 kid")) == ["kits19"]
    assert slugs(small.suggest("since 2020 seg")) == []  # a condition that a name cannot answer


@pytest.mark.parametrize(
    ("typed", "slug", "matched"),
    [
        ("kit", "kits19", None),
        ("kits 1", "kits19", None),
        ("kidney t", "kits19", "Kidney Tumor 2019"),
        ("chasedb", "chase-db1", None),
        ("CHASE-DB", "chase-db1", None),
        ("ds000174", "openneuro-ds000174", "openneuro-ds000174"),
        ("sleep", "openneuro-ds000174", None),
    ],
)
def test_a_name_is_found_however_it_is_written(small: Suggester, typed, slug, matched):
    (found,) = [x for x in small.suggest(typed) if isinstance(x, DatasetSuggestion)]

    assert (found.slug, found.matched) == (slug, matched)


def test_whole_names_come_before_beginnings_before_words_inside(real_suggester: Suggester):
    found = real_suggester.suggest("lung", MAX_LIMIT)
    names = [fold(item.matched or getattr(item, "term", "") or item.name) for item in found]
    kinds = [0 if n == "lung" else 1 if n.startswith("lung") else 2 for n in names]

    assert kinds == sorted(kinds)
    assert terms(found)[0] == "Lung"
    assert {0, 1, 2} == set(kinds)


def test_concepts_with_more_datasets_come_first(real_suggester: Suggester):
    alike = [x for x in concepts(real_suggester.suggest("b", MAX_LIMIT)) if not x.matched]
    numbers = [item.count for item in alike]

    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) > 5


def test_both_kinds_have_a_place_and_there_are_at_most_eight(real_suggester: Suggester):
    for text in ("lung", "br", "seg", "c"):
        found = real_suggester.suggest(text)
        assert len(found) == LIMIT
        assert len(concepts(found)) >= 2
        assert len(slugs(found)) >= 4
        assert real_suggester.suggest(text, 1) == found[:1]


@pytest.mark.parametrize(
    ("typed", "term"),
    [
        ("tuberclo", "Tuberculosis"),
        ("tuberculs", "Tuberculosis"),
        ("segmetn", "Segmentation"),
        ("lunf", "Lung"),
        ("brain MR segmnt", "Segmentation"),
    ],
)
def test_one_slip_is_forgiven_where_little_else_fits(real_suggester: Suggester, typed, term):
    assert term in terms(real_suggester.suggest(typed))


def test_short_words_are_never_taken_for_slips(small: Suggester):
    assert small.suggest("lvr") == ()
    assert terms(small.suggest("lvier")) == ["Liver"]


def test_every_concept_is_offered_in_words_that_a_search_takes_for_it(real_suggester: Suggester):
    offered = set()
    for facet in CARRIED:
        for term in vocab.terms(facet).values():
            for word in term.words:
                typed = fold(word).split()[0][:5]
                offered.update(concepts(real_suggester.suggest(typed, MAX_LIMIT)))

    assert len({item.term for item in offered}) > 250
    for item in offered:
        read = [(said.facet, said.term) for said in interpret(item.text).concepts]
        assert read == [(item.facet, item.term)], item.text


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("-brain tum", '-"Brain tumour"'),
        ("lung modality:c", "lung modality:CT"),
        ('anatomy:"optic nerve he', 'anatomy:"optic nerve head"'),
        ("disease:brain", 'disease:"Brain tumour"'),
    ],
)
def test_marks_before_a_word_are_kept_and_phrases_quoted(real_suggester: Suggester, typed, text):
    assert text in [item.text for item in concepts(real_suggester.suggest(typed))]


def test_after_a_field_only_its_own_terms_are_offered(real_suggester: Suggester):
    found = real_suggester.suggest("modality:c")

    assert {item.facet for item in concepts(found)} == {"modality"}
    assert slugs(found) == []
    assert real_suggester.suggest("licence:c") == real_suggester.suggest("nothing:c") == ()


@pytest.mark.parametrize(
    "text",
    ["", " ", "-", '"', ":", "()", "modality:", 'a "', "\u0000", "x" * 5000, "ct " * 90, "é", "💡",
     "modality:nothing seg", "H&E", "C++", "seg'", "İ", "a:b:c", "-- --", "\n\t seg"],
)  # fmt: skip
def test_no_text_is_too_odd(real_suggester: Suggester, text):
    assert len(real_suggester.suggest(text)) <= LIMIT


def test_a_name_is_offered_exactly_when_a_scan_finds_it(real_suggester: Suggester, real_facts):
    words = {
        facts["slug"]: [
            f" {fold(name)}" for name in (facts["name"], *facts["aliases"], facts["slug"])
        ]
        for facts in real_facts
    }
    checked = 0
    for facts in real_facts[::13]:
        typed = fold(facts["name"]).split()[0][:6]
        scanned = {s for s, names in words.items() if any(f" {typed}" in name for name in names)}
        found = set(slugs(real_suggester.suggest(typed, MAX_LIMIT)))
        if 3 <= len(scanned) <= MAX_LIMIT // 2:
            assert scanned <= found, typed
            checked += 1
    assert checked > 20


def test_it_is_built_once_for_each_state_of_the_catalog():
    key, built = "one", []

    def rows():
        built.append(key)
        return [make_facts(key, anatomies=["Lung"])]

    live = Live(lambda: key, rows)

    assert live() is live()
    key = "two"
    assert slugs(live().suggest("two")) == ["two"]
    assert built == ["one", "two"]


def test_while_it_is_built_anew_others_are_answered_from_before():
    started, go_on = threading.Event(), threading.Event()
    key = "one"

    def rows():
        if key == "two":
            started.set()
            assert go_on.wait(20)
        return [make_facts(key)]

    live = Live(lambda: key, rows)
    before = live()
    key = "two"
    builder = threading.Thread(target=live)
    builder.start()
    assert started.wait(20)

    assert live() is before
    go_on.set()
    builder.join(20)
    assert live() is not before


def test_a_correction_is_proposed_only_where_it_finds_more(small: Suggester):
    found = {"segbrain": 5, "liver CT": 7}
    asked: list[str] = []

    def count(text: str) -> int:
        asked.append(text)
        return found.get(text, 0)

    assert did_you_mean("segbrian", 0, count, small) == "segbrain"
    assert did_you_mean("live CT", 1, count, small) == "liver CT"
    assert did_you_mean("segeyes", 0, count, small) is None  # finds nothing either
    asked.clear()
    assert did_you_mean("segbrian", 3, count, small) is None
    assert asked == []


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("brainmri", "brain mri"),
        ("colin polyp", "colon polyp"),
        ("modality:CT colin", "modality:CT colon"),
        ("brain MR", None),
        ("qwzxk", None),
        ('"colin polyp"', None),
        ("modality:nothing colin", None),
    ],
)
def test_only_doubtful_words_are_changed(real_suggester: Suggester, text, other):
    assert did_you_mean(text, 0, lambda _: 1, real_suggester) == other


def test_a_correction_helps_a_real_search(real: Engine, real_suggester: Suggester):
    def count(text: str) -> int:
        return search(Query(text=text, limit=1), using=real).total

    other = did_you_mean("colin polyp", count("colin polyp"), count, real_suggester)

    assert other == "colon polyp"
    assert count(other) > 5
