"""The concept table: codes that exist, sides that fit, parents that lead upwards."""

from __future__ import annotations

import dataclasses

import pytest
from pydicom.sr._concepts_dict import concepts as dicom_codes

from catalog import concepts
from catalog.vocab import VocabularyError

TABLE = concepts.concepts()
NEEDED = [
    "retinal_vessel",
    "optic_disc",
    "fovea",
    "hippocampus",
    "hippocampus_left",
    "hippocampus_right",
    "hippocampus_anterior",
    "hippocampus_posterior",
    "grey_matter",
    "white_matter",
    "csf",
    "brain",
    "spinal_cord",
    "spinal_grey_matter",
    "spleen",
    "liver",
    "kidney_left",
    "kidney_right",
    "pancreas",
    "gallbladder",
    "stomach",
    "lung",
    "heart",
    "aorta",
    "prostate",
    "bladder",
    "brain_tumour",
    "brain_tumour_necrosis",
    "brain_tumour_oedema",
    "brain_tumour_enhancing",
    "brain_tumour_non_enhancing",
    "breast_lesion",
    "pneumonia",
    "covid19",
    "cell_nucleus",
    "cytoplasm",
    "neutrophil",
    "lymphocyte",
    "monocyte",
    "eosinophil",
    "basophil",
    "skin_lesion",
    "polyp",
]


def test_the_concepts_of_the_sample_sources_are_there():
    assert [name for name in NEEDED if name not in TABLE] == []


def test_every_code_stands_in_pydicoms_dictionaries_with_its_meaning():
    wrong = []
    for row in TABLE.values():
        if row.code is None:
            continue
        entries = dicom_codes[row.code.scheme].values()
        meanings = {entry[row.code.value][0] for entry in entries if row.code.value in entry}
        if row.code.meaning not in meanings:
            wrong.append((row.id, row.code, meanings))
    assert wrong == []


def test_no_two_concepts_share_code_and_side():
    keys = [(row.code, row.laterality) for row in TABLE.values() if row.code]

    assert len(keys) == len(set(keys))


def test_a_side_has_an_unpaired_parent():
    for row in TABLE.values():
        if row.laterality:
            assert any(TABLE[parent].laterality is None for parent in row.is_a), row.id


def test_a_shared_code_and_side_is_refused():
    twin = dataclasses.replace(TABLE["spleen"], id="milt")

    with pytest.raises(VocabularyError, match="'spleen' and 'milt' share"):
        concepts.check([TABLE["spleen"], twin])


def test_a_missing_parent_and_a_cycle_are_refused():
    orphan = concepts.Concept("a", "A", "anatomy", part_of=("b",))
    loop = concepts.Concept("b", "B", "anatomy", is_a=("a",))

    with pytest.raises(VocabularyError, match="parent 'b' is no concept"):
        concepts.check([orphan])
    with pytest.raises(VocabularyError, match="its own ancestor"):
        concepts.check([orphan, loop])


def test_a_word_of_a_concept_finds_it_and_a_typo_names_the_nearest():
    assert concepts.resolve("gray matter").id == "grey_matter"
    with pytest.raises(VocabularyError, match="nearest: hippocampus"):
        concepts.concept("hipocampus")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kidneys", "kidney"),
        ("Lung nodules", "lung_nodule"),
        ("vertebrae", "vertebra"),
        ("melanocytic nevi", "melanocytic_naevus"),
        ("lymph node metastases", "lymph_node_metastasis"),
        ("opacities", "lung_opacity"),
        ("Pancreas Tumors", "pancreas_tumour"),
        ("esophageal", None),
        ("White matter hyperintensity", "white_matter_hyperintensity"),
        ("Hip, Left", "hip_bone_left"),
        ("Parotid_L", "parotid_gland_left"),
        ("atrium_L", "left_atrium"),
        ("Rib, Left 10th", "rib_left_10"),
        ("CottonWoolSpots", "soft_exudate"),
        ("LV (Left Ventricle)", "left_ventricle"),
        ("Melanoma (MEL)", "melanoma"),
        ("Gland_Thyroid (thyroid gland)", "thyroid_gland"),
        ("Fundus Blood Vessels", "retinal_vessel"),
    ],
)
def test_number_spelling_side_and_short_form_do_not_tell_names_apart(text, expected):
    found = concepts.resolve(text)

    assert (found and found.id) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Lung Nodule (Det)",  # a task, no short form
        "Liver (spleen)",
        "Prostate (Post)",
        "GTVp (Primary Tumor)",
        "No Pneumothorax",
        "edema",  # of a brain tumour or of the lung
        "Necrosis",
        "gland",
        "pituitary",  # the gland, or its tumours
        "pancrea",
        "ETs",
    ],
)
def test_a_doubtful_name_means_nothing(text):
    assert concepts.resolve(text) is None


def test_no_word_means_two_concepts_in_any_spelling():
    owners: dict[str, str] = {}
    twice = [
        (word, owners[word], row.id)
        for row in TABLE.values()
        for word in {concepts._key(w) for w in (*concepts._names(row), *concepts._sided(row))}
        if owners.setdefault(word, row.id) != row.id
    ]
    assert twice == []


def test_no_plural_of_a_name_is_the_name_of_another_concept():
    wrong = [
        (word, row.id)
        for row in TABLE.values()
        for word in concepts._names(row)
        for other in (f"{word}s", f"{word}es")
        if concepts.resolve(other) not in (row, None)
    ]
    assert wrong == []
