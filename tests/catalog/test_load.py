"""Loading: the database says what the files say, or is left alone."""

from __future__ import annotations

import io
import json
import time

import pytest
from django.core.management import CommandError, call_command

from catalog.export import FORMATS
from catalog.models import CatalogRevision, Dataset
from catalog.services import load_catalog

pytestmark = pytest.mark.django_db


def write(folder, slug, **fields):
    claims = {key: [{"value": value, "source": "curation"}] for key, value in fields.items()}
    lines = {"slug": slug, "name": slug.title(), "sources": [{"id": "curation"}], **claims}
    (folder / f"{slug}.yaml").write_text(json.dumps(lines))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "alpha", modalities=["MR"], year=2020)
    write(tmp_path, "beta", licence="CC-BY-4.0")
    return tmp_path


def counts(report):
    return report.created, report.updated, report.unchanged, report.deleted


def test_loading_twice_changes_nothing(folder):
    first, second = load_catalog(folder, folder), load_catalog(folder, folder)

    assert counts(first) == (2, 0, 0, 0)
    assert counts(second) == (0, 0, 2, 0)
    assert second.digest == first.digest == CatalogRevision.objects.get().digest


def test_a_changed_record_updates_its_row_alone(folder):
    first = load_catalog(folder, folder)
    kept = dict(Dataset.objects.values_list("slug", "pk"))
    stamp = Dataset.objects.get(slug="alpha").updated_at
    write(folder, "alpha", modalities=["CT"])

    second = load_catalog(folder, folder)

    row = Dataset.objects.get(slug="alpha")
    assert counts(second) == (0, 1, 1, 0)
    assert (row.pk, row.modalities, row.year) == (kept["alpha"], ["CT"], None)
    assert row.updated_at > stamp
    assert second.digest != first.digest


def test_a_record_that_vanished_takes_its_row_along(folder):
    load_catalog(folder, folder)
    (folder / "beta.yaml").unlink()

    report = load_catalog(folder, folder)

    assert counts(report) == (0, 0, 1, 1)
    assert CatalogRevision.objects.current().dataset_count == 1


def test_one_faulty_file_stops_the_whole_load(folder):
    write(folder, "gamma", tasks=["Segmentatoin"])
    write(folder, "delta", modalities=["PET"])

    with pytest.raises(CommandError) as error:
        call_command("load_catalog", records=folder, harvested=folder)

    message = str(error.value)
    assert "gamma.yaml:1: tasks.0.value.0: found 'Segmentatoin'" in message
    assert "nearest: 'Segmentation'" in message
    assert "1 rejected, nothing loaded" in message
    assert Dataset.objects.count() == 0
    assert CatalogRevision.objects.count() == 0


@pytest.mark.alone
def test_the_shipped_catalog_loads_fast_and_speaks_of_what_it_did():
    out = io.StringIO()
    started = time.perf_counter()
    call_command("load_catalog", stdout=out)
    spent_s = time.perf_counter() - started

    total = Dataset.objects.count()
    assert f"{total} datasets: {total} created, 0 updated" in out.getvalue()
    assert spent_s < 15
    assert Dataset.objects.get(slug="stare").modalities == ["Fundus photography"]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_is_written_to_a_file(folder, tmp_path, name):
    load_catalog(folder, folder)
    out = tmp_path / "catalog.out"
    said = io.StringIO()
    call_command("export_catalog", format=name, out=out, stdout=said)

    assert "2 datasets written" in said.getvalue()
    assert out.stat().st_size > 100
    assert not out.with_name("catalog.out.partial").exists()


def test_an_export_into_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(CommandError, match="is no folder"):
        call_command("export_catalog", format="csv", out=tmp_path / "gone" / "x.csv")
