"""What the linked sources state beside the table: licences, access, counts with units."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from catalog import licences
from catalog.importers.tables import Row, Tables

SOURCE = "project-imaging-x"
ARCHIVE = re.compile(r"cancerimagingarchive\.net|10\.7937/", re.IGNORECASE)
SCALES = {"": 1, "k": 1_000, "m": 1_000_000}
# Older OpenNeuro accessions came from OpenfMRI under other terms.
FIRST_CC0_ACCESSION = 1_000
SHORT = 70  # longer licence texts are sentences, which are not carried over
NOT_A_LICENCE = {"", "无", "Does not have copyright information"}


def linked(tables: Tables, listed: Iterable[str]) -> Iterator[Row]:
    """Crosswalk rows of the same dataset; sources derived from it speak of other data."""
    for name in sorted(listed):
        for link in tables.links.get(name, []):
            if "derived from" not in link["match"]:
                yield link


def _licence_texts(tables: Tables, listed: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    for link in linked(tables, listed):
        source, source_id = link["source"], link["source_id"]
        if source == "idc" and source_id in tables.idc:
            yield source, source_id, tables.idc[source_id]["license_main"]
        elif source == "openneuro" and _is_cc0(source_id):
            yield source, source_id, "CC0"
        elif source in tables.licences:
            yield source, source_id, tables.licences[source].get(source_id, "")


def _is_cc0(accession: str) -> bool:
    number = accession.removeprefix("ds")
    return number.isdigit() and int(number) >= FIRST_CC0_ACCESSION


def licence_of(tables: Tables, listed: set[str]) -> tuple[str | None, list[dict[str, Any]]]:
    """The licence on which all sources agree, and what each of them says.

    IDC, which carries the licence of every series, outweighs the other lists.
    """
    claims: list[dict[str, Any]] = []
    for source, source_id, text in _licence_texts(tables, listed):
        if text in NOT_A_LICENCE:
            continue
        named = licences.from_text(text)
        claim: dict[str, Any] = {
            "field": "licence",
            "value": named.id if named else None,
            "source": source,
            "reason": f"{source_id}: {text if len(text) <= SHORT else 'terms in its own words'}",
        }
        if claim not in claims:
            claims.append(claim)
    stated = [claim for claim in claims if claim["value"]]
    first = [claim for claim in stated if claim["source"] == "idc"] or stated
    agreed = {claim["value"] for claim in first}
    refused = tables.reviewed["licence_not_applied"]
    reason = next((refused[name] for name in listed if name in refused), None)
    value = agreed.pop() if len(agreed) == 1 and reason is None else None
    for claim in claims:
        claim["applied"] = value is not None and claim["value"] == value
        if reason:
            claim["reason"] += f"; not applied: {reason}"
    return value, claims


def access_of(
    tables: Tables, rows: list[dict[str, Any]], listed: set[str], homepage: str | None
) -> tuple[str, str | None, list[dict[str, Any]]]:
    """Access, its basis and the claims. Upstream's value is a guess from the address.

    The guess is not followed for an archive that mixes open and restricted collections.
    """
    guesses = [str(row["access"]) for row in rows if row["access"] != "unknown"]
    claims = [
        {
            "field": "access",
            "value": guess,
            "source": SOURCE,
            "reason": "guessed upstream from the address",
            "applied": False,
        }
        for guess in dict.fromkeys(guesses)
    ]
    collection = next(
        (link["source_id"] for link in linked(tables, listed) if link["source"] == "idc"), None
    )
    if collection:
        claims.append(
            {
                "field": "access",
                "value": "open",
                "source": "idc",
                "reason": f"{collection}: in IDC, which holds only openly downloadable data",
                "applied": True,
            }
        )
        return "open", "listed in IDC", claims
    if len(set(guesses)) != 1 or ARCHIVE.search(homepage or ""):
        return "unknown", None, claims
    claims[0]["applied"] = True
    return guesses[0], "url pattern", claims


def parse_number(text: str) -> int | None:
    """`2.7k`, `1,100`, `200+` or `1M` as a whole number; None for anything else and for 0."""
    match = re.fullmatch(r"(\d[\d,]*(?:\.\d+)?)\s*([kKmM]?)\+?", text.strip())
    if not match:
        return None
    number = float(match[1].replace(",", "")) * SCALES[match[2].lower()]
    return round(number) or None


def counts_of(tables: Tables, group: list[int], listed: set[str]) -> list[dict[str, Any]]:
    """Counts as stated; upstream's have no unit, IDC's and OpenNeuro's have one."""
    found = [count for index in group for count in _upstream_counts(tables, index)]
    for link in linked(tables, listed):
        if link["source"] == "idc" and (row := tables.idc.get(link["source_id"])):
            found += [
                _count(row[column], unit, "idc", f"in IDC collection {link['source_id']}")
                for column, unit in (
                    ("subjects_in_idc", "subject"),
                    ("studies", "study"),
                    ("series", "series"),
                )
                if parse_number(row[column])
            ]
        elif link["source"] == "openneuro" and link["source_id"] in tables.openneuro:
            subjects = tables.openneuro[link["source_id"]]["num_subjects"]
            found.append(_count(subjects, "subject", "openneuro", link["source_id"]))
    stated = [count for count in found if count["number"] is not None]
    return [count for place, count in enumerate(stated) if count not in stated[:place]]


def _count(raw: str, unit: str | None, source: str, what: str | None = None) -> dict[str, Any]:
    return {
        "number": parse_number(raw),
        "unit": unit,
        "what": what,
        "raw": raw,
        "source": source,
    }


def _upstream_counts(tables: Tables, index: int) -> Iterator[dict[str, Any]]:
    for row in tables.suspects.get(index, []):
        if row["field"] == "samples" and row["severity"] == "wrong":
            match = re.fullmatch(r"(\d+)( patients| subjects)?", row["likely"])
            if match:
                unit = "subject" if match[2] else None
                raw = row["likely"]
                yield {**_count(match[1], unit, "curation"), "raw": raw}
            return
    text = str(tables.rows[index]["samples"])
    if images := re.match(r"([\d,]+) images", text):
        yield {**_count(images[1], "image", SOURCE), "raw": text}
    elif parse_number(text):
        yield _count(text, None, SOURCE)


def facts_of(tables: Tables, record: dict[str, Any]) -> dict[str, Any]:
    """The record with the facts that a person added for it."""
    facts = tables.reviewed["facts"].get(record["slug"], {})
    merged = dict(record)
    for key, value in facts.items():
        if isinstance(value, list):
            merged[key] = [*record[key], *(item for item in value if item not in record[key])]
        else:
            merged[key] = value
    if facts:
        curation = {"id": "curation", "version": None, "ref": None}
        merged["sources"] = [*record["sources"], curation]
    return merged
