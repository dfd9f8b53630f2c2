"""A connection to a portal: questions, answers, pages of answers, and what it refuses."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

Json = dict[str, Any]

URL, TOKEN = "IMAGINGX_URL", "IMAGINGX_TOKEN"
DEFAULT_URL = "http://127.0.0.1:8000"
TRIES, LONGEST_WAIT = 4, 30.0
BUSY = frozenset({429, 503})


class ProblemError(Exception):
    """What the portal refused (RFC 9457): `status`, `code`, `title`, `detail`, `errors`."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.title = str(problem.get("title", ""))
        self.detail = str(problem.get("detail", ""))
        self.errors: list[Json] = list(problem.get("errors", ()))
        super().__init__(f"{status} {self.code}: {self.detail or self.title}")


class Connection:
    """One portal. Keeps connections open; use it as a context manager, or `close()` it."""

    def __init__(
        self, url: str | None = None, token: str | None = None, *, timeout_s: float = 60
    ) -> None:
        """By default `IMAGINGX_URL` and `IMAGINGX_TOKEN`, else a portal on this machine."""
        self.url = (url or os.environ.get(URL) or DEFAULT_URL).rstrip("/")
        token = token or os.environ.get(TOKEN, "")
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1/",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=timeout_s,
            transport=httpx.HTTPTransport(retries=2),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _get(self, address: str, params: Mapping[str, Any] | None = None) -> Json:
        given = {name: value for name, value in (params or {}).items() if value not in ("", None)}
        return dict(self._answer("GET", address, params=given).json())

    def _post(self, address: str, body: Any, headers: Mapping[str, str] | None = None) -> Json:
        return dict(self._answer("POST", address, json=body, headers=headers).json())

    def _pages(self, address: str, filters: Mapping[str, Any]) -> Iterator[Json]:
        page = 1
        while True:
            found = self._get(address, {"page_size": 100, **filters, "page": page})
            yield from found["results"]
            if not found["next"]:
                return
            page += 1

    def _answer(self, method: str, address: str, **request: Any) -> httpx.Response:
        """One answer; a read waits as long as a busy portal asks, a few times."""
        for attempt in range(TRIES):
            answer = self._http.request(method, address, **request)
            last = method != "GET" or attempt == TRIES - 1
            if answer.status_code not in BUSY or last:
                break
            asked = answer.headers.get("Retry-After", "")
            time.sleep(min(float(asked) if asked.isdigit() else 2.0**attempt, LONGEST_WAIT))
        if answer.is_error:
            raise problem_of(answer)
        return answer


def problem_of(answer: httpx.Response) -> ProblemError:
    """What a portal refused, or what stands between it and us."""
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict) or "title" not in problem:
        problem = {"title": answer.reason_phrase, "detail": answer.text[:200]}
    return ProblemError(answer.status_code, problem)
