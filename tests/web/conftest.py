"""Pages are tested on the same small catalog as the API."""

from tests.api.conftest import datasets, own_state

__all__ = ["datasets", "own_state"]
