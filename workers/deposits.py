"""Send bundles to places that others get them from: asked for by a user, done by a worker."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, cast

from django.conf import settings
from django.core.files.storage import FileSystemStorage, storages
from django.db import connection, transaction
from django.db.models import Q

from fusion.deposits import PLACES, Parcel, place, refusals, send, what_is_sent
from fusion.errors import BuildError
from fusion.models import Bundle
from workers.clock import now
from workers.credentials import rules_for
from workers.models import Deposit, lease_end
from workers.publish import outside_sums
from workers.submit import enqueue_deposit

logger = logging.getLogger(__name__)
_TELL_SECONDS = 2.0


class DepositError(ValueError):
    """A bundle that may not be sent there; `reasons` says why."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons
        super().__init__(" ".join(reasons))


def parcel_of(bundle: Bundle, creator: str) -> Parcel:
    """A bundle as it is sent: every file, those that no SHA256SUMS names too."""

    def opened(path: str) -> IO[bytes]:
        return _opened(f"{bundle.pk}/{path}")

    stated = (source.get("licence") or {} for source in bundle.summary["sources"])
    return Parcel(
        bundle_id=bundle.pk,
        title=bundle.title,
        files=(*bundle.files, *outside_sums(bundle)),
        opened=opened,
        licences=tuple(
            one.get(part) or "unknown" for one in stated for part in ("images", "labels")
        ),
        creator=creator,
    )


def dry_run(bundle: Bundle, owner: Any, name: str, target: str) -> dict[str, Any]:
    """What would be sent: files, bytes and licences; nobody is asked.

    Raises:
        DepositError: it may not be sent, or not there.
    """
    if name not in PLACES:
        raise DepositError([f"found {name[:40]!r}, expected one of {', '.join(PLACES)}"])
    if bundle.removed_at is not None:
        raise DepositError(["Its files were removed."])
    if reasons := refusals(bundle.build, bundle.summary):
        raise DepositError(reasons)
    try:
        found = what_is_sent(parcel_of(bundle, str(owner)), name, target)
    except BuildError as error:
        raise DepositError([str(error)]) from error
    return {**found, "has_credential": bool(rules_for(owner, [found["credential"]]).credentials)}


@transaction.atomic
def submit_deposit(
    bundle: Bundle, owner: Any, name: str, target: str, *, private: bool = True
) -> Deposit:
    """Have a bundle sent; asking again for one that failed sends the rest.

    Raises:
        DepositError: it may not be sent, or not there, or the owner has no credential for it.
    """
    found = dry_run(bundle, owner, name, target)
    if not found["has_credential"]:  # never the operator's: it is published in somebody's name
        raise DepositError([f"Give {found['credential']} on your account page first."])
    row, _ = Deposit.objects.get_or_create(
        bundle=bundle, owner=owner, place=name, target=target,
        defaults={"total_bytes": found["bytes"], "private": private},
    )  # fmt: skip
    if row.state != Deposit.State.SUCCEEDED:
        Deposit.objects.filter(pk=row.pk).update(attempts=0, enqueued_at=now())
        transaction.on_commit(lambda: enqueue_deposit(row.pk), robust=True)
    return row


def requeue_deposits(patience_seconds: float | None = None) -> int:
    """Ask again for each deposit whose worker or message was lost; returns how many.

    Args:
        patience_seconds: how long a message may be under way; None: as long as a lease.
    """
    patience = settings.RUN_LEASE_SECONDS if patience_seconds is None else patience_seconds
    long_ago = now() - timedelta(seconds=patience)
    waits = Q(state=Deposit.State.QUEUED) | Q(state=Deposit.State.RUNNING, lease_until__lt=now())
    lost = Deposit.objects.filter(waits, Q(enqueued_at=None) | Q(enqueued_at__lte=long_ago))
    sent = 0
    for pk in list(lost.values_list("pk", flat=True)):
        if lost.filter(pk=pk).update(enqueued_at=now()):
            enqueue_deposit(pk)
            sent += 1
    return sent


def work_on_deposit(pk: uuid.UUID) -> None:
    """Send it, if nobody else does; what comes of it is written to the row."""
    row = Deposit.objects.claim(pk)
    if row is None:
        return
    mine, last = Deposit.objects.filter(pk=pk), [0.0]
    if row.attempts > settings.RUN_MAX_ATTEMPTS:
        _fail(row, "too_many_attempts", f"given up after {settings.RUN_MAX_ATTEMPTS} lost workers")
        return

    def told(done: int) -> None:
        if time.monotonic() - last[0] >= _TELL_SECONDS:
            last[0] = time.monotonic()
            mine.update(sent_bytes=done)

    try:
        with _held(pk):
            sent = send(
                parcel_of(row.bundle, str(row.owner)),
                row.place,
                row.target,
                rules_for(row.owner, [place(row.place).CREDENTIAL]),
                told,
                remote=row.remote,
                private=row.private,
                begun=lambda remote: mine.update(remote=remote),
            )
    except BuildError as error:
        _fail(row, error.code, str(error))
        return
    mine.update(
        state=Deposit.State.SUCCEEDED,
        sent_bytes=row.total_bytes,
        url=sent.url,
        doi=sent.doi,
        remote=sent.remote,
        lease_until=None,
        finished_at=now(),
    )


def _fail(row: Deposit, code: str, error: str) -> None:
    Deposit.objects.filter(pk=row.pk).update(
        state=Deposit.State.FAILED, error_code=code, error=error, lease_until=None
    )
    logger.warning("deposit %s: %s: %s", row.pk, code, error)


@contextmanager
def _held(pk: uuid.UUID) -> Iterator[None]:
    """The lease is renewed while it is sent, however long one file takes."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(settings.RUN_LEASE_SECONDS / 3):
            Deposit.objects.filter(pk=pk).update(lease_until=lease_end())
        connection.close()

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _opened(name: str) -> IO[bytes]:
    """A seekable file of the storage; from elsewhere it is copied to scratch first."""
    storage = storages["bundles"]
    if isinstance(storage, FileSystemStorage):
        return Path(storage.path(name)).open("rb")
    Path(settings.WORK_DIR).mkdir(parents=True, exist_ok=True)
    copied = tempfile.TemporaryFile(dir=settings.WORK_DIR)  # noqa: SIM115 - the caller closes it
    with storage.open(name) as file:
        shutil.copyfileobj(file, copied)
    copied.seek(0)
    return cast("IO[bytes]", copied)
