"""Link checks: each host is asked by one process at a time, slowly, and left alone when it fails.

HEAD first; where that says nothing, or a page answers (which may be one to sign in on), a GET of
its beginning. Addresses go through the guard of fetched sources.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from email.utils import parsedate_to_datetime
from itertools import pairwise

import httpx2
from django.conf import settings
from django.utils.timezone import now

from catalog.links import Answer, claim_host, due_links, note, release, sync_links
from catalog.models import CatalogLink, LinkHost
from fusion.errors import BuildError
from fusion.sources import configured_rules
from fusion.sources.safety import client

HOSTS_AT_ONCE = 8
LINKS_OF_A_HOST = 20  # in one turn; the lease must outlast them
SILENCES = 3  # in a row, and a host is left alone for a while
REST_SECONDS = 3600.0
LONGEST_WAIT = 7 * 86400.0  # that a server may ask for
BEGINNING = 16 * 1024
TIMEOUT = httpx2.Timeout(20.0, connect=10.0)
_BUSY = {429, 503}


def check_due(seconds: float) -> Counter[str]:
    """Check links that are due, for about so long; returns how many came to each state."""
    sync_links()
    end = time.monotonic() + seconds
    states: Counter[str] = Counter()
    with client(configured_rules()) as http, ThreadPoolExecutor(HOSTS_AT_ONCE) as threads:
        while time.monotonic() < end and (hosts := _claimed()):
            jobs = {threads.submit(_ask, http, rows): host for host, rows in hosts}
            for job in as_completed(jobs):
                found, rest = job.result()
                for link, answer in found:
                    note(link, answer, settings.LINK_CHECK_DAYS)
                    states[link.state] += 1
                release(jobs[job], rest)
    return states


def check_now(links: list[CatalogLink]) -> None:
    """Check these links now, whenever they are due."""
    with client(configured_rules()) as http:
        for link, answer in _ask(http, links)[0]:
            note(link, answer, settings.LINK_CHECK_DAYS)


def _claimed() -> list[tuple[LinkHost, list[CatalogLink]]]:
    hosts: list[tuple[LinkHost, list[CatalogLink]]] = []
    while len(hosts) < HOSTS_AT_ONCE and (host := claim_host()):
        hosts.append((host, due_links(host, LINKS_OF_A_HOST)))
    return hosts


def _ask(
    http: httpx2.Client, links: list[CatalogLink]
) -> tuple[list[tuple[CatalogLink, Answer]], float]:
    """Ask one host for its links in turn; the seconds that it should be left alone then.

    No database in here: it runs in a thread of its own.
    """
    found: list[tuple[CatalogLink, Answer]] = []
    silences = 0
    for place, link in enumerate(links):
        if place:
            time.sleep(settings.LINK_PAUSE_SECONDS)
        answer = probe(http, link.url)
        found.append((link, answer))
        if answer.retry_after is not None:
            return found, answer.retry_after
        silences = silences + 1 if answer.status is None and not answer.refused else 0
        if silences == SILENCES:
            return found, REST_SECONDS
    return found, 0.0


def probe(http: httpx2.Client, url: str) -> Answer:
    """Ask for an address: HEAD, then where needed the beginning of a GET."""
    answer = Answer(None)
    for number, method in enumerate(("HEAD", "GET")):
        if number:
            time.sleep(settings.LINK_PAUSE_SECONDS)
        try:
            answer, is_page = _request(http, method, url)
        except BuildError as error:
            return Answer(None, error=str(error), refused=True)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            answer = Answer(None, error=f"{type(error).__name__}: {error}".rstrip(": "))
            continue
        done = answer.status is not None and answer.status < 300 and not is_page  # noqa: PLR2004
        if done or answer.retry_after is not None:
            break
    return answer


def _request(http: httpx2.Client, method: str, url: str) -> tuple[Answer, bool]:
    headers = {"Range": f"bytes=0-{BEGINNING - 1}"} if method == "GET" else {}
    with http.stream(method, url, headers=headers, timeout=TIMEOUT) as response:
        chain = (*response.history, response)
        hops = tuple((one.status_code, str(to.url)) for one, to in pairwise(chain))
        is_page = "html" in response.headers.get("Content-Type", "")
        answer = Answer(response.status_code, hops, retry_after=_asked_to_wait(response))
        if method == "GET" and is_page:
            text = b"".join(_beginning(response)).decode("utf-8", "replace")
            answer = replace(answer, text=text)
    return answer, is_page


def _beginning(response: httpx2.Response) -> Iterator[bytes]:
    size = 0
    for block in response.iter_bytes(4096):
        yield block
        size += len(block)
        if size >= BEGINNING:
            return


def _asked_to_wait(response: httpx2.Response) -> float | None:
    """Seconds, where a busy server says how long; None otherwise."""
    text = response.headers.get("Retry-After", "").strip()
    if response.status_code not in _BUSY or not text:
        return None
    if text.isdigit():
        return min(float(text), LONGEST_WAIT)
    try:
        wait = (parsedate_to_datetime(text) - now()).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(wait, 0.0), LONGEST_WAIT)
