"""The parsers of the metadata sources: cells become canonical values, and nothing is guessed."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest

from catalog import vocab
from catalog.importers import benchmarks, cells, idc, idc_live, lists, openmedlab, openneuro
from catalog.importers.entry import ImportSourceError
from catalog.record import CLAIMED

FILES = {
    "idc": (idc.entries, 205),
    "openneuro": (openneuro.entries, 1199),
    "medmnist": (benchmarks.medmnist, 18),
    "medsegbench": (benchmarks.medsegbench, 35),
    "amid": (lists.amid, 34),
    "aws": (lists.aws, 44),
    "eva": (lists.eva, 20),
    "linhandev": (lists.linhandev, 64),
    "maduc7": (lists.maduc7, 114),
    "mmsegmentation": (lists.mmsegmentation, 29),
    "surgical": (lists.surgical, 28),
    "torch_em": (lists.torch_em, 92),
}


@pytest.fixture(scope="module")
def source_folder(shared_data):
    return shared_data.parent / "sources"


def value(entry, field):
    return entry.facts[field].value if field in entry.facts else None


def numbers(entry_or_counts):
    counts = getattr(entry_or_counts, "counts", entry_or_counts)
    return [(count.number, count.unit, count.split) for count in counts]


# --- cells


@pytest.mark.parametrize(
    ("text", "number"),
    [("1,100", 1100), ("18.365", 18365), ("705", 705), ("0", None), ("0.6", None), ("50+", None)],
)
def test_an_exact_number_is_whole_and_above_zero(text, number):
    assert cells.exact_number(text) == number


@pytest.mark.parametrize(
    ("date", "year"),
    [("2019-02.", 2019), ("May, 2023.", 2023), ("06.19.2018.", 2018), ("TBD", None), ("07", None)],
)
def test_a_year_is_read_from_any_date(date, year):
    assert cells.parse_year(date) == year


@pytest.mark.parametrize(
    ("text", "doi"),
    [
        ("https://doi.org/10.7937/K9/TCIA.2016.ELN8YGLE", "10.7937/k9/tcia.2016.eln8ygle"),
        ("10.1371/journal.pone.0149399&type=printable", "10.1371/journal.pone.0149399"),
        ("10.1093/database/baac093/6762252", "10.1093/database/baac093"),
        ("no doi", None),
    ],
)
def test_a_doi_loses_what_is_no_part_of_it(text, doi):
    assert cells.parse_doi(text) == doi


def test_an_address_is_cut_out_of_markdown_and_lists():
    text = "see [here](https://a.example/x_(y)), https://b.example/z; ~~https://c.example/w~~"

    assert cells.addresses(text) == [
        "https://a.example/x_(y)",
        "https://b.example/z",
        "https://c.example/w",
    ]


@pytest.mark.parametrize(
    ("url", "paper"),
    [
        ("https://doi.org/10.1109/TMI.2018.2837502", True),
        ("https://doi.org/10.5281/zenodo.7860267", False),
        ("https://www.nature.com/articles/s41597-022-01564-3", True),
        ("https://zenodo.org/records/10519652", False),
    ],
)
def test_a_paper_is_told_from_data_by_its_address(url, paper):
    assert cells.is_paper(url) is paper


@pytest.mark.parametrize(
    ("texts", "licence"),
    [
        (("CC BY 4.0",), "CC-BY-4.0"),
        (("CC BY-SA-NC 4.0",), "CC-BY-NC-SA-4.0"),
        (("CC BY", "https://creativecommons.org/licenses/by/4.0/"), "CC-BY-4.0"),
        (("[CC0 1.0 Universal](https://creativecommons.org/publicdomain/zero/1.0/)",), "CC0-1.0"),
        (
            ("licensed under a Creative Commons Attribution-NonCommercial 4.0 International",),
            "CC-BY-NC-4.0",
        ),
        (("EGD data license",), "LicenseRef-EGD"),
        (("CC BY-SA",), None),
        (("[CC-BY-SA 4.0](https://creativecommons.org/licenses/by/4.0/)",), None),
        (("AutoPET: CC BY-NC 4.0, Leipzig: CC BY 4.0",), None),
        (("CC BY-NC-ND 3.0, access limited to research",), None),
        (("Modified Apache 2.0",), None),
        (("Other", "https://zenodo.org/record/2597908"), None),
    ],
)
def test_a_licence_is_named_without_doubt_or_not_at_all(texts, licence):
    assert cells.licence_of(*texts) == licence


def test_an_open_wording_is_kept_when_it_is_short():
    facts = cells.Facts("aws")
    facts.state_licence("[Custom License](https://a.example/licence)")
    facts.state_licence("You may use these data as long as you agree to " + "x" * 70, field="doi")

    assert (facts.claims["licence"].value, facts.claims["licence"].raw) == (None, "Custom License")
    assert "doi" not in facts.claims


def test_a_limb_is_not_its_bones_and_a_side_is_no_other_organ():
    assert cells.find("anatomy", ["leg"]) == ["Musculoskeletal"]
    assert cells.find("anatomy", ["Left kidneys", "left atrium"]) == ["Left atrium", "Kidney"]


def test_the_extra_words_name_terms_that_exist():
    for facet, words in cells.extra_words().items():
        for terms in words.values():
            assert set(terms) <= set(vocab.terms(facet))


@pytest.mark.parametrize(
    ("word", "tasks"),
    [
        ("Lung nodules segmentation", ["Segmentation"]),
        ("Keypoint detection", ["Localization"]),
        ("Out-of-distribution detection", []),
        ("Domain Adaptation", []),
    ],
)
def test_a_task_is_read_from_the_end_of_its_words(word, tasks):
    assert cells.tasks_in([word]) == tasks


def test_a_claim_of_a_term_that_is_none_is_refused():
    with pytest.raises(ValueError, match="nearest: 'Histopathology'"):
        cells.make_claim("modalities", ["Histopatology"], "idc")


@pytest.mark.parametrize("text", ["", "a,b\n1\n", "a\n1\n"])
def test_a_table_without_its_columns_or_cells_is_refused(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text)

    with pytest.raises(ImportSourceError, match=r"t\.csv"):
        cells.read_csv(path, ("a", "b"))


# --- IDC

CITATION = (
    "Hugo, G. D., Small Jr., W., &amp; Lee, E. Y.-P.\n(2016). <i>Data from 4D Lung</i> (Version 2) "
    "[Data set]. The Cancer\nImaging Archive. https://doi.org/10.7937/K9/TCIA.2016.ELN8YGLE"
)


def collection(**more):
    source = {
        "source_type": "original_data",
        "source_title": "Data from 4D Lung",
        "source_doi": "10.7937/k9/tcia.2016.eln8ygle",
        "source_url": "https://doi.org/10.7937/k9/tcia.2016.eln8ygle",
        "citation": CITATION,
    }
    return {
        "collection_id": "4d_lung",
        "collection_name": "4D-Lung",
        "cancer_types": "Non-small Cell Lung Cancer",
        "tumor_locations": "Lung",
        "species": "Human",
        "sources": json.dumps([source]),
        "subjects_in_idc": "20",
        "studies": "589",
        "series": "6690",
        "size_gb": "178.754",
        "modalities": "CT;RTSTRUCT",
        "series_by_modality": "CT:5890;RTSTRUCT:800",
        "licenses": "CC BY 3.0:6690",
        "body_parts": "LUNG:6690",
        **more,
    }


def part(modality, megabytes, *, licence="CC BY 3.0", result=""):
    return {
        "collection_id": "4d_lung",
        "analysis_result_id": result,
        "Modality": modality,
        "license_short_name": licence,
        "size_mb": str(megabytes),
    }


PARTS = [part("CT", 182851.928718), part("RTSTRUCT", 191.975096)]


def test_a_collection_states_what_its_own_series_are():
    entry = idc.parse_collection(collection(), PARTS)

    assert value(entry, "modalities") == ["CT"]
    assert entry.facts["modalities"].raw == "CT;RTSTRUCT"
    assert value(entry, "dimensions") == ["3D"]
    assert value(entry, "diseases") == ["Lung cancer"]
    assert value(entry, "labelled") is True
    assert value(entry, "licence") == value(entry, "licence_labels") == "CC-BY-3.0"
    assert value(entry, "access") == "open"
    assert numbers(entry) == [
        (20, "subject", None),
        (589, "study", None),
        (6690, "series", None),
    ]
    assert [link.kind for link in entry.links] == ["official", "download"]


def test_the_size_is_exact_where_the_parts_give_it():
    assert value(idc.parse_collection(collection(), PARTS), "size_bytes") == 183043903814
    assert value(idc.parse_collection(collection(), []), "size_bytes") == round(178.754 * 1024e6)
    later = [*PARTS, part("SEG", 5000.0, result="others")]
    assert value(idc.parse_collection(collection(), later), "size_bytes") == 183043903814


def test_a_citation_is_read_with_its_authors_and_year():
    entry = idc.parse_collection(collection(), PARTS)

    assert value(entry, "citation").authors == ["Hugo, G. D.", "Small Jr., W.", "Lee, E. Y.-P."]
    assert value(entry, "citation").container == "The Cancer Imaging Archive"
    assert value(entry, "year") == 2016


@pytest.mark.parametrize("names", ["Wu, C., … Li, M.", "Bloch, B. N., & jaffe, conrade carl"])
def test_authors_that_are_cut_or_mixed_are_left_out(names):
    assert idc.parse_authors(names) == []


def test_a_conversion_has_no_year_of_first_publication():
    source = json.loads(collection()["sources"])[0]
    source |= {"source_doi": "10.5281/zenodo.17381396"}
    entry = idc.parse_collection(collection(sources=json.dumps([source])), PARTS)

    assert value(entry, "year") is None
    assert value(entry, "doi") == "10.5281/zenodo.17381396"


def test_several_licences_are_no_licence_but_stay_visible():
    claim = idc.parse_collection(
        collection(licenses="CC BY 4.0:203087;CC BY 3.0:1259"), PARTS
    ).facts["licence"]

    assert (claim.value, claim.raw) == (None, "CC BY 4.0:203087;CC BY 3.0:1259")


def test_a_mark_inside_a_licence_does_not_part_it():
    name = "National Library of Medicine Terms and Conditions; May 21, 2019"

    assert list(idc.counted(f"{name}:39")) == [(name, 39)]


@pytest.mark.parametrize(
    ("cells_of_row", "expected"),
    [
        ({"tumor_locations": "Lung Phantom", "species": "Phantom"}, ["Lung", "Phantom"]),
        ({"tumor_locations": "", "body_parts": "BREAST:5;UNKNOWN:2"}, ["Breast"]),
        ({"tumor_locations": "skin of body", "species": "Canine"}, ["Skin", "Animal model"]),
        ({"tumor_locations": "Extremities"}, ["Musculoskeletal"]),
        ({"tumor_locations": "Mesothelium", "body_parts": ""}, []),
    ],
)
def test_anatomies_come_from_locations_else_body_parts(cells_of_row, expected):
    assert idc.anatomies(collection(**cells_of_row)) == expected


def test_healthy_people_have_no_disease_and_a_phantom_is_not_healthy():
    healthy = idc.parse_collection(collection(cancer_types="Healthy Controls (non-cancer)"), [])
    phantom = idc.parse_collection(collection(cancer_types="Phantom"), [])

    assert value(healthy, "diseases") == []
    assert "diseases" not in phantom.facts


def test_tomosynthesis_is_not_called_flat():
    flat = collection(modalities="MG")
    slabs = collection(modalities="MG", collection_name="Breast-Cancer-Screening-DBT")

    assert value(idc.parse_collection(flat, []), "dimensions") == ["2D"]
    assert value(idc.parse_collection(slabs, []), "dimensions") is None


def test_slides_are_counted_and_labels_may_have_their_own_licence():
    entry = idc.parse_collection(
        collection(modalities="SM", series_by_modality="SM:246"),
        [part("SM", 1), part("ANN", 1, licence="CC BY 4.0", result="others")],
    )

    assert numbers(entry)[-1] == (246, "slide", None)
    assert value(entry, "licence_labels") == "CC-BY-4.0"


def test_the_installed_index_is_summed_up_to_the_same_entry():
    series = [("CT", "", 100.5), ("CT", "", 50.0), ("RTSTRUCT", "", 1.5), ("SEG", "others", 9.0)]
    index = pa.table(
        {
            "collection_id": ["4d_lung"] * 4,
            "analysis_result_id": [result or None for _, result, _ in series],
            "PatientID": ["p1", "p2", "p1", "p1"],
            "StudyInstanceUID": ["1", "2", "1", "1"],
            "SeriesInstanceUID": ["1.1", "2.1", "1.2", "1.3"],
            "Modality": [modality for modality, _, _ in series],
            "BodyPartExamined": ["LUNG", "LUNG", None, None],
            "license_short_name": ["CC BY 3.0"] * 4,
            "series_size_MB": [size for _, _, size in series],
        }
    )
    row = collection(
        subjects_in_idc="2",
        studies="2",
        series="3",
        size_gb="0.148",
        series_by_modality="CT:2;RTSTRUCT:1",
        licenses="CC BY 3.0:3",
    )
    given = {key: [row[key]] for key in idc_live._TEXTS}
    collections = pa.table({**given, "sources": [json.loads(row["sources"])]})
    parts = [part("CT", 150.5), part("RTSTRUCT", 1.5), part("SEG", 9.0, result="others")]

    assert list(idc_live.convert(index, collections)) == [idc.parse_collection(row, parts)]


def test_the_installed_package_gives_what_the_folder_gives(source_folder):
    def plain(entry):
        return replace(entry, facts={k: v for k, v in entry.facts.items() if k != "citation"})

    live = {entry.ref: plain(entry) for entry in idc_live.entries()}
    assert live == {entry.ref: plain(entry) for entry in idc.entries(source_folder)}


# --- OpenNeuro


def dataset(**more):
    return {
        "accession_number": "ds003778",
        "dataset_name": "Adaptive memory",
        "dataset_url": "https://openneuro.org/datasets/ds003778/versions/1.0.0",
        "made_public": "2021-08-30",
        "num_subjects": "32",
        "modalities": "mri_functional, mri_structural, ieeg, beh",
        "dx_status": "",
        "species": "Human",
        "size_gb": "96.07",
        "tasks": "segmentation of stories",
        **more,
    }


def test_a_dataset_states_its_images_and_not_what_subjects_did():
    entry = openneuro.parse_dataset(dataset())

    assert value(entry, "modalities") == ["MR", "EEG"]
    assert value(entry, "modality_details") == [
        "EEG: intracranial",
        "MR: functional",
        "MR: structural",
    ]
    assert value(entry, "dimensions") == ["3D", "4D"]
    assert value(entry, "anatomies") == ["Brain"]
    assert value(entry, "size_bytes") == round(96.07 * 1024**3)
    assert value(entry, "year") == 2021
    assert not {"tasks", "diseases", "doi", "labelled"} & set(entry.facts)


def test_recordings_without_images_are_no_entry():
    assert openneuro.parse_dataset(dataset(modalities="eeg, beh")) is None


def test_only_openneuros_own_accessions_are_cc0():
    assert value(openneuro.parse_dataset(dataset()), "licence") == "CC0-1.0"
    old = openneuro.parse_dataset(dataset(accession_number="ds000030"))
    assert "licence" not in old.facts


@pytest.mark.parametrize(
    ("status", "diseases"),
    [
        ("Healthy / Control", []),
        ("Healthy/Control, gifted children", None),
        ("", None),
        ("ADD/ADHD", ["ADHD"]),
        ("Healthy Volunteers, Depression", ["Depression"]),
        ("Other", None),
        ("PD", None),
    ],
)
def test_diseases_are_named_or_known_to_be_none_or_unknown(status, diseases):
    assert value(openneuro.parse_dataset(dataset(dx_status=status)), "diseases") == diseases


@pytest.mark.parametrize(
    ("name", "species", "anatomies"),
    [
        ("AutomatedZShimSpinalCord", "Human", ["Spine"]),
        ("Brain and spinal cord fMRI", "Human", ["Brain", "Spine"]),
        ("Traveling Human Phantoms", "Human", ["Brain"]),
        ("3AM straight reproducibility phantoms", "", ["Phantom"]),
        ("Resting state", "Macaque ", ["Brain", "Animal model"]),
    ],
)
def test_the_part_is_the_brain_unless_another_is_named(name, species, anatomies):
    entry = openneuro.parse_dataset(dataset(dataset_name=name, species=species.strip()))

    assert value(entry, "anatomies") == anatomies


def test_a_name_left_over_from_a_template_is_replaced():
    entry = openneuro.parse_dataset(dataset(dataset_name="TODO: name of the dataset"))

    assert entry.name == "ds003778"


def test_a_size_that_rounding_spoils_is_left_out():
    assert openneuro.size_bytes("0.01") is None


# --- benchmarks


def test_a_benchmark_gives_the_whole_and_its_parts():
    info = {
        "python_class": "RetinaMNIST",
        "url": "https://zenodo.org/records/10519652/files/retinamnist.npz?download=1",
        "task": "ordinal-regression",
        "label": {"0": "0", "1": "1"},
        "n_samples": {"train": 1080, "val": 120, "test": 400},
        "license": "CC BY 4.0",
    }
    entry = benchmarks.parse_medmnist("retinamnist", info)

    assert value(entry, "tasks") == ["Regression"]
    assert "classes" not in entry.facts
    assert numbers(entry) == [
        (1600, "image", None),
        (1080, "image", "train"),
        (120, "image", "val"),
        (400, "image", "test"),
    ]
    assert entry.links[0].url == "https://zenodo.org/records/10519652"
    assert numbers(benchmarks.parse_medmnist("x3d", info))[0][1] == "volume"


def test_parts_by_label_are_no_parts_of_the_whole():
    samples = {"train": 47, "val": 6, "test": 27, "train_C1": 47, "val_C1": 6}

    assert numbers(benchmarks.counts("medsegbench", samples, "image"))[0][0] == 80
    assert benchmarks.classes({"0": "background", "1": "foreground"}) == []


# --- lists


def test_words_for_mr_keep_their_sequence_as_a_detail():
    assert lists.amid_modalities("FLAIR, MRI T1, DSC MRI, CE CT, SEG") == (
        ["MR", "CT"],
        ["MR: FLAIR", "MR: T1", "MR: DSC", "CT: CE"],
    )


def aws_item(**more):
    return {
        "id": "msd",
        "name": "Medical Segmentation Decathlon (MSD)",
        "documentation": "http://medicaldecathlon.com",
        "tags": ["magnetic resonance imaging", "microscopy", "segmentation", "nifti"],
        "license": "[CC-BY-SA 4.0](https://creativecommons.org/licenses/by/4.0/)",
        "citation": None,
        "resources": [{"controlled_access": None}],
        "publications": [],
        **more,
    }


def test_tags_name_modalities_but_not_a_loose_one():
    entry = lists.parse_aws(aws_item())

    assert value(entry, "modalities") == ["MR"]
    assert entry.facts["licence"].value is None
    assert entry.aliases == ("MSD",)
    assert value(entry, "access") == "open"


def test_a_licence_for_software_does_not_free_data_behind_a_form():
    form = [{"controlled_access": "https://fastmri.example/"}]
    entry = lists.parse_aws(aws_item(license="MIT License", resources=form))

    assert (entry.facts["licence"].value, entry.facts["licence"].raw) == (None, "MIT License")
    assert "access" not in entry.facts


def test_numbers_of_eva_are_those_that_it_uses():
    item = {
        "page": "breakhis.md",
        "title": "BreakHis",
        "Modality": "Vision (WSI patches)",
        "Task": "Multiclass classification (4 classes)",
        "Cancer type": "Breast",
        "Number of images": "1,471 (a part)",
        "splits": [["Splits", "Train", "Validation"], ["#Samples", "1132 (77%)", "339 (23%)"]],
        "license": "The BreakHis data are held under the [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/) license.",  # noqa: E501
        "links": ["https://web.inf.ufpr.br/x", "https://creativecommons.org/licenses/by/4.0/"],
    }
    entry = lists.parse_eva(item)

    assert entry.ref == "breakhis"
    assert {count.what for count in entry.counts} == {"used by eva"}
    assert numbers(entry)[1] == (1132, "image", "train")
    assert (value(entry, "anatomies"), value(entry, "diseases")) == (["Breast"], ["Breast cancer"])
    assert (value(entry, "licence"), entry.facts["licence"].raw) == ("CC-BY-4.0", "CC BY 4.0")
    assert len(entry.links) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("131+70", [(201, None, None)]),
        ("126训练+64测试", [(190, None, None), (126, None, "train"), (64, None, "test")]),
        (
            "22,601(训练)+4,574(测试)",
            [(27175, None, None), (22601, None, "train"), (4574, None, "test")],
        ),
        ("97患者/237套", [(97, "subject", None)]),
        ("88.3K张图片", [(88300, "image", None)]),
        ("40CT+120MRI", []),
        ("1000(初赛) + 2000(复赛)", []),
        ("*", []),
    ],
)
def test_chinese_counts_are_read_where_they_are_plain(text, expected):
    assert numbers(lists.zh_counts(text)) == expected


def zh_row(**more):
    names = ("organ_section_zh", "heading", "name", "url", "annotation_zh", "task_zh", "modality")
    more_names = ("count", "label_format", "file_format", "license", "license_url")
    return {**dict.fromkeys([*names, *more_names], ""), "name": "X", **more}


def test_cells_that_moved_to_the_right_are_moved_back():
    row = zh_row(organ_section_zh="脑", task_zh="分割", count="CT", label_format="491组扫描")
    entry = lists.parse_linhandev(row, "CQ500")

    assert value(entry, "modalities") == ["CT"]
    assert value(entry, "tasks") == ["Segmentation"]
    assert entry.counts == ()


def test_a_word_for_microscopy_is_followed_only_where_its_section_says_which():
    slide = zh_row(organ_section_zh="前列腺", modality="镜检图片", annotation_zh="前列腺癌分级")
    smear = zh_row(organ_section_zh="镜检", modality="镜检", annotation_zh="四种血细胞类型")

    assert "modalities" not in lists.parse_linhandev(slide, "PANDA").facts
    assert value(lists.parse_linhandev(smear, "b"), "modalities") == ["Microscopy"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("18.365 images from 200 patients", [(18365, "image", None), (200, "subject", None)]),
        ("7.909 (2480 benign, 5429 malignant)", [(7909, None, None)]),
        ("1058 (train 0.6, valid 0.2, test 0.2)", [(1058, None, None)]),
        ("Train: 27 images, Test: 14 images", [(27, "image", "train"), (14, "image", "test")]),
        (
            "3,152 patches (train: 2,175; test: 977)",
            [(3152, "patch", None), (2175, None, "train"), (977, None, "test")],
        ),
        ("280k patches (from 20 wsi)", [(280000, "patch", None), (20, "slide", None)]),
        ("Train: 111 normal, 842 serrated, Test: 705 normal", []),
        ("Subset 1: train 105, test 45; Subset2: train 37 ,test 16", []),
        ("WSIROIS: 195 wsi, WSIBULK: 93, WSITILS: 82", []),
        ("783 tissue slides and 128 other tissue slides", []),
        (">2.6M patches", []),
        ("50+ sets", []),
    ],
)
def test_sizes_of_slide_sets_are_read_where_they_are_plain(text, expected):
    assert numbers(lists.maduc7_counts(text)) == expected


def slides(**more):
    row = {
        "name": "LC25000",
        "organs": "multiple (lung, colon)",
        "staining": "H&E",
        "data_url": "paip2020.grand-challenge.org/",
        "paper_url": "https://arxiv.org/abs/1912.12142",
        "size": "",
        "data": "images + label",
        "task": "patch (768x768)",
        "wsi_or_patch": "classi",
        "year": "2019",
    }
    return lists.parse_maduc7({**row, **more}, "LC25000")


def test_swapped_cells_of_a_slide_set_are_told_apart():
    entry = slides()

    assert value(entry, "tasks") == ["Classification"]
    assert value(entry, "anatomies") == ["Lung", "Colon"]
    assert entry.links[0].url == "https://paip2020.grand-challenge.org/"


def test_a_blood_smear_is_no_histopathology_and_reg_is_left_open():
    entry = slides(staining="Wright's stain", task="seg + classi + reg", wsi_or_patch="patch")

    assert value(entry, "modalities") == ["Microscopy"]
    assert value(entry, "tasks") == ["Segmentation", "Classification"]


def test_a_disease_in_place_of_an_organ_is_a_disease():
    entry = slides(organs="Clear Cell Renal Cell Carcinoma")

    assert value(entry, "diseases") == ["Renal cell carcinoma"]
    assert value(slides(organs="Skin (Canine)"), "anatomies") == ["Skin", "Animal model"]


def test_rows_of_one_name_get_refs_of_their_own():
    rows = [("Kather", "https://z.org/1#a"), ("Kather", "https://z.org/2"), ("Lizard", "")]

    assert list(cells.unique_refs(rows)) == ["Kather @ z.org/1", "Kather @ z.org/2", "Lizard"]


def test_a_sentence_gives_facts_and_is_not_carried_over():
    item = {
        "group": "medical",
        "id": "dca1",
        "summary": "The DCA1 dataset contains annotations for artery segmentation in X-Ray Angiograms.",  # noqa: E501
        "doi_or_paper": [
            "http://personal.cimat.mx:8181/x.html",
            "https://doi.org/10.3390/app9245507",
        ],
        "license_mention": "",
    }
    entry = lists.parse_torch_em(item)

    assert entry.name == "DCA1"
    assert value(entry, "modalities") == ["Angiography"]
    assert value(entry, "anatomies") == ["Vessel"]
    assert {claim.raw for claim in entry.facts.values()} == {None}
    assert [link.kind for link in entry.links] == ["official", "paper"]


def test_images_of_a_surgical_list_have_their_unit_and_procedures_none():
    row = {
        "task": "Skill assessment and workflow recognition",
        "name": "X",
        "url": "https://x.example/d",
        "description": "Labelled laparoscopic frames.",
        "images": "1.3M",
        "procedures": "101",
        "paper_url": "",
    }
    entry = lists.parse_surgical(row)

    assert value(entry, "tasks") == ["Phase recognition"]
    assert value(entry, "modalities") == ["Endoscopy"]
    assert numbers(entry) == [(1_300_000, "image", None), (101, None, None)]


# --- OpenMedLab


def page(**more):
    meta = {
        "Dimensions": "3D",
        "Modality": "CT, MR",
        "Task Type": "Segmentation",
        "Anatomical Structures": "Liver, left kidney.",
        "Anatomical Area": "abdomen",
        "Number of Categories": "2",
        "Data Volume": "20 for training, 20 for validation.",
        "File Format": "dicom",
        **more.pop("meta", {}),
    }
    line = {"section": "Abdomen", "name": "CHAOS", "description": "3D CT&MRI, 40 Cases, 2 Organs"}
    table = [["Metric", "Liver", "Kidney"], ["Case Count", "20", "20"], ["Coverage", "1", "1"]]
    return {
        "file": "CHAOS.md",
        "title": "CHAOS",
        "meta": [meta],
        "list_entries": [line],
        "label_statistics": [table],
        "publication_date": "2019-04.",
        "official_website": "https://chaos.grand-challenge.org/",
        "download_link": "Fill out the form and send it to the organizer.",
        "article": "TBD",
        "doi": ["10.1016/j.media.2020.101950"],
        "citation_title": "CHAOS \\& more",
        "citation_year": 2021,
        **more,
    }


def parsed(**more):
    return next(openmedlab.convert([page(**more)]))


def test_a_page_states_its_cells():
    entry = parsed()

    assert value(entry, "modalities") == ["MR", "CT"]
    assert value(entry, "anatomies") == ["Liver", "Kidney"]
    assert value(entry, "classes") == ["Liver", "Kidney"]
    assert value(entry, "year") == 2019
    assert value(entry, "citation").title == "CHAOS & more"
    assert numbers(entry) == [(40, None, None), (20, None, "train"), (20, None, "val")]
    assert [(link.kind, link.url) for link in entry.links] == [
        ("official", "https://chaos.grand-challenge.org/")
    ]


def test_a_number_that_the_lists_own_line_contradicts_is_left_out():
    assert parsed(meta={"Data Volume": "1204"}).counts == ()


@pytest.mark.parametrize(
    ("text", "whole", "unit"),
    [
        ("171,375", 171375, None),
        ("14K", 14000, None),
        ("59 videos ( ~15h)", 59, "video"),
        ("train 105, val 30, test 40", 175, None),
        ("154(train) + 50(val)", 204, None),
        ("Task 1: 60 for training, 34 for test; Task 2: 130 for training", None, None),
        ("5101 (4000)", None, None),
        ("280G", None, None),
    ],
)
def test_a_data_volume_is_one_number_or_a_sum_of_splits(text, whole, unit):
    found, _, kind = openmedlab.data_volume(text)

    assert (found, kind) == (whole, unit)


def test_a_table_that_two_pages_share_is_a_left_over():
    pages = [page(), page(file="OTHER.md", title="Other")]

    assert [value(entry, "classes") for entry in openmedlab.convert(pages)] == [None, None]


def test_a_single_class_that_the_page_does_not_speak_of_is_a_left_over():
    table = [["Category", "Retinal Vessel"], ["Number of Images", "58"], ["Coverage", "1"]]
    one = {"Number of Categories": "1"}

    assert value(parsed(label_statistics=[table], meta=one), "classes") is None
    spoken = {**one, "Anatomical Structures": "Fundus blood vessels"}
    assert value(parsed(label_statistics=[table], meta=spoken), "classes") == ["Retinal Vessel"]


def test_names_of_classes_may_hold_letters_of_measures():
    table = [
        ["Category", "Number", "Percentage"],
        ["1 - Serrated adenoma", "5", "1%"],
        ["Small_intestine (小肠)", "7", "2%"],
    ]

    assert value(parsed(label_statistics=[table]), "classes") == [
        "Serrated adenoma",
        "Small_intestine",
    ]


def resolution(*triples):
    names = ("min", "median", "max")
    return [
        {"Dataset Statistics": name, "spacing (mm)": triple}
        for name, triple in zip(names, triples, strict=True)
    ]


def test_spacing_is_three_finite_numbers_that_rise():
    rows = resolution("(0.56,0.56, 1.0)", "0.7*0.7*1.6", "(0.96, 0.96, 4.0)")

    assert openmedlab.spacing(rows)["max_mm"] == [0.96, 0.96, 4.0]
    assert openmedlab.spacing(resolution("(195, 233, 159)", "(1,1,1)", "(1,1,1)")) is None
    assert openmedlab.spacing(resolution("(1, 1, 1)", "(0.5, 1, 1)", "(1, 1, 1)")) is None
    assert openmedlab.spacing(resolution("(1, 1)", "(1, 1)", "(1, 1)")) is None


def test_pages_on_texts_and_recordings_are_skipped_and_template_titles_replaced():
    text = page(
        list_entries=[{"section": "Text dataset", "name": "X", "description": "QA, 5 Cases"}]
    )
    waves = page(meta={"EEG Sampling Rate": "500 Hz"})
    untitled = page(title="Dataset Name")

    assert [entry.name for entry in openmedlab.convert([text, waves, untitled])] == ["CHAOS"]


# --- the real files


@pytest.mark.parametrize("source", FILES)
def test_every_row_of_a_source_is_one_entry(source, source_folder):
    read, number = FILES[source]
    found = list(read(source_folder))

    assert len(found) == len({entry.ref for entry in found}) == number
    assert {entry.source for entry in found} == {source}


def test_the_image_pages_of_openmedlab_are_entries(source_folder):
    found = list(openmedlab.entries(source_folder))

    assert 345 <= len(found) <= 360
    assert not {"Dataset Name", ""} & {entry.name for entry in found}


def test_no_entry_carries_a_sentence_or_an_unknown_field(source_folder):
    found = [
        *idc.entries(source_folder),
        *openneuro.entries(source_folder),
        *benchmarks.entries(source_folder),
        *lists.entries(source_folder),
        *openmedlab.entries(source_folder),
    ]
    raws = [claim.raw for entry in found for claim in entry.facts.values() if claim.raw is not None]

    assert {field for entry in found for field in entry.facts} <= set(CLAIMED)
    assert max(map(len, raws)) <= cells.RAW_LENGTH
    assert [raw for raw in raws if raw.count(". ") > 1 and raw.endswith(".")] == []
    assert all(entry.name and len(entry.name) <= cells.MAX_NAME for entry in found)


@pytest.mark.parametrize("read", [idc.entries, benchmarks.medmnist, lists.amid, openmedlab.entries])
def test_a_folder_without_the_files_is_refused(read, tmp_path):
    with pytest.raises(ImportSourceError, match="expected in"):
        list(read(tmp_path))
