"""One fault of `make chaos`, so that the script stays whole; the table takes the script itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.chaos import Arena, arena
from tests.conftest import missing

pytestmark = [pytest.mark.slow]
FAULTS = (("full-disk", "files"),)


@pytest.fixture(scope="module")
def place() -> Iterator[Arena]:
    with arena(("files",), seed=0) as made:
        yield made


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("fault", "broker"), FAULTS)
def test_a_run_survives(place: Arena, fault: str, broker: str):
    result = place.run(fault, broker)

    if result.result == "-":
        missing(result.detail)
    assert result.result == "pass", result.detail
