"""The index follows the catalog: made when missing, anew when stale, never half."""

from __future__ import annotations

import json
import multiprocessing
import secrets
import threading
import time
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from catalog.models import CatalogRevision, Dataset
from catalog.search import embedded
from catalog.search.documents import document
from catalog.search.elastic import ElasticEngine
from catalog.search.embedded import EmbeddedEngine
from catalog.search.engine import engine, search
from catalog.search.errors import SearchUnavailableError
from catalog.search.index import PerState, current_digests, current_documents, current_key
from catalog.search.query import Query
from tests.search.conftest import dataset

EVERYTHING = Query()


def load(digest: str, *slugs: str) -> None:
    """Make the database hold these datasets under this revision."""
    Dataset.objects.all().delete()
    Dataset.objects.bulk_create([dataset(slug, modalities=["CT"]) for slug in slugs])
    CatalogRevision.objects.update_or_create(
        pk=1, defaults={"digest": digest, "dataset_count": len(slugs)}
    )


@pytest.fixture
def embedded_engine(tmp_path: Path) -> EmbeddedEngine:
    return EmbeddedEngine(tmp_path, current_key, current_documents)


@pytest.fixture
def elastic_engine(elasticsearch_url: str):
    alias = f"imagingx-test-{secrets.token_hex(4)}"
    made = ElasticEngine(elasticsearch_url, alias, current_key, current_documents)
    yield made
    made.drop()


def found(using) -> set[str]:
    return {hit.slug for hit in search(EVERYTHING, using=using).hits}


@pytest.mark.django_db
def test_a_stale_embedded_index_is_built_anew(embedded_engine: EmbeddedEngine, tmp_path: Path):
    load("1" * 64, "a", "b")
    assert found(embedded_engine) == {"a", "b"}

    load("2" * 64, "b", "c", "d")
    assert found(embedded_engine) == {"b", "c", "d"}
    load("3" * 64, "e")
    assert found(embedded_engine) == {"e"}

    kept = sorted(path.name[:1] for path in tmp_path.iterdir())
    assert kept == ["2", "3"]  # the one before stays for processes that still read it


MANY = tuple(f"d{number:02d}" for number in range(30))


@pytest.fixture(params=["embedded", pytest.param("elasticsearch", marks=pytest.mark.services)])
def mending(request: pytest.FixtureRequest, tmp_path: Path):
    """Each engine with the digests of the catalog, and what it asked documents for."""
    asked: list[set[str] | None] = []

    def documents(slugs=None):
        asked.append(None if slugs is None else set(slugs))
        return current_documents(slugs)

    if request.param == "embedded":
        yield EmbeddedEngine(tmp_path, current_key, documents, current_digests), asked
        return
    url = request.getfixturevalue("elasticsearch_url")
    alias = f"imagingx-test-{secrets.token_hex(4)}"
    made = ElasticEngine(url, alias, current_key, documents, current_digests)
    yield made, asked
    made.drop()


@pytest.mark.django_db
def test_a_small_change_mends_the_index_and_a_large_one_builds_it(mending):
    using, asked = mending
    load("1" * 64, *MANY)
    assert search(EVERYTHING, using=using).total == 30

    Dataset.objects.filter(slug="d03").update(name="Renamed", digest="new")
    Dataset.objects.filter(slug="d07").delete()
    Dataset.objects.bulk_create([dataset("added", modalities=["MR"])])
    CatalogRevision.objects.update(digest="2" * 64)

    assert search(EVERYTHING, using=using).total == 30
    assert [hit.slug for hit in search(Query(text="renamed"), using=using).hits] == ["d03"]
    assert search(Query(text="d07"), using=using).hits == ()
    assert [hit.slug for hit in search(Query(text="MRI"), using=using).hits] == ["added"]
    assert asked == [None, {"d03", "added"}]

    load("3" * 64, "x", "y")
    assert search(EVERYTHING, using=using).total == 2
    assert asked[-1] is None


@pytest.mark.django_db
def test_a_mended_index_answers_as_a_new_one(mending, tmp_path: Path):
    using, _ = mending
    load("1" * 64, *MANY)
    search(EVERYTHING, using=using)
    Dataset.objects.filter(slug__in=["d02", "d20"]).update(anatomies=["Liver"], digest="new")
    CatalogRevision.objects.update(digest="2" * 64)
    fresh = EmbeddedEngine(tmp_path / "fresh", current_key, current_documents)

    for text in ("", "liver", "CT", "d02"):
        query = Query(text=text, limit=100)
        mended, new = search(query, using=using), search(query, using=fresh)
        assert [hit.slug for hit in mended.hits] == [hit.slug for hit in new.hits]
        assert mended.facets == new.facets


@pytest.mark.django_db
def test_rows_made_by_hand_are_found_too(embedded_engine: EmbeddedEngine):
    assert found(embedded_engine) == set()
    dataset("new").save()
    assert found(embedded_engine) == {"new"}


@pytest.mark.django_db
def test_an_index_that_was_deleted_is_built_again(tmp_path: Path):
    load("1" * 64, "a")
    first = EmbeddedEngine(tmp_path, current_key, current_documents)
    assert found(first) == {"a"}
    for part in tmp_path.iterdir():
        for file in part.iterdir():
            file.unlink()
        part.rmdir()

    assert found(EmbeddedEngine(tmp_path, current_key, current_documents)) == {"a"}


@pytest.mark.django_db
def test_a_failing_build_leaves_nothing_behind(tmp_path: Path):
    def broken():
        yield document(dataset("a"))
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        EmbeddedEngine(tmp_path, lambda: "k", broken).refresh()

    assert list(tmp_path.iterdir()) == []


def _race(folder: Path, barrier, answers) -> None:
    rows = [document(dataset(f"d{number:03}")) for number in range(200)]
    made = EmbeddedEngine(folder, lambda: "same", lambda: rows)
    barrier.wait(30)
    answers.put(search(EVERYTHING, using=made).total)


def test_processes_that_build_at_once_all_answer(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(4), context.Queue()
    running = [context.Process(target=_race, args=(tmp_path, barrier, answers)) for _ in range(4)]
    for process in running:
        process.start()
    totals = [answers.get(timeout=60) for _ in running]
    for process in running:
        process.join(30)

    assert totals == [200] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["same"]


@pytest.mark.services
@pytest.mark.django_db
def test_a_stale_elasticsearch_index_is_swapped_and_dropped(elastic_engine: ElasticEngine):
    load("1" * 64, "a", "b")
    assert found(elastic_engine) == {"a", "b"}
    [old] = elastic_engine._indices()
    load("2" * 64, "c")
    assert found(elastic_engine) == {"c"}

    [new] = elastic_engine._indices()
    assert new != old
    assert not elastic_engine.client.indices.exists(index=old)
    twin = ElasticEngine(elastic_engine.url, elastic_engine.alias, current_key, current_documents)
    assert found(twin) == {"c"}
    assert twin._indices() == [new]  # another process takes the index that is there
    assert elastic_engine.rebuild() == 1
    assert elastic_engine._indices() != [new]


@pytest.mark.services
@pytest.mark.django_db
def test_elasticsearch_gives_an_answer_again_until_the_index_changes(elastic_engine: ElasticEngine):
    def given_again() -> int:
        stats = elastic_engine.client.indices.stats(index=elastic_engine.alias)
        return stats["_all"]["total"]["request_cache"]["hit_count"]

    load("1" * 64, "a", "b")
    assert found(elastic_engine) == {"a", "b"}
    assert given_again() == 0
    assert found(elastic_engine) == {"a", "b"}
    assert given_again() == 1
    load("2" * 64, "a", "c")
    assert found(elastic_engine) == {"a", "c"}
    assert given_again() == 0


@pytest.mark.services
@pytest.mark.django_db
def test_an_elasticsearch_index_that_was_deleted_is_built_again(elastic_engine: ElasticEngine):
    load("1" * 64, "a")
    assert found(elastic_engine) == {"a"}
    for name in elastic_engine._indices():
        elastic_engine.client.indices.delete(index=name)

    assert found(elastic_engine) == {"a"}


@pytest.mark.services
def test_a_failing_elasticsearch_build_drops_its_index(elasticsearch_url: str):
    def broken():
        yield document(dataset("a"))
        raise OSError("no more rows")

    alias = f"imagingx-test-{secrets.token_hex(4)}"
    made = ElasticEngine(elasticsearch_url, alias, lambda: "k", broken)
    with pytest.raises(OSError, match="no more rows"):
        made.refresh()

    assert dict(made.client.indices.get(index=f"{alias}*")) == {}


def test_a_server_that_is_away_is_said_to_be_away():
    away = ElasticEngine("http://127.0.0.1:9", "nowhere", lambda: "k", list)

    with pytest.raises(SearchUnavailableError, match="Elasticsearch"):
        search(EVERYTHING, using=away)


@pytest.mark.django_db
def test_the_settings_pick_the_engine(settings, tmp_path: Path):
    settings.SEARCH_DIR = tmp_path
    assert isinstance(engine(), EmbeddedEngine)
    assert engine() is engine()

    settings.SEARCH_URL = "http://127.0.0.1:9"
    assert isinstance(engine(), ElasticEngine)


@pytest.mark.django_db
def test_search_prints_one_json_object(settings, tmp_path: Path, capsys):
    settings.SEARCH_DIR = tmp_path
    load("1" * 64, "a", "b", "c")
    call_command("search", "computed", "tomography", "--json", "--limit", "2")

    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["understood", "results", "near", "total", "facets"]
    assert answer["total"] == 3
    assert [set(hit) for hit in answer["results"]] == [
        {"slug", "name", "aliases", "score", "why", "family"}
    ] * 2
    assert answer["understood"] == [
        {"facet": "modality", "term": "CT", "from": "computed tomography"}
    ]


@pytest.mark.django_db
def test_search_prints_a_table_and_refuses_what_it_does_not_know(settings, tmp_path, capsys):
    settings.SEARCH_DIR = tmp_path
    load("1" * 64, "first-one")
    call_command("search", "ct", "--modality", "CT")
    assert "first-one" in capsys.readouterr().out

    with pytest.raises(CommandError, match="Ultrasound"):
        call_command("search", "--modality", "ultrasond")


@pytest.mark.django_db
def test_reindex_search_counts_what_it_indexed(settings, tmp_path: Path, capsys):
    settings.SEARCH_DIR = tmp_path
    load("1" * 64, "a", "b")
    call_command("reindex_search")

    assert capsys.readouterr().out == "2 datasets indexed\n"
    call_command("reindex_search")
    assert len(list(tmp_path.iterdir())) == 1
    assert embedded.KEPT == 2


def test_what_is_made_for_a_state_is_made_once_however_many_ask():
    made: list[str] = []
    together = threading.Barrier(4)

    def make(key: str) -> str:
        made.append(key)
        time.sleep(0.05)  # long enough for the others to ask, too
        return f"for {key}"

    known = PerState(make)
    found: list[str] = []

    def ask() -> None:
        together.wait()
        found.append(known("one"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == ["for one"] * 4
    assert made == ["one"]
    assert known("two") == "for two"
    assert made == ["one", "two"]
