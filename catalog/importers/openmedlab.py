"""OpenMedLab's Awesome-Medical-Dataset: one entry a page about images.

Some pages keep parts of a page that they were copied from. What two pages have word for word in
common (a table of labels, a number beside other numbers in the list's own line) is not read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any

from catalog.importers.cells import (
    MAX_CLASSES,
    Facts,
    addresses,
    exact_number,
    find,
    formats,
    is_nothing,
    links,
    narrowest,
    ordered,
    parse_doi,
    parse_number,
    parse_year,
    plain_name,
    read_json,
    split,
    tasks_in,
)
from catalog.importers.entry import Entry, ImportSourceError
from catalog.record import Count, Unit

SOURCE = "openmedlab"
TEMPLATE_TITLES = frozenset({"", "dataset name"})
MAX_MM = 50  # larger numbers are sizes in voxels in the wrong column
MAX_CLASS_NAME = 100
TEXTS = "Text dataset"
# Sections whose pages may be about recordings or texts alone.
MIXED = "Image text dataset"
PICTURES = re.compile(r"\b(?:wsi|images?|x-rays?|ct|mri)\b", re.IGNORECASE)
NO_IMAGES = re.compile(r"\beeg\b|\begg\b", re.IGNORECASE)
_FORMAT_CELLS = ("File Format", "Format", "Data Formats", "fMRI Format")
IMAGE_FORMATS = frozenset(
    {"AVI", "BMP", "DICOM", "GIF", "JPEG", "MP4", "MetaImage", "NIfTI", "NRRD", "PNG", "TIFF"}
)
_MODALITIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mr t1w": ("MR",), "mri t2w": ("MR",), "mr t1": ("MR",), "mr dwi": ("MR",),
        "tof mr": ("MR",), "lge mr": ("MR",), "t1": ("MR",), "t1ir": ("MR",), "flair": ("MR",),
        "mr": ("MR",), "retinal": ("Fundus photography",), "multimodal": (), "text": (),
    }
)  # fmt: skip
_DETAILS = re.compile(
    r"^(?:(?:MRI?[- ])?(T1-?CE|T1W|T2W|T2-HR|T1|T2|T1IR|FLAIR|DWI)|(TOF|LGE|DE|CE|mp)[- ]?MRI?)$",
    re.IGNORECASE,
)
_SPLITS = MappingProxyType(
    {"training": "train", "train": "train", "validation": "val", "val": "val", "testing": "test",
     "test": "test"}
)  # fmt: skip
_UNITS: Mapping[str, Unit] = MappingProxyType(
    {"images": "image", "videos": "video", "wsis": "slide", "cases": "subject", "frames": "frame"}
)
_SIZES = MappingProxyType({"min": "min_mm", "median": "median_mm", "medium": "median_mm"})
# Heads of the column or row that holds the names of classes, and words of what stands beside them.
_CLASS_HEADS = re.compile(
    r"^(?:categor(?:y|ies)(?: name)?|class(?: name)?|classes|label(?: name)?|description|disease|"
    r"organ(?:/tissue|/structure| label| region)?|region|vertebrae|metric|pathology|component|"
    r"anatom(?:y|ical)(?: structure| structures| feature)?|anatomy structure|dataset statistics|"
    r"structure|segmentation(?: class| structure| target)?|segmented structure|tissue category|"
    r"lesion type|condition|diagnostic category|diabetic retinopathy|artifact type|classification|"
    r"english(?: name| term)?|name|type of fracture|label type)$",
    re.IGNORECASE,
)
_MEASURES = re.compile(
    r"\b(?:numbers?|num|counts?|cases|coverage|percent\w*|ratio|rate|volume|occurr\w*|quantity|"
    r"availab\w*|images|proportion|completeness|accuracy|pixels?|sizes?|frequency|appearance|"
    r"area|train(?:ing)?|val(?:idation)?|test(?:ing)?|set|chinese|rgb|hex|duration|presence|voxel|"
    r"missing|resolution|code)\b",
    re.IGNORECASE,
)
_EXTREMES = re.compile(r"^(?:min|max|median|mean|small|medium|large)", re.IGNORECASE)
_NO_CLASS = re.compile(
    r"^(?:-?\d+(?:[.,]\d+)*|total(?: .*)?|background.*|null.*|none|other|\.\.\.|no annotation.*|"
    r"unknown|sum|all|overall|value|percentage|with effusion|whole foreground)$",
    re.IGNORECASE,
)
_STEM = 5  # letters that tell words apart; "hemorrhage" and "hemorrhagic" are one


@dataclass(frozen=True)
class Copies:
    """What more than one page says word for word."""

    tables: frozenset[str]


def entries(folder: Path) -> Iterator[Entry]:
    """Every page about images of `openmedlab_awesome_medical_dataset/datasets.json`.

    Raises:
        ImportSourceError: the file is missing or not as expected.
    """
    path = folder / "openmedlab_awesome_medical_dataset" / "datasets.json"
    pages = read_json(path)
    if not isinstance(pages, list):
        raise ImportSourceError(f"{path.name}: found {type(pages).__name__}, expected a list")
    for place, page in enumerate(pages):
        if not isinstance(page, dict) or "file" not in page or "title" not in page:
            raise ImportSourceError(f"{path.name}: item {place}: expected file, title")
    yield from convert(pages)


def convert(pages: list[dict[str, Any]]) -> Iterator[Entry]:
    """Entries in the order of the pages."""
    copies = copied(pages)
    for page in pages:
        if is_about_images(page):
            yield parse_page(page, copies)


def copied(pages: Iterable[Mapping[str, Any]]) -> Copies:
    """Tables that stand on more than one page."""
    seen = Counter(str(table) for page in pages for table in page.get("label_statistics") or ())
    return Copies(frozenset(table for table, times in seen.items() if times > 1))


def is_about_images(page: Mapping[str, Any]) -> bool:
    """Whether a page describes images: by its section, and in mixed ones by its cells.

    Pages of the section for texts are out, and pages whose cells name EEG or no modality, dimension
    or image format.
    """
    listed = page.get("list_entries") or ()
    sections = {row["section"] for row in listed}
    cells = _cells(page)
    pictured = any(PICTURES.search(row["description"]) for row in listed)
    if (TEXTS in sections and not pictured) or any(NO_IMAGES.search(key) for key in cells):
        return False
    task = cells.get("Task Type", "").casefold()
    if sections <= {MIXED} and not (cells.get("Modality") or cells.get("Technique")):
        pictures = IMAGE_FORMATS & set(formats(_format_cell(cells)))
        return bool(pictures) or task in {"vqa", "caption", "image-gene"} or not cells
    return task != "qa"


def _cells(page: Mapping[str, Any]) -> dict[str, str]:
    """The one row of a page's head table; a table of several rows describes parts."""
    rows = page.get("meta") or []
    cells = {key: str(value or "").strip() for key, value in rows[0].items()} if rows else {}
    return cells if len(rows) == 1 else {}


def _format_cell(cells: Mapping[str, str]) -> str:
    return next((cells[key] for key in _FORMAT_CELLS if cells.get(key)), "")


def parse_page(page: Mapping[str, Any], copies: Copies) -> Entry:
    """One page."""
    cells = _cells(page)
    facts = Facts(SOURCE)
    line = _line(page)
    planes = cells.get("Dimensions") or cells.get("Dimension") or cells.get("Type") or ""
    planes = planes if find("dimension", split(planes)) else line.get("plane", planes)
    facts.state("dimensions", find("dimension", split(planes)), planes)
    modality = cells.get("Modality") or cells.get("Technique") or ""
    modality = modality or ("fMRI" if "fMRI Format" in cells else line.get("modality", ""))
    _state_modalities(facts, modality)
    parts = [cells.get("Anatomical Structures", ""), cells.get("Anatomical Area", "")]
    organs = [word for part in parts for word in split(re.sub(r"\band\b", ",", part), ",;/.&")]
    facts.state(
        "anatomies",
        narrowest("anatomy", find("anatomy", [*parts, *organs])),
        "; ".join(dict.fromkeys(part for part in parts if part)),
    )
    task = cells.get("Task Type") or cells.get("Task") or ""
    facts.state("tasks", tasks_in(split(re.sub(r"\(.*?\)", "", task))), task)
    facts.state("file_formats", formats(_format_cell(cells)), _format_cell(cells))
    facts.state("classes", classes(page, copies))
    facts.state("spacing", spacing(page.get("resolution") or ()))
    date = str(page.get("publication_date") or "")
    facts.state("year", parse_year(date), date)
    dois = list(dict.fromkeys(filter(None, map(parse_doi, page.get("doi") or ()))))
    facts.state("doi", dois[0] if len(dois) == 1 else None)
    facts.state("citation", _citation(page, dois))
    return Entry(
        source=SOURCE,
        ref=page["file"],
        name=name_of(page),
        aliases=tuple(_aliases(page)),
        links=tuple({link.url: link for link in _links(page)}.values()),
        facts=facts.claims,
        counts=tuple(counts(page, cells.get("Data Volume") or line.get("number", ""))),
    )


def _line(page: Mapping[str, Any]) -> dict[str, str]:
    """What the list's own line says, as in "3D MRI, 250 Cases, 2 Categories of ..."."""
    shape = r"(?P<plane>[234]D) (?P<modality>[^,]+), (?P<number>[\d,]+) (?:Cases|Slices)\b"
    for row in page.get("list_entries") or ():
        if match := re.match(shape, row["description"], re.IGNORECASE):
            return match.groupdict()
    return {}


def name_of(page: Mapping[str, Any]) -> str:
    """The title; where that is left over from the template, the list's name or the file's."""
    title = str(page["title"]).strip()
    if title.casefold() not in TEMPLATE_TITLES:
        return plain_name(title)
    listed = [row["name"] for row in page.get("list_entries") or () if row.get("name")]
    return plain_name(listed[0] if listed else page["file"].removesuffix(".md"))


def _aliases(page: Mapping[str, Any]) -> list[str]:
    """Names in the list's own lines that differ from the title."""
    name = name_of(page)
    listed = [plain_name(row.get("name") or "") for row in page.get("list_entries") or ()]
    return list(dict.fromkeys(word for word in listed if word and word != name))


def _links(page: Mapping[str, Any]) -> Iterator[Any]:
    yield from links(SOURCE, addresses(page.get("official_website")))
    yield from links(SOURCE, addresses(page.get("download_link")), "download")
    yield from links(SOURCE, addresses(page.get("article")), "paper")


def _state_modalities(facts: Facts, text: str) -> None:
    """Terms; the sequence that a word for MR names is kept as a detail."""
    found: set[str] = set()
    details: list[str] = []
    whole = find("modality", [text])
    for word in [text] if whole else split(text, ",;/&:+，"):  # noqa: RUF001
        key = re.sub(r"[^a-z0-9]+", " ", word.casefold()).strip()
        found |= set(_MODALITIES.get(key) or find("modality", [word]))
        if match := _DETAILS.match(word):
            found.add("MR")
            details.append(f"MR: {(match[1] or match[2]).replace('mp', 'multiparametric')}")
    facts.state("modalities", ordered("modality", found), text)
    facts.state("modality_details", list(dict.fromkeys(details)), text)


def _citation(page: Mapping[str, Any], dois: list[str]) -> dict[str, Any] | None:
    title = re.sub(r"\\(?=[&%_])|[{}]", "", str(page.get("citation_title") or "")).strip()
    if not title:
        return None
    doi = dois[0] if len(dois) == 1 else None
    return {"title": title, "year": page.get("citation_year"), "doi": doi}


# --- counts


def counts(page: Mapping[str, Any], text: str) -> Iterator[Count]:
    """The number or the parts of `Data Volume`.

    Nothing is read where the list's own line gives another number of cases.
    """
    whole, parts, unit = data_volume(text)
    if whole is None or _stated_cases(page) not in {None, whole, *parts.values()}:
        return
    yield Count(number=whole, unit=unit, source=SOURCE, raw=text)
    for name, number in parts.items():
        yield Count(number=number, split=name, source=SOURCE, raw=text)


def data_volume(text: str) -> tuple[int | None, dict[str, int], Unit | None]:
    """The whole, its parts by split, and the unit where the text says it."""
    plain = re.sub(r" ?\([^()]*[^\d()][^()]*\)$", "", text.strip().rstrip("."))
    if number := exact_number(plain) or parse_number(plain):
        return number, {}, None
    if match := re.fullmatch(r"([\d,]+) (\w+)", plain):
        unit = _UNITS.get(match[2].casefold())
        return (exact_number(match[1]), {}, unit) if unit else (None, {}, None)
    words, digits = "|".join(_SPLITS), r"\d(?:[\d,]*\d)?"
    shapes = (
        rf"({digits}) for ({words})s?",
        rf"({digits}) ?\(({words})\)",
        rf"({words}):? ?({digits})",
    )
    for shape in shapes:
        one = rf"(?:{shape})"
        if re.fullmatch(rf"{one}(?:[,;+\s]+{one})+", text.strip().rstrip("."), re.IGNORECASE):
            return _summed(re.findall(shape, text, re.IGNORECASE))
    return None, {}, None


def _summed(pairs: list[tuple[str, str]]) -> tuple[int | None, dict[str, int], Unit | None]:
    parts: dict[str, int] = {}
    for first, second in pairs:
        word, digits = (second, first) if first[0].isdigit() else (first, second)
        number = exact_number(digits)
        name = _SPLITS[word.casefold()]
        if number is None or name in parts:
            return None, {}, None
        parts[name] = number
    return sum(parts.values()), parts, None


def _stated_cases(page: Mapping[str, Any]) -> int | None:
    """The number of cases in the list's own line about the page."""
    for row in page.get("list_entries") or ():
        match = re.search(
            r"([\d,]+)\s+(?:cases|slices|images)\b", row["description"], re.IGNORECASE
        )
        if match:
            return exact_number(match[1])
    return None


# --- spacing


def spacing(rows: Iterable[Mapping[str, str]]) -> dict[str, list[float]] | None:
    """Voxel sizes of the smallest, median and largest image; None unless each row has one."""
    found: dict[str, list[float]] = {}
    for row in rows:
        size = str(row.get("Dataset Statistics") or "").casefold()
        key = _SIZES.get(size) or ("max_mm" if size == "max" else None)
        triple = _triple(row.get("spacing (mm)") or "")
        if key is None or triple is None or key in found:
            return None
        found[key] = triple
    known = [found[key] for key in ("min_mm", "median_mm", "max_mm") if key in found]
    rising = all(a <= b for low, high in pairwise(known) for a, b in zip(low, high, strict=True))
    return found if known and rising else None


def _triple(text: str) -> list[float] | None:
    parts = re.split(r"[,*x\u00d7]", text.strip(" ()[]"))
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    good = len(numbers) == len("xyz") and all(isfinite(n) and 0 < n <= MAX_MM for n in numbers)
    return numbers if good else None


# --- classes


def classes(page: Mapping[str, Any], copies: Copies) -> list[str]:
    """Names of classes, where the page has one table that is plainly one of classes."""
    tables = page.get("label_statistics") or []
    if len(tables) != 1 or str(tables[0]) in copies.tables:
        return []
    head, *rows = tables[0]
    if not rows or not head:
        return []
    names = _class_names(_column(head, rows) or _head(head, rows))
    return names if _fits(names, page) else []


def _fits(names: list[str], page: Mapping[str, Any]) -> bool:
    """Whether the page's own number of categories and, for one class, its own words agree."""
    number = exact_number(_cells(page).get("Number of Categories", ""))
    if number is not None and abs(number - len(names)) > 1:
        return False
    if len(names) != 1:
        return True
    listed = [row["description"] for row in page.get("list_entries") or ()]
    cells = _cells(page)
    own = [page["title"], page.get("citation_title") or "", *listed]
    own += [cells.get("Anatomical Structures", ""), cells.get("Anatomical Area", "")]
    stems = {word[:_STEM] for word in re.findall(r"[a-z]{4,}", " ".join(own).casefold())}
    outside = re.sub(r"\([^)]*\)", "", names[0].casefold()).split()
    inside = re.findall(r"[a-z]{4,}", " ".join(re.findall(r"\(([^)]*)\)", names[0].casefold())))
    return bool(stems & {word[:_STEM] for word in [*outside[-1:], *inside]})


def _column(head: list[str], rows: list[list[str]]) -> list[str]:
    """Names down a column whose head says so, with measures beside it."""
    for place, title in enumerate(head):
        beside = [other for other in head if other != title]
        names = [row[place] for row in rows if place < len(row)]
        if (
            _CLASS_HEADS.match(title.strip())
            and beside
            and any(_MEASURES.search(other) for other in beside)
            and not any(_MEASURES.search(name) for name in names)
            and not all(re.fullmatch(r"-?\d+", name.strip()) for name in names)
        ):
            return names
    return []


def _head(head: list[str], rows: list[list[str]]) -> list[str]:
    """Names along the head, where each row below is a measure."""
    measures = [row[0] for row in rows if row]
    named = _CLASS_HEADS.match(head[0].strip()) and all(
        _MEASURES.search(title) or _EXTREMES.match(title) for title in measures
    )
    return head[1:] if named and not any(_MEASURES.search(name) for name in head[1:]) else []


def _class_names(names: Iterable[str]) -> list[str]:
    """Without numbering, Chinese translations and what is no class; none where that leaves one odd.

    A list longer than the limit is no list of classes.
    """
    chinese = r"\s*[(\uff08][^()\uff08\uff09]*[\u4e00-\u9fff][^()\uff08\uff09]*[)\uff09]"
    plain = [re.sub(rf"[*`]|{chinese}", "", name) for name in names]
    plain = [re.sub(r"^\d+\s*[-:.]\s*(?=\D)", "", name).strip() for name in plain]
    real = [name for name in plain if not is_nothing(name) and not _NO_CLASS.match(name)]
    good = all(
        len(name) <= MAX_CLASS_NAME and not re.search(r"[\u4e00-\u9fff]", name) for name in real
    )
    once = list(dict.fromkeys(real))
    return once if good and len(once) <= MAX_CLASSES else []
