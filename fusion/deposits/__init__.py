"""Bundles sent to places that others get them from. A literal registry, as fusion.sources has.

Sending is safe to repeat: what is there already, by its checksum, is not sent again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, cast

from catalog.licences import licence
from fusion.deposits.base import Parcel, Place, Sent, Told
from fusion.errors import BuildError
from fusion.sources.safety import FetchRules

__all__ = ["PLACES", "Parcel", "Sent", "place", "refusals", "send", "what_is_sent"]
#: Place -> name for people, what its target is called, and the module.
PLACES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "huggingface": ("Hugging Face Hub", "account/name", "fusion.deposits.huggingface"),
        "zenodo": ("Zenodo, as a draft", "", "fusion.deposits.zenodo"),
        "s3": ("S3", "bucket/prefix", "fusion.deposits.s3"),
    }
)


def place(name: str) -> Place:
    """The module that sends to a place."""
    return cast("Place", import_module(PLACES[name][2]))


def refusals(build: str, summary: Mapping[str, Any]) -> list[str]:
    """Why a bundle must not be passed on; empty for a shareable one. Pure."""
    if build == "shareable":
        return []
    found = [f"It is a {build} build, expected a shareable one: start its recipe with that."]
    for source in summary["sources"]:
        for part in ("images", "labels"):
            stated = (source.get("licence") or {}).get(part) or "unknown"
            if stated == "unknown" or not licence(stated).redistribute:
                found.append(f"{source['id']}: the licence of its {part} is {stated}.")
    return found


def what_is_sent(parcel: Parcel, name: str, target: str) -> dict[str, Any]:
    """A dry run: nobody is asked, nothing is sent.

    Raises:
        BuildError: deposit_refused, for a target that the place cannot have.
    """
    place(name).check_target(target)
    rows = place(name).sent_files(parcel)
    return {
        "place": name,
        "target": target,
        "files": len(rows),
        "bytes": sum(size for _, size in rows),
        "first_files": [path for path, _ in rows[:10]],
        "licences": dict(sorted(Counter(parcel.licences).items())),
        "credential": place(name).CREDENTIAL,
    }


def send(
    parcel: Parcel, name: str, target: str, rules: FetchRules, told: Told, **more: Any
) -> Sent:
    """Send a bundle, or the rest of it.

    Args:
        told: called with the bytes that are there by now; what it raises ends the sending.
        more: remote, what an earlier try was given, and begun, called with it as soon as there is
            one; private, who may see it at first.

    Raises:
        BuildError: access_denied, deposit_refused, source_failed.
    """
    if not rules.secret(place(name).CREDENTIAL):
        raise BuildError("access_denied", f"{PLACES[name][0]}: set {place(name).CREDENTIAL}")
    return place(name).send(parcel, target, rules, told, **more)
