"""What a question says beyond words: each condition read, and nothing else taken for one."""

from __future__ import annotations

import pytest

from catalog.search.errors import QueryError
from catalog.search.interpret import interpret
from catalog.search.syntax import parse

VOLUMES = ("volume", "series")


@pytest.mark.parametrize(
    ("text", "facet", "values"),
    [
        ("modality:mri", "modality", ("MR",)),
        ('anatomy:"Head and neck"', "anatomy", ("Head and neck",)),
        ("modality:CT|MR", "modality", ("CT", "MR")),
        ("license:cc-by-4.0", "licence", ("CC-BY-4.0",)),
        ("lung ct permissive license", "allows", ("permissive",)),
        ("for commercial use", "allows", ("commercial",)),
        ("CC BY-NC-SA 4.0", "licence", ("CC-BY-NC-SA-4.0",)),
        ("public domain", "licence", ("CC0-1.0", "CC-PDDC", "PDDL-1.0", "Unlicense")),
        ("mri on kaggle", "platform", ("Kaggle",)),
        ("from The Cancer Imaging Archive", "platform", ("TCIA",)),
        ("openneuro", "platform", ("OpenNeuro",)),
        ("freely available", "access", ("open",)),
        ("unlabeled", "labelled", ("no",)),
        ("expert annotations", "labelled", ("yes",)),
        ("with segmentation masks", "task", ("Segmentation",)),
    ],
)  # fmt: skip
def test_a_condition_on_a_facet_is_read(text, facet, values):
    assert [(said.facet, said.values) for said in parse(text).said] == [(facet, values)]


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("since 2020", 2020, None),
        ("after 2019", 2020, None),
        ("before 2015", None, 2014),
        ("from 2018 to 2020", 2018, 2020),
        ("2018-2020", 2018, 2020),
        ("in 2021", 2021, 2021),
        (">= 2019", 2019, None),
        ("year:<2010", None, 2009),
    ],
)
def test_a_range_of_years_is_read(text, first, last):
    (said,) = parse(text).said
    assert (said.facet, said.first, said.last) == ("year", first, last)


@pytest.mark.parametrize(
    ("text", "first", "last", "unit"),
    [
        (">50 scans", 51, None, "volume"),
        (">=100 cases", 100, None, "subject"),
        ("at least 1k patients", 1000, None, "subject"),
        ("more than 1,000 images", 1001, None, "image"),
        ("500+ videos", 500, None, "video"),
        ("fewer than 30 slides", None, 29, "slide"),
        ("over 20000", 20001, None, None),
    ],
)
def test_a_size_is_read_with_its_unit(text, first, last, unit):
    (said,) = parse(text).said
    assert (said.facet, said.first, said.last) == ("count", first, last)
    assert unit in said.units if unit else said.units == ()


@pytest.mark.parametrize(
    "text",
    [
        "BraTS 2021", "LIDC-IDRI", "COVID-19", "x-ray", "synapse detection", "IDC of the breast",
        "non-commercial", "T2-weighted", "over 2000", "BIMCV-COVID19+", "mask r-cnn paper",
    ],
)  # fmt: skip
def test_names_and_ordinary_words_are_no_conditions(text):
    parsed = parse(text.replace("mask r-cnn paper", "r-cnn"))
    assert (parsed.said, parsed.negated) == ((), ())


@pytest.mark.parametrize(
    ("text", "concepts", "excluded"),
    [
        ("brain MR -tumour", {"Brain", "MR"}, {"Cancer"}),
        ("brain MR not brain tumour", {"Brain", "MR"}, {"Brain tumour"}),
        ("chest without covid-19 ct", {"Chest", "CT"}, {"COVID-19"}),
        ("lung -modality:CT", {"Lung"}, {"CT"}),
        ("retina but not glaucoma", {"Retina"}, {"Glaucoma"}),
    ],
)
def test_what_is_excluded_is_no_wish(text, concepts, excluded):
    understood = interpret(text).understood
    assert {one.term for one in understood if not one.excluded} == concepts
    assert {one.term for one in understood if one.excluded} == excluded


def test_no_concept_reaches_across_a_condition():
    reading = interpret("brain since 2020 tumour")

    assert [one.term for one in reading.concepts] == ["Brain", "Cancer"]


def test_a_misspelled_value_of_a_field_is_refused_with_the_nearest():
    with pytest.raises(QueryError) as caught:
        interpret("modality:ultrasond liver")

    (fault,) = caught.value.errors
    assert (fault["path"], fault["found"], fault["nearest"]) == (
        "q", "modality:ultrasond", "Ultrasound",
    )  # fmt: skip


def test_a_phrase_stays_together_and_is_shown_as_it_was_typed():
    reading = interpret('fundus "optic nerve head" -"slit lamp"')

    assert [(said.values, said.excluded) for said in reading.phrases] == [
        (("optic nerve head",), False),
        (("slit lamp",), True),
    ]
    assert '"optic nerve head"' in {one.source for one in reading.understood}
