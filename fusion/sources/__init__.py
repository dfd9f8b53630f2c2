"""Where source files come from. A literal registry: nothing registers itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import cast

from fusion.locations import LocalFolder, Manual, Place
from fusion.sources import local, manual
from fusion.sources.base import Check, Connector, Listing
from fusion.sources.credentials import kind_of
from fusion.sources.download import PEOPLE
from fusion.sources.safety import FetchRules

__all__ = ["acquire", "connector", "listing"]

#: Kind of a location -> module; imported when used, clients take their time.
CONNECTORS: Mapping[str, str] = MappingProxyType(
    {
        "own": "fusion.sources.own",
        "huggingface": "fusion.sources.huggingface",
        "http": "fusion.sources.http",
        "zenodo": "fusion.sources.zenodo",
        "figshare": "fusion.sources.figshare",
        "idc": "fusion.sources.idc",
        "openneuro": "fusion.sources.openneuro",
        "mendeley": "fusion.sources.mendeley",
        "kaggle": "fusion.sources.kaggle",
        "synapse": "fusion.sources.synapse",
        "physionet": "fusion.sources.physionet",
        "s3": "fusion.sources.s3",
    }
)

#: Connectors whose place a program can search.
SEARCHED = ("huggingface", "zenodo", "figshare", "kaggle", "idc")


def acquire(
    place: Place,
    *,
    data_root: Path,
    cache: Path,
    check: Check = lambda: None,
    rules: FetchRules | None = None,
) -> Path:
    """Folder that holds the source's files; local folders are read in place, archives unpacked.

    What is fetched with a person's own credential is kept for that person alone.

    Args:
        check: called now and then; what it raises ends the fetching, and bytes so far are kept.
        rules: default: the operator's settings.

    Raises:
        BuildError: see fusion.sources.base.Connector; archive_unsafe.
    """
    if isinstance(place, LocalFolder):
        root = local.acquire(place.path, data_root, cache, check)
    elif isinstance(place, Manual):
        root = manual.acquire(place, data_root, cache, check)
    else:
        rules = rules or configured_rules()
        kind = kind_of(place.kind)
        if kind and kind.name in rules.credentials:  # others may have no access to these files
            cache = cache / PEOPLE / rules.person
        root = connector(place.kind).fetch(place, cache, rules, check)
    if root.is_relative_to(cache):  # used just now: what was not for long may be removed
        kept = cache.joinpath(*root.relative_to(cache).parts[:2])
        os.utime(kept)
    return root


def listing(place: Place, rules: FetchRules | None = None) -> Listing:
    """What a place elsewhere holds, and on which terms; nothing is fetched.

    Raises:
        BuildError: see fusion.sources.base.Connector.
    """
    return connector(place.kind).listing(place, rules or configured_rules())


def connector(kind: str) -> Connector:
    """The connector of a kind of location."""
    return cast("Connector", import_module(CONNECTORS[kind]))


def configured_rules(
    person: str = "", credentials: Mapping[str, str] = MappingProxyType({})
) -> FetchRules:
    """What the operator allows, by the settings, with the credentials of a person."""
    from django.conf import settings

    return FetchRules(
        networks=tuple(settings.FETCH_NETWORKS),
        largest_bytes=settings.FETCH_BYTES,
        per_host=settings.FETCH_PER_HOST,
        bytes_per_second=settings.FETCH_BYTES_PER_SECOND,
        hosts=settings.FETCH_HOSTS,
        credentials=credentials,
        person=person,
    )
