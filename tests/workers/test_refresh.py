"""Harvests from a server: by schedule with real processes, and what a server may answer."""

from __future__ import annotations

import csv
import io
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command
from django.utils.timezone import now

from catalog.models import CatalogRevision, Dataset, Harvest, HarvestChange
from catalog.refresh import decide
from catalog.services import load_catalog
from tests.conftest import ROOT
from tests.fusion.servers import Site as Server
from tests.fusion.servers import serving
from tests.workers.conftest import Site
from workers.process import beat_command
from workers.refresh import MOST_FAILURES, harvest, next_at

TABLE = "/metadata_imaging.csv"


def row(ref: str, subjects: int = 16, kinds: str = "mri_structural") -> dict[str, str]:
    return {
        "accession_number": ref,
        "dataset_name": f"Set {ref}",
        "dataset_url": f"https://openneuro.org/datasets/{ref}",
        "made_public": "2020-01-01",
        "num_subjects": str(subjects),
        "modalities": kinds,
        "dx_status": "",
        "species": "Human",
        "size_gb": "2.25",
    }


def text_of(rows: list[dict[str, str]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


@pytest.fixture
def server(settings: Any, tmp_path: Path, monkeypatch: Any) -> Iterator[Server]:
    """Two datasets; the catalog begins empty and harvests from there alone."""
    monkeypatch.setattr("catalog.services.read_tables", lambda _: {})
    held = Server(files={TABLE: text_of([row("ds001001"), row("ds001002")])})
    with serving(held) as address:
        settings.STATE_DIR = tmp_path
        settings.SEARCH_DIR = tmp_path / "search"
        settings.FETCH_NETWORKS = ["127.0.0.0/8"]
        settings.OPENNEURO_TABLE_URL = f"{address}{TABLE}"
        settings.REFRESH = True
        settings.HARVEST_HOURS = {"openneuro": 24}
        yield held


@pytest.mark.slow
def test_two_beats_and_two_workers_harvest_once(
    make_site: Callable[[str], Site], shared_data: Path
):
    upstream = shared_data.parent / "sources/openneuro_metadata/metadata_imaging.csv"
    rows = list(csv.DictReader(io.StringIO(upstream.read_text("utf-8"))))
    numbers = {"ds000003": "1300", "ds000006": "3"}
    for one in rows:
        one["num_subjects"] = numbers.get(one["accession_number"], one["num_subjects"])
    held = Server(files={TABLE: text_of(rows)})
    with serving(held) as address:
        site = make_site("refreshed")
        site.extra = {
            "IMAGINGX_REFRESH": "1",
            "IMAGINGX_REFRESH_SECONDS": "1",
            "IMAGINGX_HARVEST_HOURS": "openneuro=24",
            "IMAGINGX_FETCH_NETWORKS": "127.0.0.0/8",
            "IMAGINGX_OPENNEURO_TABLE_URL": f"{address}{TABLE}",
        }
        site.start_worker()
        site.start_worker()
        beats = [start_beat(site, number) for number in range(2)]
        try:
            done = "FROM catalog_harvest WHERE state != 'running'"
            site.wait(lambda: site.one(f"SELECT COUNT(*) {done}")[0] > 0)
            sent = site.logs().count("Sending due task refresh")
            site.wait(lambda: site.logs().count("Sending due task refresh") > sent + 3)
        finally:
            for beat in beats:
                beat.kill()
                beat.wait()

    (state, changed, gone, waiting) = site.one(
        "SELECT state, changed_count, gone_count, waiting_count FROM catalog_harvest"
    )
    assert (state, changed, gone, waiting) == ("done", 2, 0, 1), site.logs()
    assert site.one("SELECT COUNT(*) FROM catalog_harvest") == (1,)
    assert len(held.gets(TABLE)) == 1
    counts = "SELECT counts FROM catalog_dataset WHERE slug = ?"
    assert '"number": 1300' in site.one(counts, "openneuro-ds000003")[0]
    assert '"number": 3,' not in site.one(counts, "openneuro-ds000006")[0]
    assert site.one("SELECT MAX(number) FROM catalog_catalogrevision") == (2,)


def start_beat(site: Site, number: int) -> subprocess.Popen[bytes]:
    log = (site.state / f"beat{number}.log").open("wb")
    schedule = ["--schedule", str(site.state / f"beat{number}")]
    return subprocess.Popen(
        [*beat_command(), *schedule], cwd=ROOT, env=site.environment, stdout=log, stderr=log
    )


@pytest.mark.django_db
def test_what_did_not_change_is_not_sent_again(server: Server):
    first = harvest("openneuro")
    second = harvest("openneuro")

    assert (first.state, first.new_count) == ("done", 2), first.error
    assert second.state == "unchanged"
    assert server.gets(TABLE)[1]["if-none-match"] == server.etag(TABLE)
    assert CatalogRevision.objects.get().dataset_count == 2

    server.files[TABLE] = text_of([row("ds001001", subjects=17), row("ds001002")])
    third = harvest("openneuro")
    assert (third.state, third.changed_count) == ("done", 1)
    assert Dataset.objects.get(slug="openneuro-ds001001").counts[0]["number"] == 17


@pytest.mark.django_db
def test_a_row_that_cannot_be_read_is_counted_and_named(server: Server):
    harvest("openneuro")
    server.files[TABLE] = text_of([row("ds001001", subjects=17), row("ds001002"), row("ds 001003")])

    found = harvest("openneuro")

    assert (found.state, found.failed_count, found.changed_count) == ("done", 1, 1)
    assert found.error.startswith("ds 001003: ")
    assert Dataset.objects.count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "answered 404"),
        (b"<html>Sign in</html>", "metadata_imaging.csv"),
        (text_of([row("ds001001")]), "1 of 2 known ones gone"),
    ],
)
def test_a_source_that_gives_no_table_changes_nothing(server: Server, data, said):
    harvest("openneuro")
    if data is None:
        del server.files[TABLE]
    else:
        server.files[TABLE] = data

    found = harvest("openneuro")

    assert found.state == "failed"
    assert said in found.error
    assert Dataset.objects.count() == 2
    with pytest.raises(CommandError, match="openneuro: "):
        call_command("refresh", "openneuro")


@pytest.mark.django_db
def test_an_inner_address_is_refused(server: Server, settings: Any):
    settings.FETCH_NETWORKS = []

    found = harvest("openneuro")

    assert found.state == "failed"
    assert "is no public address" in found.error
    assert not server.asked


PAGES = {
    "zenodo": (
        "https://zenodo.org/records/42", "/api/records/42",
        {
            "id": 42, "doi": "10.5281/zenodo.42",
            "metadata": {
                "title": "Vessels", "access_right": "open", "license": {"id": "cc-by-4.0"},
                "publication_date": "2021-05-04",
            },
        },
    ),
    "figshare": (
        "https://figshare.com/articles/dataset/Vessels/42", "/v2/articles/42",
        {
            "title": "Vessels", "doi": "10.6084/m9.figshare.42.v1", "is_embargoed": False,
            "license": {"name": "CC BY 4.0", "url": "https://creativecommons.org/licenses/by/4.0/"},
            "published_date": "2021-05-04T10:00:00Z",
        },
    ),
    "huggingface": (
        "https://huggingface.co/datasets/ann/vessels", "/api/datasets/ann/vessels",
        {"id": "ann/vessels", "gated": False, "cardData": {"license": "cc-by-4.0"}},
    ),
}  # fmt: skip


@pytest.fixture
def curated(settings: Any, tmp_path: Path, monkeypatch: Any) -> Iterator[dict[str, Any]]:
    """Two record files by slug, of which each repository has one; its API, and what it answers."""
    monkeypatch.setattr("catalog.services.read_tables", lambda _: {})
    monkeypatch.setattr("catalog.services.FOLDER", tmp_path)
    held = Server(answers={path: answer for _, path, answer in PAGES.values()})
    with serving(held) as url:
        settings.STATE_DIR, settings.SEARCH_DIR = tmp_path, tmp_path / "search"
        settings.FETCH_NETWORKS, settings.LINK_PAUSE_SECONDS = ["127.0.0.0/8"], 0
        settings.ZENODO_URL = settings.FIGSHARE_URL = url
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield {"server": held, "folder": tmp_path}


def write_record(folder: Path, slug: str, url: str, licence: str = "") -> None:
    """A curated record with one address, and where given a licence that a curator states."""
    row = {"slug": slug, "name": slug, "links": [{"url": url, "source": "curation"}]}
    row["sources"] = [{"id": "project-imaging-x", "ref": slug}]
    if licence:
        row["licence"] = [{"value": licence, "source": "curation", "reason": "its paper says so"}]
    (folder / f"{slug}.yaml").write_text(yaml.safe_dump(row), "utf-8")


@pytest.mark.django_db
@pytest.mark.parametrize("source", PAGES)
def test_what_a_repository_states_is_claimed_for_who_has_its_address_and_never_over_curators(
    curated, source, client, capsys
):
    url, path, answer = PAGES[source]
    server, folder = curated["server"], curated["folder"]
    write_record(folder, "theirs", url)
    write_record(folder, "settled", url, "CC-BY-NC-4.0")
    write_record(folder, "elsewhere", "https://example.org/")
    load_catalog(folder, folder / "none")

    first = harvest(source)
    (change,) = HarvestChange.objects.filter(state="waiting")
    assert (first.state, first.new_count, first.waiting_count) == ("done", 1, 1), first.error
    assert change.slug in {"theirs", "settled"}
    assert Dataset.objects.get(slug="theirs").licence == ""  # terms wait for a curator

    call_command("refresh", show=first.pk)
    assert "access: open" in capsys.readouterr().out
    assert "licence: CC-BY-4.0" in client.get("/harvests/waiting/").content.decode()

    decide([change.pk], accept=True, by="ann")
    theirs, settled = (Dataset.objects.get(slug=slug) for slug in ("theirs", "settled"))
    assert (theirs.licence, theirs.access) == ("CC-BY-4.0", "open")
    assert settled.licence == "CC-BY-NC-4.0"
    said = [one for one in settled.record["claims"] if one["field"] == "licence"]
    assert {one["source"]: (one["value"], one["used"]) for one in said} == {
        "curation": ("CC-BY-NC-4.0", True), source: ("CC-BY-4.0", False),
    }  # fmt: skip
    assert Dataset.objects.count() == 3  # what a repository holds is no dataset of its own
    assert harvest(source).state == "unchanged"

    load_catalog(folder, folder / "none")
    assert Dataset.objects.get(slug="theirs").licence == "CC-BY-4.0"  # outlives a load
    server.answers[path] = relicensed(source, answer)
    second = harvest(source)
    assert (second.changed_count, second.waiting_count) == (1, 1)
    assert Dataset.objects.get(slug="theirs").licence == "CC-BY-4.0"
    assert [one for _, one, _ in server.asked if one == path] == [path] * 3

    for slug in ("theirs", "settled"):
        write_record(folder, slug, "https://example.org/")
    load_catalog(folder, folder / "none")
    assert Dataset.objects.count() == 3
    assert Dataset.objects.get(slug="theirs").licence == ""


def relicensed(source: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The same under CC BY-NC 4.0."""
    if source == "zenodo":
        return {**answer, "metadata": {**answer["metadata"], "license": {"id": "cc-by-nc-4.0"}}}
    if source == "figshare":
        return {**answer, "license": {"name": "CC BY-NC 4.0"}}
    return {**answer, "cardData": {"license": "cc-by-nc-4.0"}}


@pytest.mark.django_db
def test_a_page_that_is_not_had_now_stays_and_one_that_is_gone_waits(curated):
    server, folder = curated["server"], curated["folder"]
    base = PAGES["zenodo"][2]
    for number in range(40, 46):
        write_record(folder, f"set-{number}", f"https://zenodo.org/records/{number}")
        server.answers[f"/api/records/{number}"] = {**base, "id": number}
    load_catalog(folder, folder / "none")
    harvest("zenodo")
    decide(HarvestChange.objects.values_list("pk", flat=True), accept=True, by="ann")
    del server.answers["/api/records/41"]
    server.answers["/api/records/43"] = ["busy"]
    server.faults["/api/records/44"] = [(403, {})]

    found = harvest("zenodo")

    assert (found.state, found.gone_count, found.failed_count) == ("done", 1, 2), found.error
    assert "43: not understood" in found.error
    assert "44: " in found.error
    assert Dataset.objects.filter(licence="CC-BY-4.0").count() == 6
    (gone,) = HarvestChange.objects.filter(state="waiting")
    assert (gone.kind, gone.ref, gone.slug) == ("gone", "41", "set-41")
    decide([gone.pk], accept=True, by="ann")
    assert Dataset.objects.get(slug="set-41").licence == ""
    assert Dataset.objects.count() == 6


@pytest.mark.django_db
def test_a_failing_source_is_tried_ever_later_and_then_left_to_a_person(settings: Any):
    settings.REFRESH, settings.HARVEST_HOURS = True, {"openneuro": 24}
    begun = now() - timedelta(minutes=1)
    pauses = []
    for _ in range(MOST_FAILURES):
        fields = {"source": "openneuro", "lease_until": begun, "finished_at": begun}
        Harvest.objects.create(state=Harvest.State.FAILED, started_at=begun, **fields)
        moment = next_at("openneuro")
        pauses.append(moment and (moment - begun) / timedelta(hours=1))

    assert pauses == [1, 2, 4, 8, None]
    settings.REFRESH = False
    Harvest.objects.all().delete()
    assert next_at("openneuro") is None


@pytest.mark.django_db
def test_the_command_lists_and_shows(server: Server, capsys: Any):
    call_command("refresh", "openneuro")
    server.files[TABLE] = text_of([row("ds001001", subjects=3), row("ds001002")])
    call_command("refresh", "openneuro")
    call_command("refresh")
    call_command("refresh", show=Harvest.objects.first().pk)

    said = capsys.readouterr().out
    assert "openneuro" in said
    assert "waiting changed ds001001 (Set ds001001): counts: 16 subject -> 3 subject" in said
    with pytest.raises(CommandError, match="found 'nowhere', expected some of idc, openneuro"):
        call_command("refresh", "nowhere")
