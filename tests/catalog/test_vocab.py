"""Vocabularies: one place for terms, synonyms, codes and parents."""

from __future__ import annotations

import pytest
from pydicom.sr._concepts_dict import concepts as dicom_codes

from catalog import vocab

DICOM_TERMS = {value for entry in dicom_codes["DCM"].values() for value in entry}


@pytest.mark.parametrize("facet", vocab.FACETS)
def test_every_word_of_a_facet_leads_to_its_own_term(facet):
    for term in vocab.terms(facet).values():
        assert vocab.resolve(facet, term.name) == term
        for word in term.synonyms:
            assert vocab.resolve(facet, word) == term, word


@pytest.mark.parametrize("facet", vocab.FACETS)
def test_parents_exist_and_form_no_cycle(facet):
    for name in vocab.terms(facet):
        assert name not in vocab.ancestors(facet, name)


@pytest.mark.parametrize("facet", vocab.FACETS)
def test_no_term_stands_for_unknown(facet):
    names = {vocab.normalise(name) for name in vocab.terms(facet)}

    assert names.isdisjoint({"multi", "unspecified", "not anatomy", "unknown", "none", "na"})


def test_modality_codes_are_dicom_terms():
    coded = [term for term in vocab.terms("modality").values() if term.code]

    assert len(coded) > 15
    assert {term.code for term in coded} <= DICOM_TERMS


@pytest.mark.parametrize(
    ("facet", "text", "expected"),
    [
        ("modality", "mri", "MR"),
        ("modality", "PET", "PET"),
        ("modality", "Colour fundus photography", "Fundus photography"),
        ("modality", "whole-slide", "Histopathology"),
        ("anatomy", "Kidneys", "Kidney"),
        ("anatomy", "Oesophagus", "Esophagus"),
        ("task", "seg", "Segmentation"),
        ("disease", "HCC", "Hepatocellular carcinoma"),
        ("access", "Public", "open"),
    ],
)
def test_a_synonym_in_any_spelling_finds_its_term(facet, text, expected):
    assert vocab.resolve(facet, text).name == expected


def test_an_unknown_word_finds_no_term_but_a_near_one():
    assert vocab.resolve("anatomy", "Hipocampus") is None
    assert vocab.nearest("anatomy", "Hipocampus").name == "Hippocampus"
    assert vocab.nearest("anatomy", "qqqqqqqq") is None


def test_a_search_for_a_region_covers_what_lies_in_it():
    assert vocab.ancestors("anatomy", "Hippocampus") == ("Brain", "Head and neck")
    assert {"Brain", "Hippocampus"} <= set(vocab.descendants("anatomy", "Head and neck"))


def test_an_unknown_facet_is_named_with_the_known_ones():
    with pytest.raises(vocab.VocabularyError, match="'colour', expected one of modality"):
        vocab.terms("colour")


def test_what_lists_have_in_common_is_as_narrow_as_it_can_be():
    assert vocab.in_common("anatomy", [["Lung"], ["Heart", "Lung"]]) == ("Lung",)
    assert vocab.in_common("anatomy", [["Lung"], ["Heart"]]) == ("Chest",)
    assert vocab.in_common("anatomy", [["Lung", "Heart"], ["Chest"]]) == ("Chest",)
    assert vocab.in_common("anatomy", [["Lung"], []]) == ()
    assert vocab.in_common("anatomy", []) == ()
