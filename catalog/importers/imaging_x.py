"""Project-Imaging-X: its table lists a dataset once per section; several rows become one entry.

Tokens are mapped to the vocabularies and each claim keeps the cells' own words. The table's counts
have no unit and its access is a guess from the address: both stay claims that nothing follows.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import yaml

from catalog import vocab
from catalog.claims import Claim
from catalog.importers.cells import parse_number
from catalog.importers.entry import Entry, ImportSourceError
from catalog.importers.link import name_key
from catalog.record import Count, Link, LinkKind

SOURCE = "project-imaging-x"
REVIEWED = Path(__file__).resolve().parent / "reviewed.yaml"
RAW_LENGTH = 200
_BAD_LINKS: Mapping[str, LinkKind] = MappingProxyType(
    {"retired": "retired", "mirror": "mirror", "paper": "paper", "site closed": "retired"}
)
# A row that says "Multi" still stands in a section for one modality.
SECTION_MODALITY = MappingProxyType(
    {
        "Dermoscopy": "Dermoscopy",
        "OCT": "OCT",
        "CT Datasets": "CT",
        "X-ray Datasets": "X-ray",
        "MRI Datasets": "MR",
        "Fundus Photography": "Fundus photography",
        "Histopathology": "Histopathology",
        "Ultrasound": "Ultrasound",
        "Endoscopy": "Endoscopy",
        "Microscopy": "Microscopy",
        "PET": "PET",
    }
)
REG_TASK = MappingProxyType({"registration": "Registration", "regression": "Regression"})
DERIVED = "Derived object"
VIDEO_SECTION = "Video Datasets"


@dataclass(frozen=True)
class Table:
    """The upstream rows and what helps to read them; row numbers are 0-based places.

    `maps` (facet -> token -> term), `reg_means` (name -> registration, regression) and `url_issues`
    come from a vocabulary folder beside the table and are empty where there is none.
    """

    rows: list[dict[str, Any]]
    maps: dict[str, dict[str, str]] = field(default_factory=dict)
    reg_means: dict[str, str] = field(default_factory=dict)
    url_issues: dict[int, str] = field(default_factory=dict)
    reviewed: dict[str, Any] = field(
        default_factory=lambda: yaml.safe_load(REVIEWED.read_text("utf-8"))
    )


def read_table(folder: Path) -> Table:
    """Read `project_imaging_x/datasets.json` and, where there is one, `vocabulary/`.

    Raises:
        ImportSourceError: the table is missing or no JSON list.
    """
    path = folder / "project_imaging_x" / "datasets.json"
    if not path.is_file():
        raise ImportSourceError(f"datasets.json: expected in {path.parent.name}/")
    try:
        rows = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ImportSourceError(f"datasets.json: no valid JSON: {error}") from error
    if not isinstance(rows, list):
        raise ImportSourceError(f"datasets.json: found {type(rows).__name__}, expected a list")
    words = folder / "vocabulary"
    facets = ("modality", "anatomy", "task", "dimension")
    return Table(
        rows=rows,
        maps={
            facet: {row["token"]: row["canonical"] for row in _csv(words / f"{facet}_map.csv")}
            for facet in facets
        },
        reg_means={
            row["name"]: row["reg_means"] for row in _csv(words / "task_reg_resolution.csv")
        },
        url_issues={int(row["row"]): row["issue"] for row in _csv(words / "url_issues.csv")},
    )


def _csv(path: Path) -> Iterator[dict[str, str]]:
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as lines:
            yield from csv.DictReader(lines)


def entries(folder: Path) -> Iterator[Entry]:
    """One entry per distinct dataset; its ref is the names of its rows."""
    return convert(read_table(folder))


def convert(table: Table) -> Iterator[Entry]:
    """Entries in the table's order; a ref taken twice gets the year of the later one."""
    taken: set[str] = set()
    for group in group_rows(table):
        entry = convert_group(table, group)
        if entry.ref in taken:
            year = entry.facts["year"].value if "year" in entry.facts else group[0]
            entry = replace(entry, ref=f"{entry.ref} ({year})")
        taken.add(entry.ref)
        yield entry


def convert_group(table: Table, group: list[int]) -> Entry:
    """One entry from the rows of one dataset."""
    rows = [table.rows[index] for index in group]
    listed = list(dict.fromkeys(str(row["name"]).strip() for row in rows))
    name, aliases = _title(table, listed)
    facts: dict[str, Claim[Any]] = {}
    if (year := _year(rows)) is not None:
        facts["year"] = _claim(year, rows, "year")
    for key, (column, read) in _READERS.items():
        found = {term for index in group for term in read(table, index)}
        terms = [term for term in vocab.terms(_FACETS[key]) if term in found]
        if terms:
            facts[key] = _claim(terms, rows, column)
    facts["labelled"] = _claim(any(row["label"] for row in rows), rows, "label")
    guesses = {str(row["access"]) for row in rows} - {"unknown"}
    if len(guesses) == 1:
        facts["access"] = _claim(guesses.pop(), rows, "access")
    return Entry(
        source=SOURCE,
        ref=" | ".join(listed),
        name=name,
        aliases=tuple(dict.fromkeys(word for word in [*aliases, *listed] if word != name)),
        links=tuple(_links(table, group)),
        facts=facts,
        counts=tuple(_counts(rows)),
    )


def _claim(value: Any, rows: list[dict[str, Any]], column: str) -> Claim[Any]:
    cells = dict.fromkeys(str(row[column]).strip() for row in rows if row[column] is not None)
    return Claim(value=value, source=SOURCE, raw=" | ".join(cells)[:RAW_LENGTH])


def _title(table: Table, listed: list[str]) -> tuple[str, list[str]]:
    for group in table.reviewed["groups"]:
        if any(name_key(listed[0]) == name_key(member) for member in group["members"]):
            return group["name"], group.get("aliases", [])
    given = table.reviewed["names"].get(listed[0], {})
    return given.get("name", listed[0]), given.get("aliases", [])


def _year(rows: list[dict[str, Any]]) -> int | None:
    """The year that most rows state, the earlier one of a tie."""
    texts = [str(row["year"]) for row in rows]
    stated = Counter(int(text) for text in texts if re.fullmatch(r"\d{4}", text))
    return min(stated, key=lambda year: (-stated[year], year)) if stated else None


def _links(table: Table, group: list[int]) -> Iterator[Link]:
    seen: set[str] = set()
    for index in group:
        url = clean_url(table.rows[index]["url"])
        if url in seen or not re.match(r"https?://\S+$", url):
            continue
        seen.add(url)
        issue = table.url_issues.get(index, "")
        kind = next((kind for word, kind in _BAD_LINKS.items() if issue.startswith(word)), None)
        yield Link(url=url, kind=kind or "official", source=SOURCE, issue=issue if kind else None)


def _counts(rows: list[dict[str, Any]]) -> Iterator[Count]:
    for text in dict.fromkeys(str(row["samples"]).strip() for row in rows):
        images = re.match(r"([\d,]+) images", text)
        number = parse_number(images[1] if images else text)
        if number:
            yield Count(number=number, unit="image" if images else None, source=SOURCE, raw=text)


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


def group_rows(table: Table) -> list[list[int]]:
    """Row numbers by distinct dataset, each group in the table's order."""
    alike = {
        name_key(member): f"group:{group['name']}"
        for group in table.reviewed["groups"]
        for member in group["members"]
    }
    groups: dict[str, list[list[int]]] = {}
    for index, row in enumerate(table.rows):
        key = name_key(row["name"])
        reviewed = alike.get(key)
        found = groups.setdefault(reviewed or key, [])
        for group in found:
            issue = table.url_issues.get
            if reviewed or any(
                same_dataset(table.rows[i], row, (issue(i, ""), issue(index, ""))) for i in group
            ):
                group.append(index)
                break
        else:
            found.append([index])
    return [group for found in groups.values() for group in found]


def split(text: str, marks: str = "/,+") -> list[str]:
    """Parts between the marks, without blanks."""
    return [part.strip() for part in re.split(f"[{re.escape(marks)}]", text) if part.strip()]


def _mapped(table: Table, facet: str, cell: str) -> str | None:
    """A cell's term: the exact name, else the reviewed map, else the vocabulary's synonyms."""
    known = vocab.terms(facet)
    if cell in known:
        return cell
    canonical = table.maps.get(facet, {}).get(cell)
    if canonical is not None:
        return canonical if canonical in known else None
    term = vocab.resolve(facet, cell)
    return term.name if term else None


def modalities(table: Table, index: int) -> Iterator[str]:
    row = table.rows[index]
    section = str(row["section"]).strip("\u200d ")
    text = str(row["modality"])
    whole = _mapped(table, "modality", text)
    for cell in [text] if whole else split(text):
        term = _mapped(table, "modality", cell)
        if cell == "Multi":
            term = SECTION_MODALITY.get(section)
        elif section == VIDEO_SECTION and term == "Microscopy":
            term = "Surgical microscope video"
        if term and term != DERIVED:
            yield term


def anatomies(table: Table, index: int) -> Iterator[str]:
    row = table.rows[index]
    special = table.reviewed["anatomies"].get(row["name"], {})
    text = str(row["structure"])
    tokens = [text] if text in table.maps.get("anatomy", {}) else split(text, "/,+;")
    for cell in tokens:
        if cell in special:
            yield from special[cell]
        elif term := _mapped(table, "anatomy", cell):
            yield term


def tasks(table: Table, index: int) -> Iterator[str]:
    row = table.rows[index]
    special = table.reviewed["tasks"].get(row["name"], {})
    for cell in split(str(row["task"])):
        if cell in special:
            yield from special[cell]
        elif cell == "Reg":
            meaning = REG_TASK.get(table.reg_means.get(row["name"], ""))
            yield from [meaning] if meaning else []
        elif cell == "Trk":
            yield "Tractography" if "Brain" in str(row["structure"]) else "Tracking"
        elif cell == "Surv":
            yield "Survival prediction"
        elif term := _mapped(table, "task", cell):
            yield term


def dimensions(table: Table, index: int) -> Iterator[str]:
    for cell in split(str(table.rows[index]["dim"])):
        if term := _mapped(table, "dimension", cell):
            yield term


def diseases(table: Table, index: int) -> Iterator[str]:
    """Diseases that the vocabulary knows; label targets of the video section are none."""
    row = table.rows[index]
    if str(row["section"]).strip("\u200d ") == VIDEO_SECTION:
        return
    text = str(row["diseases"] or "")
    parts: Iterable[str] = re.split(r"[,/;&()]| and ", text)
    for part in parts:
        if part.strip() and (term := vocab.resolve("disease", part)):
            yield term.name


_READERS: dict[str, tuple[str, Callable[[Table, int], Iterator[str]]]] = {
    "modalities": ("modality", modalities),
    "anatomies": ("structure", anatomies),
    "tasks": ("task", tasks),
    "diseases": ("diseases", diseases),
    "dimensions": ("dim", dimensions),
}
_FACETS = MappingProxyType(
    {
        "modalities": "modality",
        "anatomies": "anatomy",
        "tasks": "task",
        "diseases": "disease",
        "dimensions": "dimension",
    }
)
