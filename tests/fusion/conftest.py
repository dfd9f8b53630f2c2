"""An object store that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from moto.server import ThreadedMotoServer


@pytest.fixture(scope="session")
def object_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(object_server: str) -> str:
    """Address of a local S3, empty at the start of each test."""
    httpx.post(f"{object_server}/moto-api/reset").raise_for_status()
    return object_server
