"""Telling people that a run has ended: by mail, or by a signed request to an address of theirs.

The row is the truth: what is due is found again by every worker's watch, so that no notice is lost
with a process or a message. A receiver may hear the same twice; `delivery` is the same then.
"""

from __future__ import annotations

import hmac
import json
import logging
import smtplib
import time
from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import httpx2
from django.conf import settings
from django.core.mail import send_mail
from django.db.models import F, Q
from django.utils.crypto import salted_hmac

from fusion.errors import BuildError
from fusion.sources import configured_rules
from fusion.sources.safety import client
from workers.clock import now
from workers.models import Run, RunNotice

logger = logging.getLogger(__name__)
ENDED = (Run.State.SUCCEEDED, Run.State.FAILED, Run.State.CANCELLED)
MOST_PER_USER = 5  # of one run
MOST_ATTEMPTS = 8  # with waits of 30 s, 1 min, 2 min, ... together about an hour
HELD = timedelta(minutes=5)  # how long a message may be under way, and a delivery take
SECONDS = 15  # for the receiver's answer
PORTS = {"http": 80, "https": 443}
OUTCOMES = {Run.State.SUCCEEDED: "succeeded", Run.State.FAILED: "failed",
            Run.State.CANCELLED: "was cancelled"}  # fmt: skip


class NoticeError(ValueError):
    """A notice that cannot be; the message says what was found and expected."""


def ask_for(run: Run, owner: Any, kind: str, target: str, page: str) -> RunNotice:
    """Note that `owner` wants to hear of the end of a run; asking again returns the same notice.

    Args:
        kind: mail (to the owner's own address) or hook (to the address `target`).
        page: address of the run's page, for the text.

    Raises:
        NoticeError: no such address may be told, or there are too many already.
    """
    if kind == RunNotice.Kind.MAIL:
        target = owner.email
        if not settings.EMAIL_HOST:
            raise NoticeError("this portal sends no mail: its operator sets IMAGINGX_MAIL_URL")
        if not target:
            raise NoticeError("your account has no mail address")
    else:
        check_address(target)
    same = RunNotice.objects.filter(run=run, owner=owner, kind=kind, target=target).first()
    if same is not None:
        return same
    if RunNotice.objects.filter(run=run, owner=owner).count() >= MOST_PER_USER:
        raise NoticeError(f"found {MOST_PER_USER} notices of this run, expected no more")
    return RunNotice.objects.create(run=run, owner=owner, kind=kind, target=target, page=page)


def check_address(url: str) -> None:
    """Refuse an address that may not be asked: a wrong scheme, a password in it, an inner network.

    It is checked again whenever it is asked, as its name may lead elsewhere by then.

    Raises:
        NoticeError: with the reason.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
        httpx2.URL(url)  # stricter, and what it refuses could not be asked
    except (ValueError, httpx2.InvalidURL) as error:
        raise NoticeError(f"url: found {url[:80]!r}, expected an address: {error}") from None
    if parts.scheme not in PORTS or not host or "@" in parts.netloc or not url.isprintable():
        raise NoticeError(f"url: found {url[:80]!r}, expected https://host/path without a password")
    try:
        configured_rules().resolve(host, port)
    except BuildError as error:
        raise NoticeError(f"url: {error}") from error
    except (OSError, UnicodeError) as error:
        raise NoticeError(f"url: {host[:80]}: no such host") from error


def secret_of(notice: RunNotice) -> str:
    """The key that a hook's requests are signed with; made of the portal's own, kept nowhere."""
    return salted_hmac("workers.notices", str(notice.pk), algorithm="sha256").hexdigest()


def signature(secret: str, seconds: int, body: bytes) -> str:
    """`t=<time>,v1=<HMAC-SHA256 of "<time>.<body>">`."""
    made = hmac.new(secret.encode(), f"{seconds}.".encode() + body, sha256).hexdigest()
    return f"t={seconds},v1={made}"


def take_due() -> list[int]:
    """Notices of ended runs that nobody sends, to be sent by the caller: held for a while."""
    due = RunNotice.objects.filter(
        Q(due_at=None) | Q(due_at__lte=now()),
        state=RunNotice.State.WAITING,
        run__state__in=ENDED,
    )
    ids = list(due.values_list("pk", flat=True))
    return [pk for pk in ids if due.filter(pk=pk).update(due_at=now() + HELD)]


def deliver(notice_id: int) -> None:
    """Try once; what fails is tried again, ever later, until it has failed too often."""
    rows = RunNotice.objects.filter(pk=notice_id, state=RunNotice.State.WAITING)
    notice = rows.select_related("run", "owner").first()
    if notice is None or not notice.run.has_ended:
        return
    attempts = notice.attempts + 1
    try:
        said = _mail(notice) if notice.kind == RunNotice.Kind.MAIL else _hook(notice)
    except (BuildError, NoticeError, httpx2.HTTPError, smtplib.SMTPException, OSError) as error:
        wait = timedelta(seconds=settings.NOTICE_RETRY_SECONDS * 2**notice.attempts)
        gives_up = attempts >= MOST_ATTEMPTS
        rows.update(
            state=RunNotice.State.FAILED if gives_up else RunNotice.State.WAITING,
            attempts=F("attempts") + 1,
            due_at=None if gives_up else now() + wait,
            answer=_short(error),
        )
        logger.warning("notice %s was not delivered: %s", notice.pk, _short(error))
        return
    rows.update(
        state=RunNotice.State.DELIVERED,
        attempts=F("attempts") + 1,
        due_at=None,
        answer=said,
        delivered_at=now(),
    )


def body_of(notice: RunNotice) -> bytes:
    """What a hook is sent; nothing in it changes from one attempt to the next."""
    run = notice.run
    return json.dumps(
        {
            "event": "run.ended",
            "delivery": str(notice.pk),
            "run": {
                "id": str(run.pk),
                "title": run.title,
                "state": run.state,
                "error_code": run.error_code,
                "bundle_id": run.bundle_id,
                "finished_at": run.finished_at.isoformat() if run.finished_at else None,
            },
            "page": notice.page,
        },
        sort_keys=True,
    ).encode()


def _hook(notice: RunNotice) -> str:
    """A redirect counts as a refusal: the new address was not given by the owner."""
    check_address(notice.target)
    body, seconds = body_of(notice), int(time.time())
    headers = {
        "Content-Type": "application/json",
        "X-Imaging-X-Event": "run.ended",
        "X-Imaging-X-Delivery": str(notice.pk),
        "X-Imaging-X-Signature": signature(secret_of(notice), seconds, body),
    }
    with client(configured_rules()) as http, http.stream(
        "POST", notice.target, content=body, headers=headers, timeout=SECONDS,
        follow_redirects=False,
    ) as answer:  # fmt: skip
        status = answer.status_code  # its body is nobody's business
    if not 200 <= status < 300:  # noqa: PLR2004
        raise NoticeError(f"found status {status}, expected 2xx")
    return f"status {status}"


def _mail(notice: RunNotice) -> str:
    run = notice.run
    title = " ".join(run.title.split())  # no line ends in a header
    lines = [f"The run {title!r} {OUTCOMES[Run.State(run.state)]}."]
    if run.error_code:
        lines.append(f"{run.error_code}: {run.error[:500]}")
    lines += ["", notice.page, "", "You asked for this mail on that page."]
    subject = f"{title[:120]}: {OUTCOMES[Run.State(run.state)]}"
    send_mail(subject, "\n".join(lines), None, [notice.target])
    return "accepted by the mail server"


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
