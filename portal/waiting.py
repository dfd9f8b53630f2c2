"""What waits for curators: the queues, how much is in each, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Max, Min
from django.urls import reverse
from django.utils.http import urlencode

from catalog.models import CatalogLink, Correction, Harvest, HarvestChange


@dataclass(frozen=True)
class Waiting:
    """One queue.

    Args:
        about: what is in it and what a curator does with it.
        page, api: where it is.
        since: of the oldest in it; None for an empty one.
    """

    name: str
    about: str
    page: str
    api: str
    count: int
    since: datetime | None


def waiting() -> Sequence[Waiting]:
    """Every queue, the empty ones too. Four queries."""
    corrections = Correction.objects.filter(state=Correction.State.OPEN)
    changes = HarvestChange.objects.filter(state=HarvestChange.State.WAITING)
    asked = corrections.aggregate(count=Count("pk"), since=Min("created_at"))
    stated = changes.aggregate(count=Count("pk"), since=Min("harvest__started_at"))
    broken = CatalogLink.objects.filter(state=CatalogLink.State.BROKEN).aggregate(
        count=Count("pk"), since=Min("since")
    )
    ended = Harvest.objects.exclude(state=Harvest.State.RUNNING)
    last = ended.order_by().values("source").annotate(last=Max("pk")).values("last")
    failed = Harvest.objects.filter(pk__in=last, state=Harvest.State.FAILED).aggregate(
        count=Count("pk"), since=Min("started_at")
    )
    return (
        Waiting(
            "corrections",
            "Suggested by readers, with where they know it from: accept or reject each.",
            *_places("corrections", state=Correction.State.OPEN),
            **asked,
        ),
        Waiting(
            "changes of sources",
            "A harvest found another licence or access, a smaller count, or an entry gone.",
            reverse("harvest-queue"),
            f"{reverse('api:harvest-changes')}?state={HarvestChange.State.WAITING}",
            **stated,
        ),
        Waiting(
            "broken addresses",
            "They failed three times in a row: put the new address into the record.",
            *_places("links", state=CatalogLink.State.BROKEN),
            **broken,
        ),
        Waiting(
            "failed harvests",
            "Sources whose last harvest gave nothing; after five in a row a person must look.",
            *_places("harvests"),
            **failed,
        ),
    )


def _places(name: str, **query: str) -> tuple[str, str]:
    """Addresses of the page and of the API of that name."""
    more = f"?{urlencode(query)}" if query else ""
    return f"{reverse(name)}{more}", f"{reverse(f'api:{name}')}{more}"
