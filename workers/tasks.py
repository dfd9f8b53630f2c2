"""Celery's entry points. Only workers.submit sends messages to them."""

from __future__ import annotations

import uuid

from celery import shared_task
from django.conf import settings

from workers import uploads, watch
from workers.chunks import work_on_chunk
from workers.deposits import work_on_deposit
from workers.links import check_due
from workers.logs import bound
from workers.notices import deliver
from workers.refresh import harvest_if_due
from workers.runner import work_on
from workers.submit import send_due

watch.install()


@shared_task(name="workers.tasks.advance")
def advance(run_id: str, stage: str) -> None:
    """Take a run one stage further; the row decides whether there is anything to do."""
    with bound(run=run_id, stage=stage):
        work_on(uuid.UUID(run_id), stage)


@shared_task(name="workers.tasks.take_chunk")
def take_chunk(run_id: str, stage: str) -> None:
    """Do the next chunk of a run's stage that nobody does; the rows decide which that is."""
    with bound(run=run_id, stage=stage):
        work_on_chunk(uuid.UUID(run_id), stage)


@shared_task(name="workers.tasks.send_deposit")
def send_deposit(pk: str) -> None:
    """Send a bundle to the place that its row names, or the rest of it."""
    work_on_deposit(uuid.UUID(pk))


@shared_task(name="workers.tasks.check_upload")
def check_upload(upload_id: str) -> None:
    """Check what a person has uploaded; the row decides whether there is anything to do."""
    with bound(upload=upload_id):
        uploads.check(uuid.UUID(upload_id))


@shared_task(name="workers.tasks.tell")
def tell(notice_id: int) -> None:
    """Tell somebody that a run has ended, unless that was done."""
    deliver(notice_id)


@shared_task(name="workers.tasks.tidy")
def tidy() -> None:
    """Remove what nobody needs; for sites that run Celery's beat."""
    watch.tidy_quietly()


@shared_task(name="workers.tasks.refresh")
def refresh() -> None:
    """Send what of harvests and link checks is due; Celery's beat asks for it."""
    send_due()


@shared_task(name="workers.tasks.harvest")
def harvest(source: str) -> None:
    """Harvest a source, if it is still due: two messages do no double work."""
    with bound(source=source):
        harvest_if_due(source)


@shared_task(name="workers.tasks.check_links")
def check_links() -> None:
    """Check links that are due until the next look; leases of hosts keep two rounds apart."""
    check_due(settings.REFRESH_SECONDS)
