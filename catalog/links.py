"""The catalog's addresses: which are due for a check, what an answer means, what replaced them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus, urldefrag, urlsplit

import yaml
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.timezone import now

from catalog.models import CatalogLink, Dataset, LinkCheck, LinkHost

FILE = Path(__file__).resolve().parent / "retired.yaml"
State = CatalogLink.State
BAD = (State.BROKEN, State.FAILING)
MOST_FAILURES = 3  # in a row, and a link is broken
FIRST_RETRY = timedelta(hours=6)  # after a failure; doubles
LEASE = timedelta(minutes=20)  # of a host
CHECKS_KEPT = 10
BATCH = 500
FOR_GOOD = frozenset({301, 308})
GONE = 410
DENIALS = frozenset({403, 405, 406, 429, 451})
_SIGN_IN_PATH = re.compile(r"/(log|sign)[-_]?(in|on)\b|/sso\b|/cas/|/oauth2?/|/saml", re.IGNORECASE)
_PASSWORD = re.compile(r"<input[^>]*type\s*=\s*[\"']?password", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """What asking for an address gave.

    Args:
        status: of the last answer; None where nothing answered, as `error` says.
        hops: (status, address led to) of each redirect.
        text: how the page begins; empty for what is no page.
        retry_after: seconds that the server asks to wait.
        refused: the address is none that may be asked for.
    """

    status: int | None
    hops: tuple[tuple[int, str], ...] = ()
    text: str = ""
    error: str = ""
    retry_after: float | None = None
    refused: bool = False

    @property
    def final_url(self) -> str:
        return self.hops[-1][1] if self.hops else ""


def judge(url: str, answer: Answer, failures: int) -> tuple[str, str]:
    """State and reason by an answer; `failures` came in a row before it. Pure."""
    status = answer.status
    if status is not None and status < 300:  # noqa: PLR2004
        return _judge_page(url, answer)
    said = f"answered {status}" if status else answer.error
    if status == 401:  # noqa: PLR2004
        return State.SIGN_IN, said
    if status in DENIALS:
        return State.DENIED, said
    broken = answer.refused or status == GONE or failures + 1 >= MOST_FAILURES
    return (State.BROKEN if broken else State.FAILING), said


def _judge_page(url: str, answer: Answer) -> tuple[str, str]:
    if asks_to_sign_in(url, answer):
        return State.SIGN_IN, "it answers with a page to sign in on"
    if answer.hops and _moved(url, answer):
        return State.MOVED, f"it is now at {answer.final_url}"
    return State.OK, ""


def asks_to_sign_in(url: str, answer: Answer) -> bool:
    """Whether what answers is a page to sign in on: some answer 200 to everybody."""
    was_sent = answer.final_url and not _SIGN_IN_PATH.search(urlsplit(url).path)
    led = bool(was_sent and _SIGN_IN_PATH.search(urlsplit(answer.final_url).path))
    return led or bool(_PASSWORD.search(answer.text))


def _moved(url: str, answer: Answer) -> bool:
    """For good, and to another page: not from http to https or with a slash more."""
    for_good = all(status in FOR_GOOD for status, _ in answer.hops)
    return for_good and _place(url) != _place(answer.final_url)


def _place(url: str) -> tuple[str, str, str]:
    parts = urlsplit(url)
    host = (parts.hostname or "").removeprefix("www.")
    return f"{host}:{parts.port or ''}", parts.path.rstrip("/"), parts.query


@cache
def _retired() -> tuple[tuple[tuple[re.Pattern[str], str], ...], Mapping[str, str]]:
    data: dict[str, list[dict[str, str]]] = yaml.safe_load(FILE.read_text("utf-8"))
    rules = tuple((re.compile(row["match"]), row["to"]) for row in data["rules"])
    return rules, {row["from"]: row["to"] for row in data["pages"]}


def successor(url: str) -> str:
    """What took the place of an address of a closed site, by `retired.yaml`; empty for others."""
    rules, pages = _retired()
    plain = urldefrag(url).url
    if plain in pages:
        return pages[plain]
    for rule, to in rules:
        if found := rule.fullmatch(plain):
            name = "-".join(unquote_plus(found["name"]).lower().split())
            return to.format(name=name)
    return ""


@transaction.atomic
def sync_links() -> int:
    """Have a row for each address of the catalog, and for its successor; returns how many."""
    wanted: dict[str, str] = {}
    for links in Dataset.objects.values_list("record__links", flat=True):
        for link in links or ():
            later = successor(link["url"])
            wanted[link["url"]] = later
            if later:
                wanted.setdefault(later, "")
    known = set(CatalogLink.objects.values_list("url", flat=True))
    dropped = sorted(known - wanted.keys())
    for start in range(0, len(dropped), BATCH):
        CatalogLink.objects.filter(url__in=dropped[start : start + BATCH]).delete()
    new = {url: host for url in wanted.keys() - known if (host := urlsplit(url).hostname)}
    hosts = [LinkHost(name=name) for name in sorted(set(new.values()))]
    LinkHost.objects.bulk_create(hosts, ignore_conflicts=True)
    moment = now()
    rows = [
        CatalogLink(url=url, host_id=host, successor=wanted[url], next_at=moment)
        for url, host in sorted(new.items())
    ]
    CatalogLink.objects.bulk_create(rows, batch_size=BATCH, ignore_conflicts=True)
    return len(wanted)


def claim_host() -> LinkHost | None:
    """A host with links that are due, for this process alone; None when there is none."""
    moment = now()
    free = (Q(lease_until=None) | Q(lease_until__lt=moment)) & (
        Q(quiet_until=None) | Q(quiet_until__lte=moment)
    )
    due = LinkHost.objects.filter(free, links__next_at__lte=moment).distinct()
    for host in due.order_by("name")[:20]:
        mine = LinkHost.objects.filter(free, pk=host.pk)
        if mine.update(lease_until=moment + LEASE):
            return host
    return None


def due_links(host: LinkHost, most: int) -> list[CatalogLink]:
    """Links of a host whose check is due, the longest due first."""
    return list(host.links.filter(next_at__lte=now()).order_by("next_at", "url")[:most])


def note(link: CatalogLink, answer: Answer, days: int) -> None:
    """Keep what a check found, and when the next is due."""
    moment = now()
    if answer.retry_after is not None:
        state, detail = link.state, f"answered {answer.status}: asks to wait"
        following = moment + timedelta(seconds=answer.retry_after)
    else:
        state, detail = judge(link.url, answer, link.failures)
        link.failures = link.failures + 1 if state in BAD else 0
        following = moment + timedelta(days=days)
        if state == State.FAILING:
            following = moment + FIRST_RETRY * 2 ** (link.failures - 1)
    if state != link.state:
        link.since = moment
    link.state, link.detail, link.status = state, detail[:300], answer.status
    link.final_url, link.checked_at, link.next_at = answer.final_url[:2000], moment, following
    link.save()
    LinkCheck.objects.create(
        link=link,
        checked_at=moment,
        state=state,
        status=answer.status,
        hops=[[status, url[:2000]] for status, url in answer.hops],
        detail=link.detail,
    )
    kept = link.checks.values_list("pk", flat=True)[:CHECKS_KEPT]
    link.checks.exclude(pk__in=list(kept)).delete()


def release(host: LinkHost, quiet_seconds: float = 0.0) -> None:
    """Let others ask the host, after a rest."""
    rest = now() + timedelta(seconds=quiet_seconds) if quiet_seconds else None
    LinkHost.objects.filter(pk=host.pk).update(lease_until=None, quiet_until=rest)


@dataclass(frozen=True)
class ShownLink:
    """A link with the datasets that have it, and what is known of its successor."""

    link: CatalogLink
    datasets: list[tuple[str, str]] = field(default_factory=list)  # (slug, name)
    successor_state: str = ""


def shown(rows: Iterable[CatalogLink]) -> list[ShownLink]:
    """The rows with their datasets and successors. Two queries."""
    links = list(rows)
    states = dict(
        CatalogLink.objects.filter(
            url__in=[one.successor for one in links if one.successor]
        ).values_list("url", "state")
    )
    owners = datasets_by_url({one.url for one in links})
    return [ShownLink(one, owners.get(one.url, []), states.get(one.successor, "")) for one in links]


def datasets_by_url(urls: set[str]) -> dict[str, list[tuple[str, str]]]:
    """(slug, name) of the datasets that have each address."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    if urls:
        for slug, name, links in Dataset.objects.in_order().values_list(
            "slug", "name", "record__links"
        ):
            for link in links or ():
                if link["url"] in urls:
                    found[link["url"]].append((slug, name))
    return found


def links_of(record: Mapping[str, Any]) -> QuerySet[CatalogLink]:
    """The rows of a dataset's addresses, with their checks."""
    urls = [link["url"] for link in record["links"]]
    return CatalogLink.objects.filter(url__in=urls).prefetch_related("checks")
