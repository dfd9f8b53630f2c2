"""A running portal with a small catalog, for its client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from imagingx import Client
from tests.api.conftest import datasets, own_state

__all__ = ["datasets", "own_state"]


@pytest.fixture
def portal(live_server, datasets) -> Iterator[Client]:  # noqa: ARG001
    with Client(live_server.url) as client:
        yield client
