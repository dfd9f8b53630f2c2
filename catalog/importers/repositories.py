"""Records of Zenodo and figshare and datasets of the Hub, as their APIs state them. Pure.

They describe what is at an address that a dataset of the catalog has, never a dataset of their own;
that may be more or less than the dataset, so that only terms are claimed, and no numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.importers.cells import Facts, parse_doi, parse_year, plain_name
from catalog.importers.entry import Entry

#: Zenodo's access rights -> ours; "embargoed" and "closed" files are had by nobody.
RIGHTS = {"open": "open", "restricted": "application"}
#: The Hub's gates -> ours: who signs in and agrees is let in, or whom the author lets in.
GATES = {"auto": "registration", "manual": "application"}


def parse_zenodo(ref: str, answer: Mapping[str, Any]) -> Entry:
    """A record of Zenodo.

    Raises:
        ValueError, KeyError, TypeError: the answer is none of a record.
    """
    meta = answer["metadata"]
    facts = Facts("zenodo")
    if stated := (meta.get("license") or {}).get("id"):
        facts.state_licence(str(stated))
    facts.state("access", RIGHTS.get(str(meta.get("access_right"))), meta.get("access_right"))
    facts.state("doi", parse_doi(str(answer.get("doi") or meta.get("doi") or "")))
    facts.state("year", parse_year(str(meta.get("publication_date") or "")))
    return _entry(facts, ref, meta["title"])


def parse_figshare(ref: str, answer: Mapping[str, Any]) -> Entry:
    """An article of figshare.

    Raises:
        ValueError, KeyError, TypeError: the answer is none of an article.
    """
    facts = Facts("figshare")
    if stated := answer.get("license"):
        facts.state_licence(str(stated.get("name") or ""), str(stated.get("url") or ""))
    facts.state("access", None if answer.get("is_embargoed") else "open")
    facts.state("doi", parse_doi(str(answer.get("doi") or "")))
    facts.state("year", parse_year(str(answer.get("published_date") or "")))
    return _entry(facts, ref, answer["title"])


def parse_hub(ref: str, answer: Mapping[str, Any]) -> Entry:
    """A dataset of the Hub.

    Raises:
        ValueError, KeyError, TypeError: the answer is none of a dataset.
    """
    facts = Facts("huggingface")
    card = answer.get("cardData") or {}
    stated = card.get("license")
    if isinstance(stated, str):
        facts.state_licence(stated, str(card.get("license_link") or ""))
    gate = answer.get("gated")
    facts.state("access", GATES.get(str(gate), "open" if gate is False else None), str(gate))
    return _entry(facts, ref, answer["id"])


def _entry(facts: Facts, ref: str, name: object) -> Entry:
    return Entry(facts.source, ref, plain_name(str(name)) or ref, facts=facts.claims)
