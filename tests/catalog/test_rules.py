"""Rule files: what is accepted, what each key does, the figures, and the paper's Table 6."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from catalog.rule_pool import effective_number
from catalog.rule_selection import TABLE_6, Selection, compare, search_params, select
from catalog.rules import DEFAULT, KEYS, Rules, RulesError, SelectionRules, check_rules, parse_rules
from tests.conftest import ROOT
from tests.factories import make_dataset, make_facts

# The rule file of the paper's portal, byte for byte as a user would paste it.
PUBLISHED = """
{
  "dimension": "2D",
  "modalities": ["CT", "MR", "Fundus"],
  "task_types": ["classification", "segmentation", "detection", "regression"],
  "license_allowlist": null,
  "include_unlabeled": true,
  "prefer_labeled": true,
  "min_valid_image_n_per_dataset": 100,
  "anatomy_whitelist": [],
  "release_date_min": null,
  "allow_3d_as_2d_sources": false,
  "selection": {
    "enable": false,
    "min_datasets_per_modality": 2,
    "min_orgs_per_modality": 2,
    "storage_budget_gb": null
  }
}
"""


def facts(slug: str = "one", images: int | None = 500, **fields: Any) -> dict[str, Any]:
    """A dataset that the published rules keep; None takes a field away."""
    counts = [{"number": images, "unit": "image", "source": "curation"}] if images else []
    known = {
        "dimensions": ["2D"],
        "modalities": ["CT"],
        "anatomies": ["Liver"],
        "tasks": ["Segmentation"],
        "labelled": True,
        "licence": "CC-BY-4.0",
        "publisher": "Hospital A",
        "year": 2015,
        "counts": counts,
        **fields,
    }
    return make_facts(slug, **{key: value for key, value in known.items() if value is not None})


def kept(datasets: list[dict[str, Any]], **rules: Any) -> list[str]:
    return [row.slug for row in select(datasets, check_rules(rules)).kept]


def failed(dataset: dict[str, Any], **rules: Any) -> list[str]:
    """Every rule that drops a dataset, the first one first."""
    found = select([dataset], check_rules(rules)).dropped
    return [failure.rule for row in found for failure in row.failures]


def line(selection: Selection, modality: str) -> Any:
    return next(row for row in (*selection.lines, selection.total) if row.modality == modality)


# What is accepted


def test_the_published_rule_file_is_taken_as_it_is():
    rules = parse_rules(PUBLISHED)

    assert json.loads(PUBLISHED) == dict(DEFAULT)
    assert rules == Rules()
    assert rules.modalities == ["CT", "MR", "Fundus photography"]


def test_rules_written_out_are_the_same_rules_when_read_again():
    rules = check_rules({"dimension": "3d", "license_allowlist": ["CC BY 4.0"]})

    assert parse_rules(json.dumps(rules.as_dict())) == rules
    assert check_rules(rules.differences()) == rules


def test_words_become_canonical_terms_and_licence_ids():
    rules = check_rules(
        {
            "modalities": ["MRI", "mr", "CXR"],
            "task_types": ["seg"],
            "anatomy_whitelist": ["abdominal"],
            "license_allowlist": ["cc by-nc 4.0", "mit"],
        }
    )

    assert rules.modalities == ["MR", "X-ray"]
    assert rules.task_types == ["Segmentation"]
    assert rules.anatomy_whitelist == ["Abdomen"]
    assert rules.license_allowlist == ["CC-BY-NC-4.0", "MIT"]


@pytest.mark.parametrize(
    ("data", "path", "nearest"),
    [
        ({"modality": ["CT"]}, "modality", "modalities"),
        ({"licence_allowlist": None}, "licence_allowlist", "license_allowlist"),
        ({"include_unlabelled": True}, "include_unlabelled", "include_unlabeled"),
        ({"valid_image_n": 3}, "valid_image_n", "min_valid_image_n_per_dataset"),
        ({"storage_budget_gb": 3}, "storage_budget_gb", "selection.storage_budget_gb"),
        ({"selection": {"enabled": True}}, "selection.enabled", "selection.enable"),
        ({"modalities": ["CT", "CTT"]}, "modalities[1]", "CT"),
        ({"task_types": ["segmentatoin"]}, "task_types[0]", "Segmentation"),
        ({"anatomy_whitelist": ["abdomn"]}, "anatomy_whitelist[0]", "Abdomen"),
        ({"license_allowlist": ["CC-BY-4.O"]}, "license_allowlist[0]", "CC-BY-4.0"),
        ({"license_allowlist": ["unknown"]}, "license_allowlist[0]", None),
        ({"license_allowlist": []}, "license_allowlist", None),
        ({"license_allowlist": "MIT"}, "license_allowlist", None),
        ({"dimension": "Text"}, "dimension", None),
        ({"include_unlabeled": "yes"}, "include_unlabeled", None),
        ({"include_unlabeled": None}, "include_unlabeled", None),
        ({"min_valid_image_n_per_dataset": -1}, "min_valid_image_n_per_dataset", None),
        ({"min_valid_image_n_per_dataset": True}, "min_valid_image_n_per_dataset", None),
        ({"release_date_min": "2020-13"}, "release_date_min", None),
        ({"release_date_min": "since 2020"}, "release_date_min", None),
        ({"selection": []}, "selection", None),
        ({"selection": {"storage_budget_gb": 0}}, "selection.storage_budget_gb", None),
        ({"selection": {"storage_budget_gb": float("inf")}}, "selection.storage_budget_gb", None),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place_and_the_nearest(data, path, nearest):
    with pytest.raises(RulesError) as caught:
        check_rules(data)

    (fault,) = caught.value.faults
    assert (fault.path, fault.nearest) == (path, nearest)
    assert fault.found
    assert fault.expected
    assert fault.message in str(caught.value)


def test_everything_that_is_wrong_is_told_at_once():
    with pytest.raises(RulesError) as caught:
        check_rules({"modalities": ["CTT", 5], "tasks": [], "include_unlabeled": 1})

    paths = [error["path"] for error in caught.value.errors]
    assert sorted(paths) == ["include_unlabeled", "modalities[0]", "modalities[1]", "tasks"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1, column 1"),
        ('{"modalities": [', "line 1, column 17"),
        ("[]", "expected an object of keys"),
        ('{"dimension": "2D", "dimension": "3D"}', "dimension: found the key twice"),
        ('{"selection": {"storage_budget_gb": NaN}}', "found NaN"),
        ('{"min_valid_image_n_per_dataset": ' + "9" * 5000 + "}", "expected JSON"),
        ("[" * 60_000, "deep nesting"),
        (" " * 70_000, "at most 65536"),
        (b'{"dimension": "\xff"}', "no UTF-8 at byte 15"),
        ('{"x\\ud800": 1}', "ud800"),
    ],
)
def test_text_that_is_no_rule_file_is_refused_with_the_place(text, said):
    with pytest.raises(RulesError) as caught:
        parse_rules(text)

    assert said in str(caught.value)
    str(caught.value).encode()  # can be sent, whatever was in it


def test_every_key_is_documented_in_the_code_and_on_the_page():
    paths = [name for name in Rules.model_fields if name != "selection"]
    paths += [f"selection.{name}" for name in SelectionRules.model_fields]
    page = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")

    assert [key.name for key in KEYS] == paths
    rows = [f"| `{key.name}` | {key.meaning} | {key.published or '-'} |" for key in KEYS]
    assert [row for row in rows if row not in page] == []


# What each key does


@pytest.mark.parametrize(
    ("rules", "fields", "rule"),
    [
        ({}, {"dimensions": ["2D", "3D"]}, "dimension"),
        ({}, {"dimensions": ["3D"]}, "dimension"),
        ({}, {"dimensions": []}, "dimension"),
        ({"dimension": "3D"}, {}, "dimension"),
        ({"include_mixed": True}, {"dimensions": ["3D", "Video"]}, "dimension"),
        ({"allow_3d_as_2d_sources": True}, {"dimensions": ["2D", "Video"]}, "dimension"),
        ({"dimension": "4D", "allow_3d_as_2d_sources": True}, {"dimensions": ["3D"]}, "dimension"),
        ({"modalities": ["MR"]}, {}, "modalities"),
        ({}, {"modalities": []}, "modalities"),
        ({}, {"tasks": ["Registration"]}, "task_types"),
        ({}, {"tasks": []}, "task_types"),
        ({"anatomy_whitelist": ["brain"]}, {}, "anatomy_whitelist"),
        ({"anatomy_whitelist": ["liver"]}, {"anatomies": ["Abdomen"]}, "anatomy_whitelist"),
        ({"anatomy_whitelist": ["liver"]}, {"anatomies": []}, "anatomy_whitelist"),
        ({"include_unlabeled": False}, {"labelled": False}, "include_unlabeled"),
        ({"include_unlabeled": False}, {"labelled": None}, "include_unlabeled"),
        ({}, {"images": 99}, "min_valid_image_n_per_dataset"),
        ({}, {"images": None}, "min_valid_image_n_per_dataset"),
        ({"release_date_min": "2016"}, {}, "release_date_min"),
        ({"release_date_min": 2016}, {}, "release_date_min"),
        ({"release_date_min": "2010-01-01"}, {"year": None}, "release_date_min"),
        ({"license_allowlist": ["MIT"]}, {}, "license_allowlist"),
        ({"license_allowlist": ["CC-BY-4.0"]}, {"licence": None}, "license_allowlist"),
        (
            {"license_allowlist": ["CC-BY-4.0"]},
            {"licence_labels": "CC-BY-NC-4.0"},
            "license_allowlist",
        ),
    ],
)  # fmt: skip
def test_a_key_drops_what_does_not_fit_and_what_is_unknown(rules, fields, rule):
    assert failed(facts(**fields), **rules) == [rule]


@pytest.mark.parametrize(
    ("rules", "fields"),
    [
        ({}, {}),
        ({}, {"dimensions": ["2D", "Text"]}),
        ({"include_mixed": True}, {"dimensions": ["2D", "3D"]}),
        ({"allow_3d_as_2d_sources": True}, {"dimensions": ["3D"]}),
        ({"allow_3d_as_2d_sources": True}, {"dimensions": ["2D", "3D", "4D"]}),
        ({"dimension": None}, {"dimensions": []}),
        ({"modalities": []}, {"modalities": []}),
        ({"modalities": None}, {"modalities": ["OCT"]}),
        ({"modalities": ["X-ray"]}, {"modalities": ["Mammography"]}),
        ({}, {"modalities": ["PET", "CT"]}),
        ({"task_types": None}, {"tasks": []}),
        ({"task_types": ["prediction"]}, {"tasks": ["Survival prediction"]}),
        ({"anatomy_whitelist": ["abdomen"]}, {}),
        ({"include_unlabeled": True}, {"labelled": None}),
        ({}, {"images": 100}),
        ({"min_valid_image_n_per_dataset": 0}, {"images": None}),
        ({"min_valid_image_n_per_dataset": None}, {"images": None}),
        ({"release_date_min": "2015-06"}, {}),
        ({"license_allowlist": ["CC BY 4.0"]}, {"licence_labels": "CC-BY-4.0"}),
        ({"license_allowlist": None}, {"licence": None}),
    ],
)
def test_a_key_keeps_what_fits(rules, fields):
    assert failed(facts(**fields), **rules) == []


def test_a_dropped_dataset_tells_the_first_rule_and_all_others_with_what_it_has():
    dataset = facts(dimensions=["3D"], tasks=["Atlas"], images=7)

    (row,) = select([dataset], Rules()).dropped

    assert (row.rule, row.phase) == ("dimension", 1)
    assert [(one.rule, one.found, one.expected) for one in row.failures] == [
        ("dimension", "3D", "2D alone"),
        ("task_types", "Atlas", "Classification or Segmentation or Detection or Regression"),
        ("min_valid_image_n_per_dataset", "7", "at least 100 images"),
    ]


def test_each_dataset_is_kept_or_dropped_and_the_phases_add_up():
    datasets = [
        facts("a"),
        facts("b", dimensions=["3D"], tasks=["Atlas"]),
        facts("c", tasks=["Atlas"], images=5),
        facts("d", images=5),
    ]

    found = select(datasets, Rules())

    assert [(phase.entered, phase.left) for phase in found.phases] == [
        (4, 3),
        (3, 2),
        (2, 1),
        (1, 1),
    ]
    counts = {row.rule: (row.first, row.all) for phase in found.phases for row in phase.rules}
    assert counts["task_types"] == (1, 2)
    assert counts["min_valid_image_n_per_dataset"] == (1, 2)
    assert {row.slug for row in found.kept} | {row.facts["slug"] for row in found.dropped} == {
        *"abcd"
    }


def test_images_are_those_of_the_whole_dataset_in_a_unit_of_images():
    patients = {"number": 900, "unit": "subject", "source": "curation"}
    training = {"number": 800, "unit": "image", "split": "train", "source": "curation"}
    volumes = {"number": 120, "unit": "volume", "source": "curation"}

    few = facts("few", counts=[patients, training])
    enough = facts("enough", counts=[patients, training, volumes])

    assert kept([few, enough]) == ["enough"]


def test_labelled_datasets_are_preferred_and_then_larger_and_newer_ones():
    datasets = [
        facts("none", labelled=False, images=9000),
        facts("unknown", labelled=None, images=5000),
        facts("small", images=200),
        facts("large", images=300),
        facts("newer", images=200, year=2020),
    ]

    by_label = kept(datasets)

    assert by_label == ["large", "newer", "small", "unknown", "none"]
    assert kept(datasets, prefer_labeled=False) == ["none", "unknown", "large", "newer", "small"]


# Selection


def pool() -> list[dict[str, Any]]:
    return [
        facts("ct-1", publisher="Hospital A"),
        facts("ct-2", publisher="Hospital B"),
        facts("mr-1", modalities=["MR"], publisher="Hospital A"),
        facts("eye-1", modalities=["Fundus photography"], publisher="Hospital A"),
        facts("eye-2", modalities=["Fundus photography"], publisher="hospital a."),
    ]


def test_selection_leaves_out_modalities_with_too_few_datasets_or_organisations():
    found = select(pool(), check_rules({"selection": {"enable": True}}))

    assert [row.slug for row in found.kept] == ["ct-1", "ct-2"]
    said = {
        row.facts["slug"]: [(one.rule, one.found) for one in row.failures] for row in found.dropped
    }
    assert said["mr-1"] == [
        ("selection.min_datasets_per_modality", "MR: 1 dataset"),
        ("selection.min_orgs_per_modality", "MR: 1 organisation"),
    ]
    assert said["eye-1"] == [
        ("selection.min_orgs_per_modality", "Fundus photography: 1 organisation")
    ]


def test_selection_that_is_off_drops_nothing_and_says_that_the_budget_is_not_applied():
    found = select(pool(), check_rules({"selection": {"storage_budget_gb": 1}}))

    assert len(found.kept) == 5
    assert found.notes == ("selection.enable is false: storage_budget_gb is not applied",)


def test_a_dataset_stays_while_one_of_its_modalities_does_and_counts_there_alone():
    both = facts("both", modalities=["CT", "MR"], publisher="Hospital C")

    found = select([*pool()[:2], both], check_rules({"selection": {"enable": True}}))

    assert {row.slug: row.groups for row in found.kept}["both"] == ("CT",)
    assert line(found, "CT").datasets == 3
    assert line(found, "MR").datasets == 0


def test_an_unknown_publisher_is_no_organisation_and_a_short_name_is_the_same_one():
    datasets = [
        facts("a", publisher=None),
        facts("b", publisher="TCIA"),
        facts("c", publisher="The Cancer Imaging Archive"),
    ]

    found = select(datasets, Rules())

    assert (found.total.organisations, found.total.organisation_unknown) == (1, 1)
    assert not kept(datasets, selection={"enable": True})


def sized(slug: str, size_gb: float | None, **fields: Any) -> dict[str, Any]:
    size = None if size_gb is None else int(size_gb * 10**9)
    return facts(slug, size_bytes=size, **fields)


LOOSE = {"enable": True, "min_datasets_per_modality": 0, "min_orgs_per_modality": 0}


def test_the_budget_takes_preferred_datasets_that_still_fit():
    datasets = [
        sized("best", 6, images=900),
        sized("large", 5, images=800),
        sized("small", 3.5, images=700),
    ]

    found = select(datasets, check_rules({"selection": {**LOOSE, "storage_budget_gb": 9.5}}))

    assert [row.slug for row in found.kept] == ["best", "small"]
    assert found.total.size_bytes == 9_500_000_000
    (row,) = found.dropped
    assert row.failures[0].rule == "selection.storage_budget_gb"
    assert row.failures[0].found == "5 GB"
    assert "3.5 GB, what is left of 9.5 GB" in row.failures[0].expected


def test_an_unknown_size_is_never_nothing():
    datasets = [sized("known", 1), sized("unknown", None)]
    part = {**LOOSE, "storage_budget_gb": 2}

    strict = select(datasets, check_rules({"selection": part}))
    loose = select(datasets, check_rules({"selection": {**part, "include_unknown_size": True}}))

    assert [row.slug for row in strict.kept] == ["known"]
    assert strict.dropped[0].failures[0].found == "unknown"
    assert "no size is stated of 1 datasets" in strict.notes[0]
    assert len(loose.kept) == 2
    assert (loose.total.size_bytes, loose.total.size_unknown) == (10**9, 1)
    assert "1 kept without knowing whether they fit" in loose.notes[0]


def test_a_modality_that_the_budget_makes_too_small_leaves_its_room_to_others():
    datasets = [
        sized("ct-large", 6, images=900, publisher="A"),
        sized("mr-1", 4, images=800, modalities=["MR"], publisher="A"),
        sized("mr-2", 5, images=700, modalities=["MR"], publisher="B"),
        sized("ct-2", 9, images=600, publisher="B"),
    ]
    rules = check_rules({"selection": {"enable": True, "storage_budget_gb": 10}})

    found = select(datasets, rules)

    assert [row.slug for row in found.kept] == ["mr-1", "mr-2"]
    said = {row.facts["slug"]: row.failures for row in found.dropped}
    assert said["ct-large"][0].found == "CT: 1 dataset within the budget"
    assert said["ct-2"][0].rule == "selection.storage_budget_gb"


# Figures


def test_rows_datasets_and_images_are_never_taken_for_one_another():
    datasets = [
        facts("ct", images=300),
        facts("cone", images=100, modalities=["CT", "CBCT"]),
        facts("both", images=5000, modalities=["CT", "MR"], labelled=False),
        facts("beyond", images=700, modalities=["MR", "PET"], labelled=None),
    ]

    found = select(datasets, check_rules({"modalities": ["CT", "MR"]}))

    ct, mr, total = line(found, "CT"), line(found, "MR"), found.total
    assert (ct.rows, ct.datasets, ct.images, ct.images_undivided) == (4, 3, 400, 5000)
    assert (mr.rows, mr.datasets, mr.images, mr.images_undivided) == (2, 2, 0, 5700)
    assert (total.rows, total.datasets) == (6, 4)
    assert (total.images, total.images_undivided) == (5400, 700)
    assert (total.labelled, total.unlabelled, total.labelled_unknown) == (2, 1, 1)
    assert total.labelled_ratio == pytest.approx(2 / 3, abs=1e-4)
    assert mr.effective_datasets is None
    assert "2 of the datasets kept hold several modalities" in found.notes[0]


@pytest.mark.parametrize(
    ("numbers", "effective"),
    [([], None), ([5], 1.0), ([10, 10, 10], 3.0), ([98, 1, 1], 1.04)],
)
def test_the_effective_number_is_inverse_simpson(numbers, effective):
    assert effective_number(numbers) == effective


def test_without_asked_modalities_each_has_its_line_and_unknown_comes_last():
    datasets = [facts("a", modalities=["OCT"]), facts("b"), facts("c"), facts("d", modalities=[])]

    found = select(datasets, check_rules({"modalities": []}))

    assert [row.modality for row in found.lines] == ["CT", "OCT", "unknown"]


# The paper's Table 6


def table_6_pool() -> list[dict[str, Any]]:
    """Datasets with the numbers of mdfp.md A.3 and A.4; small ones share what is left."""
    rows: list[tuple[str, str, int, str, str, bool]] = [
        ("rsna-hemorrhage", "CT", 874_035, "RSNA", "Localization", True),
        ("second-ct", "CT", 292_900, "Org 1", "Classification", True),
    ]
    left = TABLE_6["CT"][1] - 874_035 - 292_900
    rows += [
        (f"ct-{n}", "CT", left - 7 * 800 if n == 0 else 800, f"Org {n % 3}", "Segmentation", True)
        for n in range(8)
    ]
    left = TABLE_6["MR"][1] - 672_853
    rows += [("first-mr", "MR", 672_853, "Org 1", "Classification", True)]
    rows += [
        (f"mr-{n}", "MR", left - 3 * 2000 if n == 0 else 2000, "Org 2", "Segmentation", True)
        for n in range(4)
    ]
    eye = "Fundus photography"
    left = TABLE_6[eye][1]
    rows += [
        (
            f"eye-{n}",
            eye,
            left - 41 * 5000 if n == 0 else 5000,
            f"Clinic {n % 17}",
            "Segmentation",
            n > 1,
        )
        for n in range(42)
    ]
    return [
        facts(slug, images, modalities=[name], publisher=org, tasks=[task], labelled=labelled)
        for slug, name, images, org, task, labelled in rows
    ]


def noise() -> list[dict[str, Any]]:
    """What the logic behind the table leaves out."""
    return [
        facts("mixed", dimensions=["2D", "3D"]),
        facts("two-modalities", modalities=["CT", "MR"]),
        facts("nobody", publisher=None),
        facts("tiny", images=99),
        facts("narrower", modalities=["CBCT"]),
        facts("with-text", dimensions=["2D", "Text"]),
    ]


def test_the_compatibility_profile_gives_table_6_and_the_stated_recipe_does_not():
    found = compare([*table_6_pool(), *noise()], parse_rules(PUBLISHED))

    for modality in ("CT", "MR", "Fundus photography"):
        row = line(found.compatibility, modality)
        figures = (row.datasets, row.images, row.organisations, round(row.labelled_ratio, 3))
        assert figures == TABLE_6[modality]
    total = found.compatibility.total
    assert (total.datasets, total.images) == TABLE_6["total"][:2]
    assert line(found.compatibility, "CT").effective_datasets == pytest.approx(1.6, abs=0.05)
    assert line(found.compatibility, "MR").effective_datasets == pytest.approx(1.02, abs=0.01)
    # With its own task filter the recipe loses the largest set: nine sets, 299,930 images.
    stated = select(table_6_pool(), parse_rules(PUBLISHED))
    assert (line(stated, "CT").datasets, line(stated, "CT").images) == (9, 299_930)
    assert found.only_compatibility == ["rsna-hemorrhage"]
    assert found.only_stated == ["narrower", "nobody", "two-modalities", "with-text"]


def test_the_published_figures_stand_beside_the_published_rules_alone():
    assert compare([], parse_rules(PUBLISHED)).published[-1]["images"] == 2_135_301
    assert compare([], check_rules({"modalities": ["CT"]})).published is None


def test_the_compatibility_profile_says_why_it_drops_a_dataset():
    found = select(noise(), Rules(), "compatibility")

    said = {row.facts["slug"]: row.rule for row in found.dropped}
    assert said == {
        "mixed": "dimension",
        "with-text": "dimension",
        "two-modalities": "compatibility.one_modality",
        "nobody": "compatibility.organisation",
        "tiny": "min_valid_image_n_per_dataset",
        "narrower": "modalities",
    }


# As a search, and from the command line


def test_what_a_search_cannot_ask_is_named():
    rules = check_rules({"selection": {"enable": True}, "include_unlabeled": False})

    pairs, unsaid = search_params(rules)

    assert ("modality", "Fundus photography") in pairs
    assert ("labelled", "yes") in pairs
    assert unsaid == ("include_mixed", "min_valid_image_n_per_dataset", "selection")


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("select_datasets", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def shelf(db) -> None:  # noqa: ARG001 - rows need the database
    counts = [{"number": 500, "unit": "image", "source": "curation"}]
    fields = {"tasks": ["Segmentation"], "dimensions": ["2D"], "counts": counts}
    make_dataset("ct-flat", modalities=["CT"], publisher="[bold]Hospital", **fields)
    make_dataset("oct-flat", modalities=["OCT"], **fields)


@pytest.mark.usefixtures("shelf")
def test_the_command_shows_phases_kept_and_dropped(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    short, long = run(), run("--dropped")

    assert "ct-flat" in short
    assert "[bold]Hospital" in short
    assert "oct-flat" not in short
    assert "After phase 3, blueprint" in short
    assert "profile compatibility" in short
    dropped = next(row for row in long.splitlines() if "oct-flat" in row)
    assert "modalities" in dropped
    assert "OCT" in dropped


@pytest.mark.usefixtures("shelf")
def test_the_command_reads_a_file_and_writes_json(tmp_path, monkeypatch):
    file = tmp_path / "rules.json"
    file.write_text('{"modalities": ["OCT"]}')

    data = json.loads(run(str(file), "--json"))
    monkeypatch.setattr("sys.stdin", io.StringIO(run("--default")))
    again = json.loads(run("-", "--json", "--profile", "compatibility"))

    assert [row["slug"] for row in data["kept"]] == ["oct-flat"]
    assert data["comparison"]["compatibility"]["total"]["datasets"] == 0
    assert [row["slug"] for row in again["kept"]] == ["ct-flat"]


@pytest.mark.usefixtures("shelf")
def test_the_command_names_what_is_wrong_in_a_file(tmp_path):
    file = tmp_path / "rules.json"
    file.write_text('{"modality": ["CT"]}')

    with pytest.raises(CommandError, match="nearest: 'modalities'"):
        run(str(file))
    with pytest.raises(CommandError, match="No such file"):
        run(str(tmp_path / "none.json"))
