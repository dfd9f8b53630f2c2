"""Which index belongs to the catalog as it is now, and what goes into it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache

from django.db.models import Count, Max

from catalog.models import CatalogRevision, Dataset
from catalog.search.documents import VERSION, Document, document
from catalog.search.interpret import vocabulary_state


def current_key() -> str:
    """Name of the right index, `<catalog>-<vocabulary>`: with another name an index is stale.

    A catalog without a revision (rows made by hand) is told apart by number and time of its rows.
    """
    digest = CatalogRevision.objects.order_by("-loaded_at").values_list("digest", flat=True).first()
    if digest is None:
        rows = Dataset.objects.aggregate(number=Count("pk"), latest=Max("updated_at"))
        digest = hashlib.sha256(repr(sorted(rows.items())).encode()).hexdigest()
    return f"{digest[:16]}-{_vocabulary_digest()}"


@cache
def _vocabulary_digest() -> str:
    return hashlib.sha256(repr((VERSION, vocabulary_state())).encode()).hexdigest()[:8]


def current_documents() -> Iterator[Document]:
    """Every dataset as a document, by slug: equal scores keep this order."""
    for dataset in Dataset.objects.in_order().iterator(chunk_size=500):
        yield document(dataset)
