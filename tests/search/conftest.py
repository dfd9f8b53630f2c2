"""Both engines over the shipped records, and over small catalogs made for one test."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog.models import Dataset
from catalog.search.documents import Document, document
from catalog.search.elastic import ElasticEngine
from catalog.search.embedded import EmbeddedEngine
from catalog.search.engine import Engine
from catalog.services import dataset_values

Make = Callable[[Iterable[Document]], Engine]


def dataset(slug: str, **fields: object) -> Dataset:
    """A dataset that is not in the database; lists and text are empty unless given."""
    return Dataset(**{"slug": slug, "name": slug, "digest": slug, **fields})


@pytest.fixture(scope="session")
def real_documents(shipped: dict[str, dict[str, Any]]) -> list[Document]:
    """The shipped records as documents, by slug."""
    rows = (Dataset(**dataset_values(facts)) for facts in shipped.values())
    return [document(row) for row in sorted(rows, key=lambda row: row.slug)]


@pytest.fixture(scope="session")
def real_embedded(
    real_documents: list[Document], tmp_path_factory: pytest.TempPathFactory
) -> Engine:
    folder = tmp_path_factory.mktemp("search")
    return EmbeddedEngine(folder, lambda: "real", lambda: real_documents)


@pytest.fixture(scope="session")
def real_elastic(real_documents: list[Document], elasticsearch_url: str) -> Iterator[Engine]:
    alias = f"imagingx-test-{secrets.token_hex(4)}"
    engine = ElasticEngine(elasticsearch_url, alias, lambda: "real", lambda: real_documents)
    yield engine
    engine.drop()


@pytest.fixture(params=["embedded", pytest.param("elasticsearch", marks=pytest.mark.services)])
def real(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn over the shipped records."""
    name = "real_embedded" if request.param == "embedded" else "real_elastic"
    engine: Engine = request.getfixturevalue(name)
    return engine


@pytest.fixture(params=["embedded", pytest.param("elasticsearch", marks=pytest.mark.services)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Each engine in turn over documents that the test gives."""
    made: list[ElasticEngine] = []

    def build(documents: Iterable[Document]) -> Engine:
        kept = list(documents)
        if request.param == "embedded":
            return EmbeddedEngine(tmp_path, lambda: "small", lambda: kept)
        alias = f"imagingx-test-{secrets.token_hex(4)}"
        url = request.getfixturevalue("elasticsearch_url")
        made.append(ElasticEngine(url, alias, lambda: "small", lambda: kept))
        return made[-1]

    yield build
    for engine in made:
        engine.drop()
