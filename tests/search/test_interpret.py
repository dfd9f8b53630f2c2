from __future__ import annotations

import pytest

from catalog.search.interpret import Understood, WordMatch, interpret, words_to_look_up
from catalog.search.words import fold, index_words, singular


@pytest.mark.parametrize(
    ("text", "concepts"),
    [
        ("MRI", {("modality", "MR", "mri")}),
        ("CXR", {("modality", "X-ray", "cxr")}),
        ("chest X-ray", {("anatomy", "Chest", "chest"), ("modality", "X-ray", "x ray")}),
        ("xray", {("modality", "X-ray", "xray")}),
        ("brain tumor seg", {("disease", "Brain tumour", "brain tumor"),
                             ("task", "Segmentation", "seg")}),
        ("kidneys 3-D", {("anatomy", "Kidney", "kidneys"), ("dimension", "3D", "3 d")}),
        ("GBM", {("disease", "Glioblastoma", "gbm")}),
        ("H&E slides", {("modality", "Histopathology", "h&e")}),
        ("oesophagus open access", {("anatomy", "Esophagus", "oesophagus"),
                                    ("access", "open", "open access")}),
    ],
)  # fmt: skip
def test_words_of_the_vocabulary_become_concepts(text, concepts):
    assert {(c.facet, c.term, c.source) for c in interpret(text).understood} == concepts


def test_typing_slips_become_the_concept_that_was_meant():
    asked = "tuberculsis chst xray"

    reading = interpret(asked, {word: WordMatch() for word in words_to_look_up(asked)})

    assert [(c.term, c.source) for c in reading.concepts] == [
        ("Tuberculosis", "tuberculsis"), ("Chest", "chst"), ("X-ray", "xray"),
    ]  # fmt: skip
    assert reading.free == ()


def test_a_word_that_the_index_knows_is_no_slip():
    assert "cheat" in words_to_look_up("cheat")
    assert interpret("cheat", {"cheat": WordMatch(known=True)}).free == ("cheat",)
    assert interpret("cheat", {"cheat": WordMatch()}).concepts == (
        Understood("anatomy", "Chest", "cheat"),
    )


@pytest.mark.parametrize(("word", "alike"), [("wound", "sound"), ("dissection", "direction")])
def test_a_word_of_english_is_no_slip_of_another(word, alike):
    assert interpret(word, {word: WordMatch(similar={alike: 9})}).free == (word,)


def test_a_word_of_english_is_a_slip_of_a_concept_one_letter_away():
    (concept,) = interpret("prostrate mri", {"prostrate": WordMatch()}).concepts[:1]

    assert (concept.term, concept.source) == ("Prostate", "prostrate")


def test_a_slip_in_a_name_is_corrected_from_the_index_and_said():
    reading = interpret("acrobatt", {"acrobatt": WordMatch(similar={"acrobat": 2, "acrobats": 1})})

    assert reading.free == ("acrobat",)
    assert reading.understood == (Understood("text", "acrobat", "acrobatt"),)


def test_names_with_digits_and_short_words_are_never_corrected():
    matches = {word: WordMatch(similar={"isic18": 1, "xyz": 9}) for word in ("isic19", "xyy")}

    assert interpret("isic19 xyy", matches).free == ("isic19", "xyy")


def test_filler_words_are_dropped_unless_there_is_nothing_else():
    assert interpret("images of the liver from MRI scans").free == ()
    assert interpret("image dataset").free == ("image", "dataset")


def test_other_scripts_are_searched_for_and_not_dropped():
    assert interpret("眼底").free == ("眼底",)


def test_every_spelling_of_a_name_is_indexed():
    assert {"chase", "db1", "chasedb1"} <= set(index_words(["CHASE_DB1"]))
    assert {"brats2021", "brats", "2021"} <= set(index_words(["BraTS2021"]))
    assert fold("Ménière's  Œdème") == "menieres œdeme"
    assert [singular(word) for word in ("lungs", "pus", "glass", "us")] == [
        "lung", "pus", "glass", "us",
    ]  # fmt: skip
