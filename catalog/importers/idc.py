"""Imaging Data Commons: one entry a collection, with what its own series and its labels say.

A collection's numbers are those of its original data; segmentations that others added later are
analysis results and count as labels alone. `size_mb` is in 10^6 bytes and `size_gb` in 1024 of them
(checked on every collection: the sum of `size_mb` / 1024 is `size_gb`).
"""

from __future__ import annotations

import html
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from catalog.importers.cells import (
    Facts,
    exact_number,
    find,
    links,
    ordered,
    parse_doi,
    plain_name,
    read_csv,
    split,
    terms_of,
)
from catalog.importers.entry import Entry, ImportSourceError
from catalog.record import Count, Link

SOURCE = "idc"
PORTAL = "https://portal.imaging.datacommons.cancer.gov/explore/?collection_id="
BYTES_OF_A_GB = 1024 * 10**6
SHORT_NAME = 60
ROUNDING = BYTES_OF_A_GB // 500  # size_gb has three decimals
ARCHIVE_DOI = "10.7937/"  # The Cancer Imaging Archive, which gives the year of first publication

Row = Mapping[str, str]

# DICOM codes of images; the rest (SEG, SR, RTSTRUCT, PR, KO, OT, ...) are objects made from them.
MODALITIES: Mapping[str, str] = MappingProxyType(
    {
        "CT": "CT", "MR": "MR", "PT": "PET", "NM": "Nuclear medicine", "US": "Ultrasound",
        "CR": "X-ray", "DX": "X-ray", "RG": "X-ray", "MG": "Mammography", "XA": "Angiography",
        "RF": "Fluoroscopy", "SM": "Histopathology", "GM": "Microscopy", "ES": "Endoscopy",
        "OP": "Fundus photography", "OPT": "OCT", "XC": "Clinical photography", "EEG": "EEG",
    }
)  # fmt: skip
DIMENSIONS: Mapping[str, str] = MappingProxyType(
    {"CT": "3D", "MR": "3D", "PT": "3D", "CR": "2D", "DX": "2D", "MG": "2D", "SM": "2D"}
)
LABELS = frozenset({"SEG", "RTSTRUCT", "ANN"})
HEALTHY = frozenset({"normal (non-cancer)", "healthy controls (non-cancer)", "non-diseased"})
# Single regions among the DICOM body parts; what spans several is left out.
BODY_PARTS: Mapping[str, str] = MappingProxyType(
    {
        "ABDOMEN": "Abdomen", "BLADDER": "Bladder", "BRAIN": "Brain", "BREAST": "Breast",
        "CERVIX": "Cervix", "CHEST": "Chest", "COLON": "Colon", "HEAD": "Head and neck",
        "HEART": "Heart", "KIDNEY": "Kidney", "LIVER": "Liver", "LUNG": "Lung",
        "NECK": "Head and neck", "PANCREAS": "Pancreas", "PELVIS": "Pelvis", "PHANTOM": "Phantom",
        "PROSTATE": "Prostate", "THORAX": "Chest", "UTERUS": "Uterus", "WHOLEBODY": "Whole body",
    }
)  # fmt: skip
COLUMNS = (
    "collection_id", "collection_name", "cancer_types", "tumor_locations", "species", "sources",
    "subjects_in_idc", "studies", "series", "size_gb", "modalities", "series_by_modality",
    "licenses", "body_parts",
)  # fmt: skip


ANALYSIS_COLUMNS = (
    "analysis_result_id", "analysis_result_title", "source_DOI", "source_url", "modalities",
    "license_short_name", "citation", "patients", "series", "updated",
)  # fmt: skip


def entries(folder: Path) -> Iterator[Entry]:
    """Every collection and every analysis result, which is a dataset of annotations.

    Raises:
        ImportSourceError: a table is missing or not as expected.
    """
    rows = read_csv(folder / "idc" / "idc_collections.csv", COLUMNS)
    parts = read_csv(
        folder / "idc" / "idc_collection_modality_license.csv",
        ("collection_id", "analysis_result_id", "Modality", "license_short_name", "size_mb"),
    )
    yield from convert(rows, parts)
    results = read_csv(folder / "idc" / "idc_analysis_results.csv", ANALYSIS_COLUMNS)
    yield from map(parse_analysis, results)


def convert(rows: Iterable[Row], parts: Iterable[Row]) -> Iterator[Entry]:
    """Entries in the table's order from collections and their parts by modality and licence."""
    by_collection: dict[str, list[Row]] = defaultdict(list)
    for part in parts:
        by_collection[part["collection_id"]].append(part)
    for row in rows:
        yield parse_collection(row, by_collection[row["collection_id"]])


def parse_collection(row: Row, parts: Iterable[Row]) -> Entry:
    """One collection with the parts of which it consists."""
    parts = list(parts)
    original = _original_sources(row)
    facts = Facts(SOURCE)
    source = _publication(original)
    citation = parse_citation(source) if source else None
    if source and citation and (parse_doi(source["source_doi"]) or "").startswith(ARCHIVE_DOI):
        facts.state("year", citation["year"], str(citation["year"]))
    _state_modalities(facts, row, original)
    facts.state("anatomies", anatomies(row), row["tumor_locations"] or row["body_parts"])
    kinds = split(row["cancer_types"], ",")
    facts.state("diseases", find("disease", kinds), row["cancer_types"])
    if kinds and all(kind.casefold() in HEALTHY for kind in kinds):
        facts.state_none("diseases", row["cancer_types"])
    _state_labels(facts, parts)
    facts.state("size_bytes", size_bytes(row["size_gb"], parts), f"{row['size_gb']} GB")
    own = {name for name, _ in counted(row["licenses"])}
    facts.state_licence(own.pop() if len(own) == 1 else row["licenses"])
    facts.state("access", "open")
    if source:
        facts.state("doi", parse_doi(source["source_doi"]))
        facts.state("citation", citation)
    return Entry(
        source=SOURCE,
        ref=row["collection_id"],
        name=plain_name(row["collection_name"]),
        links=tuple(_links(row, original)),
        facts=facts.claims,
        counts=tuple(_counts(row)),
    )


def parse_analysis(row: Row) -> Entry:
    """One analysis result: annotations that were published apart from the images they belong to.

    What its images show is not stated here; that is for its record to say.
    """
    source = {"citation": row["citation"], "source_doi": row["source_DOI"]}
    citation = parse_citation(source)
    title, _, rest = row["analysis_result_title"].partition(": ")
    facts = Facts(SOURCE)
    # Citations of Zenodo name the year of the newest version; the table's own date may be older.
    years = [int(year) for year in re.findall(r"\(((?:19|20)\d\d)\)", row["citation"])[:1]]
    years += [int(row["updated"][:4])] if row["updated"] else []
    if years:
        facts.state("year", min(years), row["updated"])
    facts.state("labelled", True, row["modalities"])
    facts.state_licence(row["license_short_name"])
    facts.state("access", "open")
    facts.state("doi", parse_doi(row["source_DOI"]))
    facts.state("citation", citation)
    numbers = (("patients", "subject"), ("series", "series"))
    return Entry(
        source=SOURCE,
        ref=row["analysis_result_id"],
        name=title if rest and len(title) < SHORT_NAME else row["analysis_result_title"],
        links=tuple(links(SOURCE, [row["source_url"]])),
        facts=facts.claims,
        counts=tuple(
            Count(number=number, unit=unit, source=SOURCE)  # type: ignore[arg-type]
            for column, unit in numbers
            if (number := exact_number(row[column]))
        ),
    )


def counted(cell: str) -> Iterator[tuple[str, int]]:
    """`name:number` pairs of a cell; a name may hold the mark between pairs itself."""
    for match in re.finditer(r"\s*(.*?):(\d+)(?:;|$)", cell):
        yield match[1], int(match[2])


def anatomies(row: Row) -> list[str]:
    """Organs from the tumour locations, else from the body parts that name one region."""
    found: set[str] = set()
    for word in split(row["tumor_locations"], ","):
        organ = re.sub(r"\s*phantom$", "", word, flags=re.IGNORECASE)
        found |= {"Phantom"} if organ != word else set()
        found |= set(terms_of("anatomy", organ))
    if not found:
        codes = {code for code, _ in counted(row["body_parts"])}
        found = {BODY_PARTS[code] for code in codes if code in BODY_PARTS}
    species = set(split(row["species"], ",")) - {"Human", ""}
    found |= {"Phantom" if name == "Phantom" else "Animal model" for name in species}
    return ordered("anatomy", found)


def size_bytes(size_gb: str, parts: Iterable[Row]) -> int | None:
    """Bytes of the original data: to the byte where its parts give `size_gb`, else from that."""
    try:
        total = round(float(size_gb) * BYTES_OF_A_GB)
    except ValueError:
        return None
    exact = round(sum(float(p["size_mb"]) for p in parts if not p["analysis_result_id"]) * 10**6)
    return (exact if abs(exact - total) <= ROUNDING else total) or None


def parse_citation(source: Mapping[str, Any]) -> dict[str, Any] | None:
    """Title, authors, year, publisher and DOI of an APA citation of data; None for other texts.

    Authors are left out where the citation shortens or mixes their list.
    """
    text = html.unescape(str(source.get("citation") or ""))
    plain = re.sub(r"\s+", " ", text).strip()
    match = re.fullmatch(
        r"(?P<authors>.+?)\.? \((?P<year>(?:19|20)\d\d)\)\. <i>(?P<title>[^<>]+)</i>"
        r"(?: ?\(Version [^()]*\))?(?: \[Data ?set\])?\. (?P<publisher>[^.]+)\. "
        r"https?://doi\.org/\S+",
        plain,
    )
    if not match:
        return None
    return {
        "title": match["title"].strip(),
        "authors": parse_authors(match["authors"]),
        "year": int(match["year"]),
        "container": match["publisher"],
        "doi": parse_doi(source["source_doi"]),
    }


def parse_authors(text: str) -> list[str]:
    """`Weiss, E., & Ray, X.` as names; a text without a comma is one name; else nothing."""
    if "," not in text:
        return [text] if "…" not in text else []
    plain = f"{text.replace('& ', '')}."
    name = r"(?P<name>[^,.…]+(?: Jr\.)?, (?:[^\W\d_]\.(?:[ -]|(?=,|$)))+?)(?:, |$)"
    found, place = [], 0
    while place < len(plain):
        match = re.compile(name).match(plain, place)
        if not match:
            return []
        found.append(match["name"].strip())
        place = match.end()
    return found


def _original_sources(row: Row) -> list[dict[str, Any]]:
    try:
        sources: list[dict[str, Any]] = json.loads(row["sources"] or "[]")
    except ValueError as error:
        message = f"idc_collections.csv: {row['collection_id']}: sources: no valid JSON: {error}"
        raise ImportSourceError(message) from error
    return [one for one in sources if one["source_type"] == "original_data"]


def _publication(original: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The source that stands for the collection: its only one, else its only one in the archive."""
    archive = [
        one for one in original if (parse_doi(one["source_doi"]) or "").startswith(ARCHIVE_DOI)
    ]
    for found in (original, archive):
        if len(found) == 1:
            return found[0]
    return None


def _state_modalities(facts: Facts, row: Row, original: list[dict[str, Any]]) -> None:
    codes = split(row["modalities"], ";")
    found = {MODALITIES[code] for code in codes if code in MODALITIES}
    facts.state("modalities", ordered("modality", found), row["modalities"])
    titles = " ".join([row["collection_name"], *(str(one["source_title"]) for one in original)])
    slabs = re.search(r"tomosynthesis|\bdbt\b", titles, re.IGNORECASE) is not None
    planes = {DIMENSIONS[c] for c in codes if c in DIMENSIONS and not (c == "MG" and slabs)}
    facts.state("dimensions", ordered("dimension", planes), row["modalities"])


def _state_labels(facts: Facts, parts: Iterable[Row]) -> None:
    labels = [part for part in parts if part["Modality"] in LABELS]
    if not labels:
        return
    facts.state("labelled", True, ";".join(dict.fromkeys(part["Modality"] for part in labels)))
    named = {part["license_short_name"] for part in labels}
    if len(named) == 1:
        facts.state_licence(named.pop(), field="licence_labels")


def _links(row: Row, original: Iterable[Mapping[str, Any]]) -> Iterator[Link]:
    yield from links(SOURCE, [str(one["source_url"]) for one in original])
    yield Link(url=PORTAL + row["collection_id"], kind="download", source=SOURCE)


def _counts(row: Row) -> Iterator[Count]:
    columns = (("subjects_in_idc", "subject"), ("studies", "study"), ("series", "series"))
    for column, unit in columns:
        if number := exact_number(row[column]):
            yield Count(number=number, unit=unit, source=SOURCE)  # type: ignore[arg-type]
    for code, number in counted(row["series_by_modality"]):
        if code == "SM" and number:
            yield Count(number=number, unit="slide", source=SOURCE)
