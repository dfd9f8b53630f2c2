"""What becomes of work that a fault ended: tried again where it may pass, else failed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from fusion.errors import BuildError, CancelledError, RecipeError
from workers.lease import LeaseLostError

logger = logging.getLogger(__name__)
TOO_MANY_REQUESTS, SERVER_FAULT = 429, 500
#: Faults that may pass, by class name: their libraries are not imported for this.
PASSING = frozenset(
    {
        "ConnectionError",  # the builtin one, requests, elasticsearch
        "TimeoutError",
        "TransportError",  # httpx
        "HTTPClientError",  # botocore
        "OutOfMemoryError",  # a GPU that others fill
        "OperationalError",  # the database
    }
)
#: And by code: a disk that others fill, or that somebody makes room on.
PASSING_CODES = frozenset({"disk_full"})


def attempt(
    work: Callable[[], None],
    fail: Callable[[str, str], None],
    retry: Callable[[str, str], None],
) -> None:
    """Do the work; a fault goes to `retry` or `fail`, with its code and what is to be said.

    Raises:
        LeaseLostError, CancelledError: there is nothing more to do.
    """
    try:
        work()
    except (LeaseLostError, CancelledError):
        raise
    except Exception as error:
        code = getattr(error, "code", "")
        code = code if isinstance(code, str) else ""
        if isinstance(error, RecipeError):
            fail("recipe_invalid", str(error))
        elif may_pass(error):
            retry(code or "may_pass", f"{type(error).__name__}: {error}")
        elif isinstance(error, BuildError):
            fail(error.code, str(error))
        else:
            logger.exception("unexpected fault")
            fail("internal_error", f"{type(error).__name__}: {error}")


def may_pass(error: BaseException) -> bool:
    """A full disk or GPU, a lost connection or a busy server, here or as the cause."""
    causes = list(_causes(error))
    if any(getattr(one, "code", None) in PASSING_CODES for one in causes):
        return True
    names = {kind.__name__ for one in causes for kind in type(one).__mro__}
    return not PASSING.isdisjoint(names) or any(_is_busy(one) for one in causes)


def _is_busy(error: BaseException) -> bool:
    """An HTTP answer that asks to come again."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(status, int) and (status == TOO_MANY_REQUESTS or status >= SERVER_FAULT)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
