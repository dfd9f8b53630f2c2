"""What every engine does, over the shipped records and over small catalogs."""

from __future__ import annotations

import pytest

from catalog.models import Dataset
from catalog.search.documents import document
from catalog.search.elastic import GRADES, row
from catalog.search.engine import Engine, search
from catalog.search.facets import FACETS
from catalog.search.interpret import interpret
from catalog.search.plan import holds, make_plan
from catalog.search.query import Query
from catalog.services import dataset_values
from tests.factories import make_facts
from tests.search.conftest import Make, dataset

QUESTIONS = (
    {},
    {"q": "tuberculsis chst xray"},
    {"q": "MRI"},
    {"q": "MR"},
    {"q": "CXR"},
    {"q": "brain tumor segmentation"},
    {"q": "lung"},
    {"q": "chest"},
    {"q": "retinal vessels"},
    {"q": "BraTS"},
    {"q": "brats2021"},
    {"q": "ISIC"},
    {"q": "kaggle dermoscopy"},
    {"q": "hippocamps"},
    {"q": "acrobatt"},
    {"q": "challeng"},
    {"q": "spleen CT segmentation"},
    {"q": "qwzxk"},
    {"q": "covid 19 ct"},
    {"q": "2020"},
    {"q": "cardiac ultrasound video segmentation"},
    {"modality": "MR"},
    {"modality": ["MR", "CT"], "task": "Segmentation"},
    {"modality": "unknown"},
    {"disease": ["none", "Glaucoma"]},
    {"size_from": "100", "size_to": "500", "unit": "volume", "modality": "CT"},
    {"q": "brain", "size_from": "1000"},
    {"unit": "slide"},
    {"licence": "unknown", "access": "open"},
    {"anatomy": "Chest", "year": ["2019", "unknown"]},
    {"year_from": "2015", "year_to": "2018"},
    {"q": "lung", "modality": "CT", "year_from": "2019"},
    {"q": "prostate", "dimension": "3D", "access": "registration"},
    {"modality": "EEG", "task": "Registration"},
    {"disease": "Cancer", "sort": "newest"},
    {"sort": "name", "page": "3"},
    {"q": "ct", "sort": "oldest"},
    {"q": "spleen CT permissive licence >50 scans"},
    {"q": "lumbar spine MR"},
    {"q": "optic nerve head photos"},
    {"q": "brain MR -tumour since 2018 on openneuro"},
    {"q": "modality:CT|MR -task:Segmentation at least 100 patients"},
    {"q": '"chest x-ray" labelled'},
    {"platform": "Kaggle", "allows": "commercial"},
    {"q": "lung", "not_modality": "CT"},
)


def ask(engine: Engine, **params: object):
    return search(Query.from_params(params), using=engine)


def slugs(results) -> list[str]:
    return [hit.slug for hit in results.hits]


@pytest.mark.services
@pytest.mark.parametrize("params", QUESTIONS, ids=str)
def test_the_engines_agree(real_embedded: Engine, real_elastic: Engine, params):
    ours, theirs = ask(real_embedded, **params), ask(real_elastic, **params)

    assert ours.total == theirs.total
    assert ours.facets == theirs.facets
    assert ours.understood == theirs.understood
    assert [hit.score for hit in ours.hits] == pytest.approx(
        [hit.score for hit in theirs.hits], rel=0.02
    )
    if params.get("sort"):
        assert slugs(ours) == slugs(theirs)
    assert {hit.slug: hit.why for hit in ours.hits[:10]}.keys() <= set(slugs(theirs))
    assert {hit.differs for hit in ours.near} == {hit.differs for hit in theirs.near}


def test_everything_is_found_without_a_question(real: Engine, real_documents):
    results = ask(real)

    assert results.total == len(real_documents) > 800
    assert len(results.hits) == 20
    assert [facet.name for facet in results.facets] == list(FACETS)
    assert results.near == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MRI", "MR"),
        ("CXR", "x-ray"),
        ("sonography", "US"),
        ("GBM", "glioblastoma"),
        ("tumor", "tumour"),
    ],
)
def test_synonyms_find_the_same_datasets(real: Engine, one, other):
    mine, its = ask(real, q=one, limit="100"), ask(real, q=other, limit="100")

    assert mine.total == its.total > 0
    assert mine.facets == its.facets


def test_typing_slips_are_understood(real: Engine):
    results = ask(real, q="tuberculsis xray")

    assert [(item.facet, item.term) for item in results.understood] == [
        ("disease", "Tuberculosis"), ("modality", "X-ray"),
    ]  # fmt: skip
    assert ask(real, q="tuberculosis x-ray").total == results.total


def test_a_name_comes_first(real: Engine, real_documents):
    for wanted in ("fives", "stare", "acdc", "verse", "ixi"):
        item = next((d for d in real_documents if wanted in d.exact), None)
        if item is not None:
            first = ask(real, q=wanted).hits[0]
            assert wanted in {first.slug, first.name.lower(), *map(str.lower, first.aliases)}
            assert "name or alias is the whole text" in first.why


def test_a_choice_narrows_the_hits_but_not_its_own_facet(real: Engine):
    before, after = ask(real, q="lung"), ask(real, q="lung", modality="CT")
    facets = {facet.name: facet for facet in after.facets}
    whole = {facet.name: facet for facet in before.facets}
    counts = {option.value: option.count for option in facets["modality"].options}

    assert after.total == counts["CT"] < before.total
    assert counts == {option.value: option.count for option in whole["modality"].options}
    assert [o.value for o in facets["modality"].options if o.selected] == ["CT"]
    assert sum(o.count for o in facets["year"].options) == after.total
    assert ask(real, q="lung", modality=["CT", "MR"]).total > after.total


def test_of_several_choices_each_keeps_its_own_counts(real: Engine):
    chosen = {"modality": "MR", "access": "open", "labelled": "yes"}
    facets = {facet.name: facet for facet in ask(real, q="brain", **chosen).facets}

    for name in ("modality", "access", "task"):
        for option in facets[name].options[:3]:
            there = ask(real, q="brain", **{**chosen, name: option.value})
            assert there.total == option.count, (name, option.value)


def test_every_facet_count_is_what_choosing_it_gives(real: Engine):
    for facet in ask(real, q="brain").facets:
        for option in facet.options[:3]:
            assert ask(real, q="brain", **{facet.name: option.value}).total == option.count


def test_pages_hold_each_dataset_once(real: Engine):
    pages = [slugs(ask(real, modality="MR", page=str(page), limit="50")) for page in (1, 2, 3)]
    seen = [slug for page in pages for slug in page]

    assert len(seen) == len(set(seen)) == 150


def small(make: Make) -> Engine:
    rows = (
        dataset("ct-spleen", modalities=["CT"], anatomies=["Spleen"], tasks=["Segmentation"],
                access="open", year=2020, licence="CC-BY-4.0"),
        dataset("ct-liver", modalities=["CT"], anatomies=["Liver"], tasks=["Classification"],
                access="registration", year=2012),
        dataset("mr-brain", modalities=["MR"], anatomies=["Brain"], tasks=["Segmentation"]),
        dataset("mammo", name="Mämmo Étude", modalities=["Mammography"], anatomies=["Breast"]),
        dataset("nothing-known"),
    )  # fmt: skip
    return make([document(row) for row in sorted(rows, key=lambda row: row.slug)])


def test_strict_and_near_matches_are_apart_and_near_ones_say_what_differs(make: Make):
    results = ask(small(make), q="liver segmentation", access="open")

    assert results.hits == ()
    assert results.total == 0
    assert {hit.slug: hit.differs for hit in results.near} == {
        "ct-spleen": ("anatomy is Spleen, not Liver",),
    }
    assert set(ask(small(make), q="ct").near).isdisjoint(ask(small(make), q="ct").hits)


def test_near_matches_of_one_region_come_first(make: Make):
    engine = make(
        [
            document(dataset(slug, anatomies=[part], labelled=labelled))
            for slug, part, labelled in (("a", "Brain", True), ("b", "Liver", None))
        ]
    )

    near = ask(engine, anatomy="Spleen").near

    assert [hit.slug for hit in near] == ["b", "a"]
    assert near[0].differs == ("anatomy is Liver, not Spleen",)


def test_near_matches_keep_what_a_dataset_is_about_before_a_word(make: Make):
    rows = (
        dataset("a-survey", name="Longitudinal longitudinal survey", modalities=["MR"]),
        dataset("b-adni", diseases=["Alzheimer's disease"], modalities=["MR"]),
    )
    near = ask(make(list(map(document, rows))), q="alzheimer's mri longitudinal").near

    assert [hit.slug for hit in near] == ["b-adni", "a-survey"]


def test_who_asks_for_a_part_by_another_name_gets_the_datasets_about_it_first(make: Make):
    retina = {"anatomies": ["Retina"], "labelled": True}
    engine = make(
        [
            document(dataset("a-retina", name="Retina", **retina)),
            document(dataset("b-cup", record={"classes": ["optic cup"]}, anatomies=["Retina"])),
            document(dataset("c-vessels", record={"classes": ["vessel"]}, **retina)),
        ]
    )

    hits = ask(engine, q="optic nerve head").hits

    assert [hit.slug for hit in hits] == ["b-cup", "a-retina", "c-vessels"]
    assert "names Optic disc" in hits[0].why  # the cup is a part of it
    assert not any("names" in reason for hit in hits[1:] for reason in hit.why)


def test_a_word_that_no_facet_has_finds_its_other_names_and_what_lies_around(make: Make):
    engine = make(
        [
            document(dataset("a-brain", anatomies=["Brain"], labelled=True)),
            document(dataset("b-kidney", anatomies=["Kidney"])),
            document(dataset("c-slides", record={"classes": ["glomerulus"]})),
        ]
    )

    found = ask(engine, q="glomeruli")

    assert [hit.slug for hit in found.hits] == ["c-slides"]
    assert found.hits[0].why == ("names Glomerulus",)
    assert [hit.slug for hit in found.near] == ["b-kidney", "a-brain"]
    assert found.near[0].differs == ("does not mention 'glomeruli'",)


def test_datasets_of_several_organs_are_found_as_multi_organ(make: Make):
    rows = (
        dataset("many", anatomies=["Abdomen", "Liver", "Spleen", "Kidney"], modalities=["CT"]),
        dataset("one", anatomies=["Small bowel", "Stomach", "Colon"], modalities=["CT"]),
    )
    found = ask(make(list(map(document, rows))), q="multi-organ ct")

    assert slugs(found) == ["many"]
    assert "anatomy Multi-organ" in found.hits[0].why


def test_several_differences_are_all_named(make: Make):
    near = {hit.slug: hit for hit in ask(small(make), q="breast ultrasound", year_from="2019").near}

    assert near["mammo"].differs == (
        "modality is Mammography, not Ultrasound",
        "year is unknown, not 2019-...",
    )


def test_a_broader_concept_finds_narrower_ones_and_says_so(make: Make):
    results = ask(small(make), q="abdomen")

    assert {hit.slug: hit.why for hit in results.hits} == {
        "ct-liver": ("anatomy Liver belongs to Abdomen",),
        "ct-spleen": ("anatomy Spleen belongs to Abdomen",),
    }
    assert slugs(ask(small(make), modality="X-ray")) == ["mammo"]


def test_unknown_is_found_as_unknown(make: Make):
    engine = small(make)

    assert ask(engine, modality="unknown").total == 1
    assert set(slugs(ask(engine, licence="unknown"))) == {
        "ct-liver", "mammo", "mr-brain", "nothing-known",
    }  # fmt: skip
    assert set(slugs(ask(engine, year=["unknown", "2012"]))) == {
        "ct-liver", "mammo", "mr-brain", "nothing-known",
    }  # fmt: skip
    assert slugs(ask(engine, year_from="1990")) == ["ct-spleen", "ct-liver"]


def test_a_dataset_of_healthy_people_has_no_disease_rather_than_an_unknown_one(make: Make):
    facts = (make_facts("healthy", diseases=[]), make_facts("silent"))
    engine = make([document(Dataset(**dataset_values(one))) for one in facts])

    assert slugs(ask(engine, disease="none")) == ["healthy"]
    assert slugs(ask(engine, disease="unknown")) == ["silent"]
    assert ask(engine, q="none").understood == ()


def test_a_size_lies_in_a_range_of_its_unit_and_is_given_as_reason(make: Make):
    def counted(slug, *counts):
        return dataset(slug, counts=[{"number": n, "unit": unit} for n, unit in counts])

    engine = make(
        document(row)
        for row in (
            counted("few", (20, "volume")),
            counted("many", (300, "volume"), (90, "subject")),
            counted("people", (250, "subject")),
            counted("silent"),
        )
    )

    asked = ask(engine, size_from="100", unit="volume")
    assert slugs(asked) == ["many"]
    assert asked.hits[0].why == ("size 300 volumes",)
    assert {hit.slug: hit.differs for hit in asked.near}["few"] == (
        "size is 20 volumes, not 100 volumes or more",
    )
    assert set(slugs(ask(engine, size_from="100"))) == {"many", "people"}
    assert set(slugs(ask(engine, size_to="100", unit="subject"))) == {"many"}
    assert set(slugs(ask(engine, unit="volume"))) == {"few", "many"}
    assert slugs(ask(engine, size_from="20", size_to="20")) == ["few"]


def test_accents_and_case_do_not_matter(make: Make):
    for text in ("mammo etude", "MÄMMO ÉTUDE", "etude"):
        assert slugs(ask(small(make), q=text)) == ["mammo"]


def test_the_beginning_of_a_word_is_enough_when_nothing_else_fits(make: Make):
    engine = make([document(dataset("a", name="Groundwork")), document(dataset("b", name="C++x"))])

    assert slugs(ask(engine, q="groun")) == ["a"]
    assert slugs(ask(engine, q="c++")) == ["b"]


@pytest.mark.parametrize("text", ['"', "*", "a:b", "/.*/", "AND OR NOT", "[", "\\", "a\x00b", "🩻"])
def test_no_text_is_a_syntax_error(make: Make, text):
    assert ask(small(make), q=text).total >= 0


def sized(make: Make) -> Engine:
    def counts(*pairs):
        return [
            {"number": number, "unit": unit, "what": None, "split": None, "source": "curation"}
            for number, unit in pairs
        ]

    rows = (
        dataset("big", anatomies=["Liver"], modalities=["CT"], counts=counts((300, "volume")),
                licence="CC-BY-4.0", platform="Zenodo", year=2021, family="Fam"),
        dataset("small", anatomies=["Liver"], modalities=["CT"], counts=counts((20, "subject")),
                licence="CC-BY-NC-4.0", platform="Kaggle", year=2015, diseases=["Liver cancer"]),
        dataset("told", name="The optic nerve head set", anatomies=["Retina"],
                record={"classes": ["spleen", "left kidney", "liver tumour"], "claims": []}),
        dataset("apart", name="Head of a nerve, optic"),
    )  # fmt: skip
    return make([document(row) for row in sorted(rows, key=lambda row: row.slug)])


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"q": "liver >50 scans"}, ["big"]),
        ({"q": "liver at least 20 patients"}, ["small"]),
        ({"q": "liver fewer than 100"}, ["small"]),
        ({"q": "liver commercial use"}, ["big"]),
        ({"q": "liver on kaggle"}, ["small"]),
        ({"q": "liver since 2020"}, ["big"]),
        ({"q": "liver -cancer"}, ["big", "told"]),
        ({"q": "liver", "not_platform": "Kaggle"}, ["big", "told"]),
        ({"allows": "redistribution", "sort": "name"}, ["big", "small"]),
        ({"family": "Fam"}, ["big"]),
        ({"q": "kidney"}, ["told"]),
        ({"q": '"optic nerve head"'}, ["told"]),
        ({"q": "-modality:CT", "sort": "name"}, ["apart", "told"]),
    ],
)
def test_conditions_narrow_what_is_found(make: Make, params, found):
    assert slugs(ask(sized(make), **params)) == found


def test_a_near_match_says_the_size_it_has_and_never_has_what_is_excluded(make: Make):
    near = ask(sized(make), q="liver ct >500 scans -cancer").near

    assert [(hit.slug, hit.differs) for hit in near] == [
        ("big", ("size is 300 volumes, not at least 501",))
    ]


def test_a_label_of_a_lesion_is_no_body_part(make: Make):
    assert ask(sized(make), anatomy="Spleen").total == 1
    assert "told" not in slugs(ask(sized(make), anatomy="Liver"))


def test_sorting(make: Make):
    engine = small(make)

    assert slugs(ask(engine, sort="newest"))[:2] == ["ct-spleen", "ct-liver"]
    assert slugs(ask(engine, sort="oldest"))[:2] == ["ct-liver", "ct-spleen"]
    assert slugs(ask(engine, sort="name")) == [
        "ct-liver", "ct-spleen", "mammo", "mr-brain", "nothing-known",
    ]  # fmt: skip


def test_those_that_score_alike_come_by_slug(make: Make):
    rows = [dataset(slug, modalities=["CT"]) for slug in ("c", "a", "d", "b")]
    engine = make(list(map(document, rows)))

    assert slugs(ask(engine, q="ct")) == ["a", "b", "c", "d"]


def test_an_empty_catalog_answers(make: Make):
    results = ask(make([]), q="lung ct")

    assert (results.total, results.hits, results.near) == (0, (), ())


def test_elasticsearch_asks_for_every_grade_that_a_concept_has(real_documents):
    found = {one.split(" ")[-1] for item in real_documents for one in row(item)["concepts"]}

    assert {"1.0", "2.5", "5.0"} <= found <= set(map(str, GRADES))


@pytest.mark.parametrize("params", [one for one in QUESTIONS if "q" in one], ids=str)
def test_facets_count_the_very_documents_that_are_found(params, real_documents):
    query = Query.from_params(params)
    for constraint in make_plan(query, interpret(query.text)).musts:
        core = constraint.core or constraint.node
        for item in real_documents:
            assert holds(core, item) == holds(constraint.node, item), item.slug
