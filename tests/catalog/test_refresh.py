"""Harvests: what takes effect, what waits for a curator, and the version that comes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils.timezone import now

from catalog import collection, services
from catalog.changes import cell_text, field_changes, with_changes
from catalog.harvest import write_table
from catalog.importers.cells import make_claim
from catalog.importers.entry import Entry
from catalog.models import CatalogChange, CatalogRevision, Dataset, Harvest, HarvestChange
from catalog.record import Count
from catalog.records_io import RecordError
from catalog.refresh import HarvestError, Reading, begin, decide, is_known, take

pytestmark = pytest.mark.django_db
SOURCE = "openneuro"


def entry(ref, **fields):
    number = fields.pop("number", 20)
    values = {"modalities": ["MR"], "licence": "CC0-1.0", "access": "open", **fields}
    facts = {key: make_claim(key, value, SOURCE) for key, value in values.items()}
    count = Count(number=number, unit="subject", source=SOURCE)
    return Entry(source=SOURCE, ref=ref, name=f"Set {ref}", facts=facts, counts=(count,))


FIRST = [entry(f"ds{number}") for number in range(8)]


@pytest.fixture(autouse=True)
def shipped(tmp_path, monkeypatch):
    """A catalog of one curated record, which lists ds0, and eight harvested rows."""
    folder = tmp_path / "records"
    folder.mkdir()
    record = {
        "slug": "alpha",
        "name": "Alpha",
        "sources": [{"id": "curation"}, {"id": SOURCE, "ref": "ds0"}],
        "year": [{"value": 2001, "source": "curation"}],
        "relations": [{"to": "openneuro-ds7", "kind": "derived", "evidence": "its page"}],
    }
    (folder / "alpha.yaml").write_text(json.dumps(record))
    write_table(FIRST, folder / f"{SOURCE}.csv")
    tables = collection.read_tables(folder)
    monkeypatch.setattr(services, "FOLDER", folder)
    monkeypatch.setattr(services, "read_tables", lambda _: dict(tables))
    services.load_catalog(folder, folder)


def harvest(entries, version="v2", failed=()):
    row = begin(SOURCE)
    take(row, Reading(entries, version, failed))
    return row


def changed(ref, **fields):
    """The first reading with one entry changed."""
    return [entry(ref, **fields) if one.ref == ref else one for one in FIRST]


def waiting():
    return HarvestChange.objects.filter(state=HarvestChange.State.WAITING)


def test_a_plain_change_takes_effect_and_makes_a_version():
    row = harvest(changed("ds1", modalities=["MR", "PET"]))

    assert Dataset.objects.get(slug="openneuro-ds1").modalities == ["MR", "PET"]
    assert (row.changed_count, row.new_count, row.gone_count, row.waiting_count) == (1, 0, 0, 0)
    version = CatalogRevision.objects.current()
    assert (version.number, version.changed_count, version.cause) == (2, 1, "harvest of openneuro")
    assert row.revision == version
    (change,) = version.changes.all()
    assert (change.slug, change.kind) == ("openneuro-ds1", "changed")
    assert change.fields["modalities"] == [["MR"], ["MR", "PET"]]


def test_the_first_version_lists_nothing_and_loading_again_makes_none():
    assert CatalogRevision.objects.get().number == 1
    assert not CatalogChange.objects.exists()

    assert services.load_catalog(services.FOLDER).version == 1


def test_new_entries_are_datasets_at_once():
    row = harvest([*FIRST, entry("ds9", number=3)])

    assert Dataset.objects.get(slug="openneuro-ds9").tier == "harvested"
    assert row.new_count == 1
    assert CatalogRevision.objects.current().new_count == 1


@pytest.mark.parametrize(
    ("fields", "name", "before", "after"),
    [
        ({"licence": "CC-BY-NC-4.0"}, "licence", "CC0-1.0", "CC-BY-NC-4.0"),
        ({"access": "application"}, "access", "open", "application"),
        ({"number": 19}, "counts", "20 subject", "19 subject"),
    ],
)
def test_a_sensitive_change_waits_and_takes_effect_when_accepted(fields, name, before, after):
    row = harvest(changed("ds1", **fields))
    old = Dataset.objects.get(slug="openneuro-ds1").record

    (change,) = waiting()
    assert (change.field, row.waiting_count) == (name, 1)
    assert cell_text(change.before, name) == before
    assert cell_text(change.after, name) == after
    assert CatalogRevision.objects.current().number == 1

    decided, report = decide([change.pk], accept=True, by="ann", reason="its page says so")

    assert [one.pk for one in decided] == [change.pk]
    new = Dataset.objects.get(slug="openneuro-ds1").record
    assert new[name] != old[name]
    assert report.version == 2
    change.refresh_from_db()
    assert (change.state, change.decided_by, change.reason) == (
        "accepted",
        "ann",
        "its page says so",
    )
    assert decide([change.pk], accept=False, by="bob") == ([], None)


def test_a_larger_count_needs_nobody():
    harvest(changed("ds1", number=21))

    assert not waiting()
    assert Dataset.objects.get(slug="openneuro-ds1").counts[0]["number"] == 21


def test_what_was_rejected_is_not_brought_up_again_until_the_source_says_something_else():
    harvest(changed("ds1", licence="CC-BY-NC-4.0"))
    decide([waiting().get().pk], accept=False, by="ann")

    again = harvest(changed("ds1", licence="CC-BY-NC-4.0"), "v3")
    assert (again.waiting_count, waiting().count()) == (0, 0)
    assert Dataset.objects.get(slug="openneuro-ds1").licence == "CC0-1.0"

    harvest(changed("ds1", licence="CC-BY-4.0"), "v4")
    assert waiting().get().after["licence"] == "CC-BY-4.0"


def test_a_waiting_change_waits_once_and_ends_when_the_source_takes_it_back():
    first = harvest(changed("ds1", licence="CC-BY-NC-4.0"))
    second = harvest(changed("ds1", licence="CC-BY-NC-4.0"), "v3")

    assert waiting().get().harvest == first
    assert second.waiting_count == 1

    harvest(FIRST, "v4")
    assert not waiting()
    assert HarvestChange.objects.get().state == HarvestChange.State.OUTDATED


def test_a_gone_entry_waits_and_takes_its_dataset_along_when_accepted():
    harvest([one for one in FIRST if one.ref != "ds2"])
    assert Dataset.objects.filter(slug="openneuro-ds2").exists()

    decide([waiting().get().pk], accept=True, by="ann")

    assert not Dataset.objects.filter(slug="openneuro-ds2").exists()
    assert CatalogChange.objects.get().kind == "gone"


def test_a_gone_dataset_that_a_record_relates_to_is_not_dropped():
    harvest([one for one in FIRST if one.ref != "ds7"])

    with pytest.raises(RecordError, match=r"alpha.yaml: relations: found 'openneuro-ds7'"):
        decide([waiting().get().pk], accept=True, by="ann")

    assert waiting().count() == 1
    assert Dataset.objects.filter(slug="openneuro-ds7").exists()


def test_curated_claims_win_over_what_is_harvested_later():
    harvest(changed("ds0", year=2020, modalities=["PET"]))

    row = Dataset.objects.get(slug="alpha")
    assert (row.year, row.modalities, row.tier) == (2001, ["PET"], "curated")
    said = [(one["source"], one["value"]) for one in row.record["claims"] if one["field"] == "year"]
    assert said == [("curation", 2001), (SOURCE, 2020)]
    assert row.record["relations"][0]["to"] == "openneuro-ds7"


def test_relations_from_other_records_outlive_a_harvest():
    harvest(changed("ds7", modalities=["PET"]))

    (relation,) = Dataset.objects.get(slug="openneuro-ds7").record["relations"]
    assert (relation["to"], relation["inverse"]) == ("alpha", True)


def test_an_update_of_some_rows_gives_what_loading_everything_gives():
    harvest([*changed("ds0", year=2020, number=30), entry("ds9")])
    digest = CatalogRevision.objects.current().digest

    assert services.load_catalog(services.FOLDER).digest == digest


@pytest.mark.parametrize("left", [0, 6])
def test_a_source_that_lost_much_is_not_believed(left):
    row = begin(SOURCE)

    with pytest.raises(HarvestError, match=f"found {left} entries, {8 - left} of 8 known ones"):
        take(row, Reading(FIRST[:left], "v2"))

    assert not waiting()
    assert Dataset.objects.count() == 8


def test_an_entry_that_could_not_be_read_stays_as_it_was():
    row = harvest([one for one in FIRST if one.ref != "ds3"], failed=[("ds3", "no number")])

    assert (row.failed_count, row.gone_count, row.error) == (1, 0, "ds3: no number")
    assert not waiting()


def test_one_harvest_of_a_source_at_a_time_until_its_lease_ends():
    first = begin(SOURCE)
    assert begin(SOURCE) is None
    assert begin("idc") is not None

    Harvest.objects.filter(pk=first.pk).update(lease_until=now() - timedelta(seconds=1))
    assert begin(SOURCE) is not None
    first.refresh_from_db()
    assert (first.state, first.error) == (Harvest.State.FAILED, "its process was lost")


def test_the_same_content_is_known_again():
    assert not is_known(SOURCE, "v2")
    harvest(FIRST)

    assert is_known(SOURCE, "v2")
    assert CatalogRevision.objects.get().number == 1


def test_what_a_later_harvest_gave_outlives_a_load_of_the_shipped_tables():
    harvest(changed("ds1", modalities=["PET"]))

    services.load_catalog(services.FOLDER)

    assert Dataset.objects.get(slug="openneuro-ds1").modalities == ["PET"]


def test_changes_applied_to_the_old_reading_give_the_new_one():
    new = [*changed("ds1", licence="CC-BY-4.0", number=3)[:-1], entry("ds9")]
    new[2] = replace(new[2], name="Another name", aliases=("x|y",))

    found = with_changes(FIRST, field_changes(FIRST, new), SOURCE)

    assert found == sorted(new, key=lambda one: one.ref)
