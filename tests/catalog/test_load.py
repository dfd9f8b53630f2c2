"""Loading: the database says what the files say, or is left alone."""

from __future__ import annotations

import csv
import io
import json
import time

import pytest
from django.core.management import CommandError, call_command

from catalog.export import KEYS
from catalog.models import CatalogRevision, Dataset
from catalog.services import load_catalog

pytestmark = pytest.mark.django_db


def write(folder, slug, **fields):
    lines = {"slug": slug, "name": slug.title(), "sources": [{"id": "curation"}], **fields}
    (folder / f"{slug}.yaml").write_text(json.dumps(lines))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "alpha", modalities=["MR"], year=2020)
    write(tmp_path, "beta", licence="CC-BY-4.0")
    return tmp_path


def counts(report):
    return report.created, report.updated, report.unchanged, report.deleted


def test_loading_twice_changes_nothing(folder):
    first, second = load_catalog(folder), load_catalog(folder)

    assert counts(first) == (2, 0, 0, 0)
    assert counts(second) == (0, 0, 2, 0)
    assert second.digest == first.digest == CatalogRevision.objects.get().digest


def test_a_changed_record_updates_its_row_alone(folder):
    first = load_catalog(folder)
    kept = dict(Dataset.objects.values_list("slug", "pk"))
    stamp = Dataset.objects.get(slug="alpha").updated_at
    write(folder, "alpha", modalities=["CT"])

    second = load_catalog(folder)

    row = Dataset.objects.get(slug="alpha")
    assert counts(second) == (0, 1, 1, 0)
    assert (row.pk, row.modalities, row.year) == (kept["alpha"], ["CT"], None)
    assert row.updated_at > stamp
    assert second.digest != first.digest


def test_a_record_that_vanished_takes_its_row_along(folder):
    load_catalog(folder)
    (folder / "beta.yaml").unlink()

    report = load_catalog(folder)

    assert counts(report) == (0, 0, 1, 1)
    assert CatalogRevision.objects.get().dataset_count == 1


def test_one_faulty_file_stops_the_whole_load(folder):
    write(folder, "gamma", tasks=["Segmentatoin"])
    write(folder, "delta", modalities=["PET"])

    with pytest.raises(CommandError) as error:
        call_command("load_catalog", records=folder)

    message = str(error.value)
    assert "gamma.yaml:1: tasks.0: found 'Segmentatoin'" in message
    assert "nearest: 'Segmentation'" in message
    assert "1 rejected, nothing loaded" in message
    assert Dataset.objects.count() == 0
    assert CatalogRevision.objects.count() == 0


def test_the_shipped_catalog_loads_fast_and_speaks_of_what_it_did():
    out = io.StringIO()
    started = time.perf_counter()
    call_command("load_catalog", stdout=out)
    spent_s = time.perf_counter() - started

    total = Dataset.objects.count()
    assert f"{total} datasets: {total} created, 0 updated" in out.getvalue()
    assert spent_s < 15
    assert Dataset.objects.get(slug="stare").modalities == ["Fundus photography"]


def test_the_json_lines_carry_exactly_the_listed_keys(folder, tmp_path):
    load_catalog(folder)
    out = tmp_path / "catalog.jsonl"
    call_command("export_catalog", format="jsonl", out=out, stdout=io.StringIO())

    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["slug"] for row in rows] == ["alpha", "beta"]
    assert all(tuple(row) == KEYS for row in rows)
    assert [row["licence"] for row in rows] == [None, "CC-BY-4.0"]


def test_csv_lists_are_joined_and_counts_are_json(folder, tmp_path):
    count = {"number": 3, "unit": "subject", "raw": "3", "source": "curation"}
    write(folder, "alpha", modalities=["MR", "CT"], counts=[count])
    load_catalog(folder)
    out = tmp_path / "catalog.csv"
    call_command("export_catalog", format="csv", out=out, stdout=io.StringIO())

    with out.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert tuple(rows[0]) == KEYS
    assert rows[0]["modalities"] == "MR|CT"
    assert json.loads(rows[0]["counts"]) == [{**count, "what": None}]
    assert (rows[0]["licence"], rows[1]["modalities"]) == ("", "")


def test_an_export_into_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(CommandError, match="is no folder"):
        call_command("export_catalog", format="csv", out=tmp_path / "gone" / "x.csv")
