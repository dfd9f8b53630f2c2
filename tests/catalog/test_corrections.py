"""Corrections: proposed by the rules of record files, decided once, never undone by a harvest."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command

from catalog import curation
from catalog.collection import read_catalog
from catalog.corrections import CorrectionError, canonical
from catalog.models import CatalogRevision, Correction, Dataset
from catalog.record import record_of, resolve
from catalog.records_io import FOLDER, parse_record, read_folder
from catalog.search import Query, search
from catalog.services import load_facts
from tests.factories import make_dataset, make_facts

PAGE = "https://example.org/terms"


@pytest.fixture
def curator(db) -> User:  # noqa: ARG001
    return User.objects.create_user("ada", first_name="Ada", last_name="Byron")


def propose(dataset: Dataset, field: str, value: object) -> Correction:
    return curation.propose(dataset, field, value, url=PAGE, quote="as it says")[0]


def test_the_facts_of_every_dataset_give_its_record_back():
    for facts in read_catalog().values():
        own = [row for row in facts["relations"] if not row.get("inverse")]
        assert resolve(record_of(facts), facts["tier"]) == {**facts, "relations": own}


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        ("modalities", ["MRI", "MR", "computed tomography"], ["MR", "CT"]),
        ("licence", "cc by 4.0", "CC-BY-4.0"),
        ("year", "2019", 2019),
        ("diseases", [], []),
        ("access", None, None),
        (
            "counts",
            {"number": 12, "unit": "volume"},
            {"number": 12, "unit": "volume", "what": None, "split": None},
        ),
        ("links", {"url": PAGE}, {"url": PAGE, "kind": "official"}),
    ],
)
def test_a_value_is_kept_as_a_record_file_holds_it(field, given, kept):
    assert canonical(field, given) == kept


@pytest.mark.parametrize(
    ("field", "given", "said"),
    [
        ("modalities", ["MRX"], "nearest"),
        ("licence", "CC-BY-4", "CC-BY-4.0"),
        ("year", 1066, "1895"),
        ("access", "free", "open"),
        ("counts", {"number": 0, "unit": "volume"}, "value.number"),
        ("counts", 300, "number, unit"),
        ("links", {"url": "ftp://example.org"}, "value.url"),
        ("publisher", "", "a value"),
        ("publisher", "a\0b", "printable"),
        ("classes", ["x" * 30_000], "characters"),
        ("licens", "CC-BY-4.0", "nearest: 'licence'"),
    ],
)
def test_a_value_that_no_record_may_hold_is_refused_with_the_place(field, given, said):
    with pytest.raises(CorrectionError) as error:
        canonical(field, given)

    assert said in str(error.value)


@pytest.mark.django_db
def test_evidence_is_asked_for_and_what_is_shown_already_is_no_correction():
    dataset = make_dataset("one", year=2011)

    with pytest.raises(CorrectionError) as error:
        curation.propose(dataset, "year", 2011, url="example.org")

    assert [fault.path for fault in error.value.faults] == ["url", "quote", "value"]
    assert not Correction.objects.exists()


@pytest.mark.django_db
def test_the_same_proposal_waits_once():
    dataset = make_dataset("one")

    first, second = propose(dataset, "year", 2012), propose(dataset, "year", 2012)

    assert first == second
    assert propose(dataset, "year", 2013) != first


def test_an_accepted_correction_becomes_the_followed_claim_with_its_evidence(curator):
    dataset = make_dataset("one", licence="CC-BY-4.0")
    correction = propose(dataset, "licence", "CC0-1.0")

    curation.accept(correction, curator, "read on its page")

    dataset.refresh_from_db()
    assert dataset.licence == "CC0-1.0"
    claim = next(row for row in dataset.record["claims"] if row["field"] == "licence")
    assert claim["used"]
    assert (claim["source"], claim["curator"], claim["url"], claim["raw"]) == (
        "curation", "Ada Byron", PAGE, "as it says",
    )  # fmt: skip
    assert [step["state"] for step in correction.history] == ["accepted"]


def test_an_accepted_count_replaces_the_curators_former_number_of_that_unit(curator):
    old = {"number": 300, "unit": "volume", "source": "curation"}
    dataset = make_dataset("one", counts=[old, {**old, "number": 20, "split": "test"}])
    correction = propose(dataset, "counts", {"number": 301, "unit": "volume"})

    curation.accept(correction, curator)

    dataset.refresh_from_db()
    assert [(row["number"], row["split"]) for row in dataset.counts] == [(301, None), (20, "test")]
    assert "counts" in dataset.record["conflicts"]  # the former number stays as a claim


def test_a_corrected_homepage_comes_first(curator):
    dataset = make_dataset("one", homepage="https://old.example.org/")
    curation.accept(propose(dataset, "links", {"url": PAGE}), curator)

    dataset.refresh_from_db()
    assert dataset.homepage == PAGE


def test_corrections_survive_a_new_load_and_give_the_same_catalog(curator):
    facts = [make_facts("one", licence="CC-BY-4.0"), make_facts("two", year=2001)]
    load_facts(facts)
    curation.accept(propose(Dataset.objects.get(slug="one"), "licence", "CC0-1.0"), curator)
    before = CatalogRevision.objects.current().digest

    report = load_facts(facts)

    assert (report.updated, report.digest) == (0, before)
    assert Dataset.objects.get(slug="one").licence == "CC0-1.0"


def test_a_later_correction_stands_above_an_earlier_one_after_a_load_too(curator):
    facts = [make_facts("one", year=2001)]
    load_facts(facts)
    for year in (2002, 2003):
        curation.accept(propose(Dataset.objects.get(), "year", year), curator)
    assert Dataset.objects.get().year == 2003

    load_facts(facts)

    assert Dataset.objects.get().year == 2003


def test_a_correction_that_may_no_longer_stand_is_said_and_stops_no_load(curator, caplog):
    load_facts([make_facts("one")])
    correction = propose(Dataset.objects.get(), "tasks", ["Segmentation"])
    curation.accept(correction, curator)
    Correction.objects.update(value=["A task of yesterday"])

    load_facts([make_facts("one", year=2001)])

    assert Dataset.objects.get().year == 2001
    assert "A task of yesterday" in caplog.text


def test_a_decision_is_made_once_and_an_accepted_one_can_be_taken_back(curator):
    dataset = make_dataset("one", licence="CC-BY-4.0")
    correction = propose(dataset, "licence", "CC0-1.0")
    other = Correction.objects.get()
    curation.accept(correction, curator)

    with pytest.raises(curation.DecisionError):
        curation.accept(other, curator)
    with pytest.raises(CorrectionError):
        curation.reject(correction, curator, "")
    curation.reject(correction, curator, "the page was about another set")

    dataset.refresh_from_db()
    assert dataset.licence == "CC-BY-4.0"
    assert [step["state"] for step in correction.history] == ["accepted", "rejected"]


def test_the_index_follows_an_accepted_correction(curator, settings, tmp_path):
    settings.SEARCH_URL, settings.SEARCH_DIR = "", tmp_path
    load_facts([make_facts("one", modalities=["CT"]), make_facts("two", modalities=["CT"])])
    assert search(Query.from_params({"modality": "MR"})).total == 0

    curation.accept(propose(Dataset.objects.get(slug="one"), "modalities", ["MR"]), curator)

    assert [hit.slug for hit in search(Query.from_params({"modality": "MR"})).hits] == ["one"]


def test_a_curated_record_goes_upstream_as_its_file_with_one_more_line(curator):
    slug = "kits19"
    text = (FOLDER / f"{slug}.yaml").read_text("utf-8")
    load_facts([resolve(parse_record(text, f"{slug}.yaml"))])
    dataset = Dataset.objects.get()
    assert curation.record_text(dataset) == text
    curation.accept(propose(dataset, "year", 2020), curator)

    written = curation.record_text(dataset)

    added = set(written.splitlines()) - set(text.splitlines())
    assert len(added) == 1
    assert "Ada Byron" in added.pop()
    load_facts([resolve(parse_record(written, f"{slug}.yaml"))])
    dataset.refresh_from_db()
    assert sum(claim["curator"] == "Ada Byron" for claim in dataset.record["claims"]) == 1


def test_a_harvested_dataset_goes_upstream_as_a_file_with_its_corrections_alone(curator):
    facts = {**make_facts("raw-one", modalities=["CT"]), "tier": "harvested"}
    load_facts([facts])
    curation.accept(propose(Dataset.objects.get(), "year", 2020), curator)

    record = parse_record(curation.record_text(Dataset.objects.get()), "raw-one.yaml")

    assert [claim.value for claim in record.year] == [2020]
    assert record.modalities == []
    assert [ref.ref for ref in record.sources] == ["raw-one"]


def test_a_command_writes_the_files_of_all_corrected_datasets(curator, tmp_path, capsys):
    for slug in ("one", "two", "three"):
        make_dataset(slug, year=2001)
    for slug in ("one", "two"):
        curation.accept(propose(Dataset.objects.get(slug=slug), "year", 2002), curator)

    call_command("export_corrections", out=tmp_path / "records")

    assert "2 created" in capsys.readouterr().out
    records = read_folder(tmp_path / "records")
    assert [record.year[0].value for record in records.values()] == [2002, 2002]
