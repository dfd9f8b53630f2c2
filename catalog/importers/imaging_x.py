"""Convert the Project-Imaging-X table into one record per distinct dataset. Pure after reading.

The table lists a dataset once per section, so several rows become one record. Tokens are mapped to
the vocabularies; each row's own words stay in `raw`. What a row does not say stays unknown.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from catalog.importers.claims import access_of, counts_of, facts_of, licence_of
from catalog.importers.tables import Tables
from catalog.importers.tokens import terms_of
from catalog.record import DatasetRecord

SOURCE = "project-imaging-x"
VERSION = "ec70f7b9"
RAW_KEYS = ("section", "name", "url", "year", "dim", "modality", "structure", "samples")
RAW_KEYS_AFTER = ("label", "task", "diseases", "access")
NO_VALUE = re.compile(r"NA\b|none\b|truncated cell|\(shifted\)")
BAD_LINK = ("retired", "mirror", "paper", "site closed")


def name_key(name: str) -> str:
    """What makes two spellings of a name the same."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def slug_of(name: str) -> str:
    """ASCII letters, digits and single hyphens."""
    plain = unicodedata.normalize("NFKD", name.replace("'", "").replace("++", " plus "))
    plain = plain.replace("&", " and ").encode("ascii", "ignore").decode().casefold()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:100].rstrip("-")


def clean_url(url: str) -> str:
    """The address without markdown escapes, blanks and stray endings."""
    plain = url.replace("\\", "").strip().replace(" ", "%20")
    return re.sub(r"==$", "", plain)


def _place(url: str) -> str:
    """An address without scheme, www and landing-page endings: equal for one page."""
    parts = urlsplit(clean_url(url).casefold())
    path = re.sub(r"/(home|dataset|data|overview|download)?/?$", "", parts.path)
    fragment = f"#{parts.fragment}" if parts.fragment.startswith("!") else ""
    return (
        parts.netloc.removeprefix("www.")
        + path
        + (f"?{parts.query}" if parts.query else "")
        + fragment
    )


def _host(url: str) -> str:
    host = urlsplit(clean_url(url).casefold()).netloc.removeprefix("www.")
    archive = host.endswith("cancerimagingarchive.net") or "10.7937/" in url
    return "cancerimagingarchive.net" if archive else host


def same_dataset(first: dict[str, Any], second: dict[str, Any], issues: tuple[str, str]) -> bool:
    """Whether two rows of one name are one dataset: by address, else by year and modality."""
    if not first["url"] or not second["url"] or any("mirror" in issue for issue in issues):
        return True
    if _place(first["url"]) == _place(second["url"]):
        return True
    if _host(first["url"]) == _host(second["url"]):
        return True
    years = {first["year"], second["year"]} - {"NA"}
    return len(years) <= 1 and first["modality"] == second["modality"]


def group_rows(tables: Tables) -> list[list[int]]:
    """Row numbers by distinct dataset, each group in the table's order."""
    alike = {
        name_key(member): f"group:{group['name']}"
        for group in tables.reviewed["groups"]
        for member in group["members"]
    }
    groups: dict[str, list[list[int]]] = {}
    for index, row in enumerate(tables.rows):
        key = name_key(row["name"])
        reviewed = alike.get(key)
        found = groups.setdefault(reviewed or key, [])
        for group in found:
            issue = tables.url_issues.get
            if reviewed or any(
                same_dataset(tables.rows[i], row, (issue(i, ""), issue(index, ""))) for i in group
            ):
                group.append(index)
                break
        else:
            found.append([index])
    return [group for found in groups.values() for group in found]


def convert(tables: Tables) -> list[DatasetRecord]:
    """Every distinct dataset as a record, sorted by slug; a slug taken twice gets the year."""
    records: dict[str, dict[str, Any]] = {}
    for group in group_rows(tables):
        record = convert_group(tables, group)
        slug = record["slug"]
        if slug in records:
            slug = f"{slug}-{record['year'] or group[0]}"
        records[slug] = {**record, "slug": slug}
    return [DatasetRecord.model_validate(records[slug]) for slug in sorted(records)]


def convert_group(tables: Tables, group: list[int]) -> dict[str, Any]:
    """One record from the rows of one dataset."""
    rows = [tables.rows[index] for index in group]
    title = _title(tables, rows)
    listed = {str(row["name"]).strip() for row in rows}
    claims = list(_suspect_claims(tables, group))
    licence, licence_claims = licence_of(tables, listed)
    links = _links(tables, group)
    homepage = next((link["url"] for link in links), None)
    access, basis, access_claims = access_of(tables, rows, listed, homepage)
    record: dict[str, Any] = {
        "slug": title["slug"],
        "name": title["name"],
        "aliases": _unique([*title["aliases"], *sorted(listed)], without=title["name"]),
        "year": _year(tables, group),
        **terms_of(tables, group),
        "counts": counts_of(tables, group, listed),
        "labelled": _labelled(tables, group),
        "licence": licence,
        "access": access,
        "access_basis": basis,
        "homepage": homepage,
        "links": links,
        "sources": _sources(tables, group, [*licence_claims, *access_claims], listed),
        "claims": [*claims, *licence_claims, *access_claims],
        "raw": [_raw(tables, index) for index in group],
    }
    return facts_of(tables, record)


def _unique(values: Iterable[str], *, without: str = "") -> list[str]:
    return [value for value in dict.fromkeys(values) if value and value != without]


def _title(tables: Tables, rows: list[dict[str, Any]]) -> dict[str, Any]:
    listed = str(rows[0]["name"]).strip()
    for group in tables.reviewed["groups"]:
        if any(name_key(listed) == name_key(member) for member in group["members"]):
            given = group
            break
    else:
        given = tables.reviewed["names"].get(listed, {})
    name = given.get("name", listed)
    return {
        "name": name,
        "slug": given.get("slug") or slug_of(name),
        "aliases": given.get("aliases", []),
    }


def _suspects(tables: Tables, index: int, field: str) -> list[dict[str, str]]:
    found = tables.suspects.get(index, [])
    return [row for row in found if row["field"] == field and row["severity"] == "wrong"]


def _year(tables: Tables, group: list[int]) -> int | None:
    """A corrected year first, else the year that most rows state (the earlier one of a tie)."""
    corrected: list[int] = []
    stated: Counter[int] = Counter()
    for index in group:
        likely = (suspect["likely"] for suspect in _suspects(tables, index, "year"))
        corrected += [int(year) for year in likely if re.fullmatch(r"\d{4}", year)]
        text = str(tables.rows[index]["year"])
        if re.fullmatch(r"\d{4}", text) and not _suspects(tables, index, "year"):
            stated[int(text)] += 1
    if corrected:
        return min(corrected)
    return min(stated, key=lambda year: (-stated[year], year)) if stated else None


def _labelled(tables: Tables, group: list[int]) -> bool:
    corrected = any(_suspects(tables, index, "label") for index in group)
    return corrected or any(tables.rows[index]["label"] for index in group)


def _links(tables: Tables, group: list[int]) -> list[dict[str, str | None]]:
    """Each address once, sound ones first."""
    found: dict[str, str | None] = {}
    for index in group:
        url = clean_url(tables.rows[index]["url"])
        issue = tables.url_issues.get(index)
        bad = issue if issue and issue.startswith(BAD_LINK) else None
        if re.match(r"https?://\S+$", url):
            found.setdefault(url, bad)
    ordered = sorted(found.items(), key=lambda pair: (pair[1] is not None,))
    return [{"url": url, "issue": issue} for url, issue in ordered]


def _raw(tables: Tables, index: int) -> dict[str, Any]:
    row = tables.rows[index]
    kept = {key: row[key] for key in (*RAW_KEYS, *RAW_KEYS_AFTER)}
    kept["section"] = str(row["section"]).strip("\u200d ")
    return {"source": SOURCE, "row": index, **kept}


def _suspect_claims(tables: Tables, group: list[int]) -> Iterable[dict[str, Any]]:
    """Cells that a review of the table judged wrong, with the likely value."""
    seen: set[tuple[str, str]] = set()
    for index in group:
        for row in tables.suspects.get(index, []):
            key = (row["field"], row["likely"])
            if row["severity"] != "wrong" or key in seen:
                continue
            seen.add(key)
            reason = f"upstream row {index} has {row['upstream']!r}, judged wrong in review"
            detail = f"; {row['why']}" if row["why"] else ""
            yield {
                "field": row["field"],
                "value": None if NO_VALUE.match(row["likely"]) else row["likely"],
                "source": "curation",
                "reason": reason + detail,
                "applied": row["field"] != "name",
            }


def _sources(
    tables: Tables, group: list[int], claims: list[dict[str, Any]], listed: set[str]
) -> list[dict[str, str | None]]:
    rows = ", ".join(str(index) for index in group)
    upstream = {"id": SOURCE, "version": VERSION, "ref": f"rows {rows}"}
    others = {claim["source"]: claim["reason"] for claim in claims if claim["source"] != SOURCE}
    ids = {
        link["source"]: link["source_id"]
        for name in listed
        for link in tables.links.get(name, [])
        if link["source"] in others
    }
    return [
        upstream,
        *({"id": key, "version": None, "ref": ids.get(key)} for key in sorted(others)),
    ]
