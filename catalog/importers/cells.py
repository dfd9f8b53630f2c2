"""Cells of a source's table as canonical values: numbers, addresses, terms, licences, claims. Pure.

A word that no vocabulary covers is left out; nothing is guessed.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args
from urllib.parse import unquote, urlsplit

import yaml

from catalog import licences, vocab
from catalog.claims import Claim
from catalog.importers.entry import ImportSourceError
from catalog.record import LISTS, DatasetRecord, Link, LinkKind

RAW_LENGTH = 200
SHORT = 70  # longer licence texts are sentences, which are not carried over
MAX_NAME = 300
MAX_CLASSES = 200
EXTRA_WORDS = Path(__file__).resolve().parent / "words.yaml"
NOTHING = frozenset({"", "-", "n/a", "na", "none", "null", "tbd", "unknown", "无", "*"})
SCALES = MappingProxyType({"": 1, "k": 1_000, "m": 1_000_000})


# --- files


def read_json(path: Path) -> Any:
    """The JSON value of a file.

    Raises:
        ImportSourceError: the file is missing or no JSON.
    """
    try:
        return json.loads(_text(path))
    except ValueError as error:
        raise ImportSourceError(f"{path.name}: no valid JSON: {error}") from error


def read_csv(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a table that has at least `columns`.

    Raises:
        ImportSourceError: the file is missing, a column is, or a row has other cells than the head.
    """
    reader = csv.DictReader(_text(path).splitlines(keepends=True))
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise ImportSourceError(f"{path.name}: expected the columns {', '.join(missing)}")
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise ImportSourceError(f"{path.name}:{reader.line_num}: found a row of other length")
        rows.append({key: value.strip() for key, value in row.items()})
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ImportSourceError(f"{path.name}: expected in {path.parent.name}/") from error
    except UnicodeDecodeError as error:
        raise ImportSourceError(f"{path.name}: no UTF-8 text: {error.reason}") from error


# --- numbers and text


def parse_number(text: str) -> int | None:
    """`2.7k`, `1,100`, `200+` or `1M` as a whole number; None for anything else and for 0."""
    match = re.fullmatch(r"(\d[\d,]*(?:\.\d+)?)\s*([kKmM]?)\+?", text.strip())
    if not match:
        return None
    number = float(match[1].replace(",", "")) * SCALES[match[2].lower()]
    return round(number) or None


def exact_number(text: str) -> int | None:
    """A whole number above 0, with or without thousands separators; None for all else."""
    plain = text.strip()
    if not re.fullmatch(r"\d+|\d{1,3}(?:[,.'’]\d{3})+", plain):  # noqa: RUF001
        return None
    return int(re.sub(r"\D", "", plain)) or None


def parse_year(text: str) -> int | None:
    """The one year that a date names; None where it names none or two."""
    found = set(re.findall(r"(?<!\d)(?:19[5-9]\d|20[0-4]\d)(?!\d)", text))
    return int(found.pop()) if len(found) == 1 else None


def short(text: str | None, length: int = RAW_LENGTH) -> str | None:
    """The source's own words on one line; None for nothing and for a text that is too long."""
    plain = re.sub(r"\s+", " ", text or "").strip()
    return plain if plain and len(plain) <= length else None


def is_nothing(text: str | None) -> bool:
    """Whether a cell is empty or says that nothing is known."""
    return (text or "").strip().casefold() in NOTHING


def split(text: str, marks: str = ",;/+&|、，；") -> list[str]:  # noqa: RUF001
    """Parts between the marks, without blanks; marks inside parentheses do not count."""
    found, depth, part = [], 0, ""
    for letter in text:
        depth += (letter in "(\uff08") - (letter in ")\uff09")
        if letter in marks and depth <= 0:
            found.append(part)
            part = ""
        else:
            part += letter
    return [part.strip() for part in [*found, part] if part.strip()]


def plain_name(text: str) -> str:
    """A name on one line; cut at a word where it is longer than a record's name may be."""
    name = re.sub(r"\s+", " ", text).strip()
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 2].rsplit(" ", 1)[0] + " …"


# --- addresses

PAPER_HOSTS = (
    "aapm.onlinelibrary.wiley.com", "academic.oup.com", "arxiv.org", "ashpublications.org",
    "biomedcentral.com", "biorxiv.org", "cell.com", "frontiersin.org", "ieeexplore.ieee.org",
    "jamanetwork.com", "journals.plos.org", "linkinghub.elsevier.com", "link.springer.com",
    "mdpi.com", "medrxiv.org", "nature.com", "ncbi.nlm.nih.gov", "nejm.org",
    "onlinelibrary.wiley.com", "openaccess.thecvf.com", "openreview.net", "papers.ssrn.com",
    "proceedings.mlr.press", "pubs.rsna.org", "researchsquare.com", "sciencedirect.com",
    "thelancet.com",
)  # fmt: skip
# Repositories of data: TCIA, Zenodo, figshare, Mendeley, OpenNeuro, Dryad, Harvard, OSF, IEEE
# DataPort, Kaggle, GIN, DataverseNL, heiDATA, PhysioNet.
DATA_DOIS = (
    "10.7937/", "10.5281/zenodo.", "10.6084/", "10.17632/", "10.18112/", "10.5061/", "10.7910/",
    "10.17605/", "10.21227/", "10.34740/", "10.12751/", "10.34894/", "10.11588/", "10.13026/",
)  # fmt: skip
DOI = re.compile(r"10\.\d{4,9}/[^\s\"<>{}]+", re.IGNORECASE)


def addresses(text: str | None) -> list[str]:
    """Every http address of a cell in its order, without markdown and closing marks."""
    plain = (text or "").replace("\\", "")
    letter = r"[^\s<>\"()\]}\uff08\uff09\uff0c\uff1b]"
    found = re.findall(rf"https?://(?:{letter}|\([^\s()]*\))+", plain)
    return list(dict.fromkeys(url.rstrip(".,;~*") for url in found))


def parse_doi(text: str | None) -> str | None:
    """A DOI in lower case from `doi:…`, an address or the bare form; None for all else."""
    match = DOI.search(unquote(text or ""))
    if not match:
        return None
    doi = re.split(r"[#&?]", match[0])[0].rstrip(".,;:)_/").lower()
    doi = re.sub(r"(/full|v\d+\.full\.pdf|\.pdf|\.short)$", "", doi)
    doi = re.sub(r"^(10\.1101/\S+)v\d+$", r"\1", doi)
    return re.sub(r"^(10\.1093/[^/]+/[^/]+)/\d+$", r"\1", doi)  # an address at Oxford, not the DOI


def is_data_doi(doi: str) -> bool:
    """Whether the prefix belongs to a repository of data, so that no paper bears the DOI."""
    return doi.startswith(DATA_DOIS)


def is_paper(url: str) -> bool:
    """Whether an address leads to an article rather than to data."""
    host = urlsplit(url).netloc.casefold().removeprefix("www.")
    if host in {"doi.org", "dx.doi.org"}:
        doi = parse_doi(url)
        return doi is not None and not is_data_doi(doi)
    return any(host == known or host.endswith(f".{known}") for known in PAPER_HOSTS)


def links(source: str, urls: Iterable[str], kind: LinkKind = "official") -> list[Link]:
    """Each address once; one that leads to an article is a paper."""
    good = [url for url in dict.fromkeys(urls) if re.match(r"https?://\S+\.\S+$", url)]
    return [
        Link(url=url, kind="paper" if is_paper(url) else kind, source=source)
        for url in good
        if len(url) <= 1000  # noqa: PLR2004
    ]


# --- terms


@cache
def extra_words() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """The terms of words that no vocabulary holds, by facet: `words.yaml`."""
    facets: dict[str, dict[str, list[str]]] = yaml.safe_load(EXTRA_WORDS.read_text("utf-8"))
    found: dict[str, Mapping[str, tuple[str, ...]]] = {}
    for facet in vocab.FACETS:
        words = {word: tuple(terms) for word, terms in facets.get(facet, {}).items()}
        for word, terms in words.items():
            if unknown := set(terms) - set(vocab.terms(facet)):
                message = f"{facet}: {word}: {unknown.pop()!r} is no term"
                raise vocab.VocabularyError(f"{EXTRA_WORDS.name}: {message}")
        found[facet] = MappingProxyType(words)
    return MappingProxyType(found)


# A limb is not its bones: here the wider term is followed in place of the vocabulary's synonym.
LIMBS = frozenset(
    {"arm", "calf", "elbow", "extremities", "extremity", "leg", "limb", "lower limb", "shoulder"}
    | {"thigh", "upper limb", "hip", "femur"}
)
_ENDINGS = ("datasets", "dataset", "images", "image", "scans", "scan", "not otherwise specified")


def terms_of(facet: str, word: str) -> tuple[str, ...]:
    """The terms that one word of a source names; none where no vocabulary covers it."""
    plain = vocab.normalise(re.sub(r"\((?:non-cancer|nos|tcga)\)", "", word, flags=re.IGNORECASE))
    if facet == "anatomy" and plain.removesuffix("s") in LIMBS | {"extremitie"}:
        return ("Upper extremity",) if plain.startswith("upper") else ("Musculoskeletal",)
    forms = [plain, *(plain.removesuffix(f" {end}") for end in _ENDINGS if plain.endswith(end))]
    if facet == "anatomy":
        forms.append(re.sub(r"^(?:left|right|bilateral) ", "", plain))
    for form in forms:
        if (term := vocab.resolve(facet, form)) is not None:
            return (term.name,)
        for spelling in (form, form.removesuffix("s")):
            if spelling in extra_words()[facet]:
                return extra_words()[facet][spelling]
    return ()


def find(facet: str, words: Iterable[str]) -> list[str]:
    """The terms that `words` name, each once, in the vocabulary's order."""
    found = {term for word in words for term in terms_of(facet, word)}
    return ordered(facet, found)


def ordered(facet: str, found: Iterable[str]) -> list[str]:
    """Terms, each once, in the vocabulary's order."""
    known = set(found)
    return [term for term in vocab.terms(facet) if term in known]


def narrowest(facet: str, found: Iterable[str]) -> list[str]:
    """Terms without those that are broader than another of them, in the vocabulary's order."""
    terms = ordered(facet, found)
    broader = {name for term in terms for name in vocab.ancestors(facet, term)}
    return [term for term in terms if term not in broader]


def find_in_text(facet: str, text: str, skip: Iterable[str] = ()) -> list[str]:
    """The terms that a text names; of words that overlap the longest counts."""
    plain = vocab.normalise(text).split()
    found: set[str] = set()
    place = 0
    while place < len(plain):
        for length in range(min(6, len(plain) - place), 0, -1):
            words = " ".join(plain[place : place + length])
            if len(words) > 2 and words not in skip and (named := terms_of(facet, words)):  # noqa: PLR2004
                found.update(named)
                place += length - 1
                break
        place += 1
    return ordered(facet, found)


def tasks_in(words: Iterable[str]) -> list[str]:
    """Tasks by the whole word or by how it ends: "Lung nodules segmentation", "cell detection"."""
    found: set[str] = set()
    for word in words:
        plain = vocab.normalise(re.sub(r"\(.*?\)", "", word)).removesuffix(" datasets")
        if "out of distribution" in plain:
            continue
        parts = plain.split()
        for start in range(len(parts)):
            if named := terms_of("task", " ".join(parts[start:])):
                found.update(named)
                break
    return ordered("task", found)


FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "avi": "AVI", "bdf": "BDF", "bmp": "BMP", "csv": "CSV", "dcm": "DICOM", "dicom": "DICOM",
        "dzi": "DZI", "edf": "EDF", "excel": "Excel", "gif": "GIF", "h5": "HDF5", "hdf5": "HDF5",
        "jepg": "JPEG", "jpeg": "JPEG", "jpg": "JPEG", "json": "JSON", "mat": "MAT",
        "metaimage": "MetaImage", "mha": "MetaImage", "mhd": "MetaImage", "mov": "MOV",
        "mp4": "MP4", "mrxs": "MRXS", "ndpi": "NDPI", "nhdr": "NRRD", "nifti": "NIfTI",
        "nii": "NIfTI", "nii.gz": "NIfTI", "npy": "NumPy", "npz": "NumPy", "nrrd": "NRRD",
        "parquet": "Parquet", "pkl": "Pickle", "png": "PNG", "ppm.gz": "PPM", "ppm": "PPM",
        "raw": "RAW", "svs": "SVS", "tif": "TIFF", "tiff": "TIFF", "txt": "text", "vtk": "VTK",
        "xlsx": "Excel", "xml": "XML", "zarr": "Zarr",
    }
)  # fmt: skip


def formats(text: str) -> list[str]:
    """File formats that a cell names by ending or name, each once, in the cell's order."""
    words = re.findall(r"nii\.gz|ppm\.gz|[a-z0-9]+", text.casefold())
    return list(dict.fromkeys(FORMATS[word] for word in words if word in FORMATS))


# --- licences

_PARTS = re.compile(r"nc|sa|nd|non-?commercial|share-?alike|no-?derivatives?|noderivs")
_PART = MappingProxyType({"n": "NC", "s": "SA"})
_CC = re.compile(
    r"creativecommons\.org/licenses/(?P<page>by(?:-(?:nc|sa|nd))*)/(?P<v1>\d\.\d)[^\s)]*"
    r"|\bcc[- ]?by(?P<tail>(?:[- ](?:nc|sa|nd))*)(?![a-z])(?:[- ]?v?(?P<v2>\d\.\d))?"
    r"|\bby(?P<bare>(?:-(?:nc|sa|nd))+)(?![a-z])(?:[- ]?v?(?P<v4>\d\.\d))?"
    r"|attribution(?P<words>(?:[- ]?(?:non-?commercial|share-?alike|no-?derivatives?|noderivs))*)"
    r"(?:[- ]?(?P<v3>\d\.\d))?(?: international| unported)?"
)
_ZERO = re.compile(
    r"creativecommons\.org/publicdomain/zero/1\.0[^\s)]*|choosealicense\.com/licenses/cc0-1\.0/?"
    r"|\bcc[- ]?0(?:[- ]?(?:v?1\.0))?(?: universal)?"
    r"|creative commons zero(?: v?1\.0)?(?: universal)?"
)
_NAMES = MappingProxyType({"apache 2.0": "Apache-2.0", "apache license 2.0": "Apache-2.0"})
# Words that say nothing more than that a licence is named.
_FILLERS = frozenset(
    {"a", "and", "code", "commons", "creative", "creativecommons", "data", "dataset", "deed"}
    | {"domain", "international", "is", "legal", "licence", "license", "licensed", "public"}
    | {"released", "the", "this", "under", "universal", "unported", "work", "cc"}
)


def licence_of(text: str, address: str = "") -> str | None:
    """The one licence that a wording and its address name without doubt; else None.

    Wordings that name different licences, only a family without its version, or further conditions
    leave it open.
    """
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"[*`_\\]", "", text)).strip()
    for spelling in (words, re.sub(r" licen[sc]e$", "", words, flags=re.IGNORECASE)):
        exact = licences.from_text(_NAMES.get(spelling.casefold(), spelling))
        if exact is not None and not exact.id.startswith("CC"):
            return exact.id
    found, rest = _named_licences(f"{text} {address}".casefold())
    if not found or set(re.findall(r"[a-z]+", rest)) - _FILLERS:
        return None
    kinds = {parts for parts, _ in found}
    versions = {version for _, version in found if version}
    if len(kinds) != 1 or len(versions) != 1:
        return None
    spdx = f"CC0-{versions.pop()}" if kinds == {"0"} else f"CC-BY{kinds.pop()}-{versions.pop()}"
    return spdx if spdx in licences.LICENCES else None


def _named_licences(text: str) -> tuple[list[tuple[str, str | None]], str]:
    """Families with versions that a text names, and the text without them."""
    found: list[tuple[str, str | None]] = [("0", "1.0") for _ in _ZERO.finditer(text)]
    rest = _ZERO.sub(" ", text)
    for match in _CC.finditer(rest):
        parts = next((match[key] for key in ("page", "tail", "bare", "words") if match[key]), "")
        named = {"ND" if word.startswith(("nd", "no-d", "nod")) else _PART[word[0]]
                 for word in _PARTS.findall(parts)}  # fmt: skip
        suffix = "".join(f"-{part}" for part in ("NC", "SA", "ND") if part in named)
        version = next((match[key] for key in ("v1", "v2", "v3", "v4") if match[key]), None)
        found.append((suffix, version))
    return found, re.sub(r"https?://\S*", " ", _CC.sub(" ", rest))


# --- claims


@cache
def _claim_type(field: str) -> type[Claim[Any]]:
    kind: type[Claim[Any]] = get_args(DatasetRecord.model_fields[field].annotation)[0]
    return kind


def make_claim(field: str, value: Any, source: str, raw: str | None = None) -> Claim[Any]:
    """A claim whose value is checked against the record's field.

    Raises:
        pydantic.ValidationError: the value is none that the field may hold.
    """
    row = {"value": value, "source": source, "raw": short(raw)}
    return _claim_type(field).model_validate(row)


class Facts:
    """The claims of one row of a source, at most one a field; what is not stated is left out."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.claims: dict[str, Claim[Any]] = {}

    def state(self, field: str, value: Any, raw: str | None = None) -> None:
        """Claim `value`; nothing is claimed where it is None, empty text or an empty list."""
        if value is None or value in ("", []):
            return
        self.claims[field] = make_claim(field, value, self.source, raw)

    def state_none(self, field: str, raw: str | None = None) -> None:
        """Claim that a list is empty, as where a source says that all subjects are healthy."""
        if field not in LISTS:
            raise ValueError(f"{field}: expected one of {', '.join(sorted(LISTS))}")
        self.claims[field] = make_claim(field, [], self.source, raw)

    def state_unclear(self, field: str, raw: str | None) -> None:
        """Keep a short wording whose meaning is open."""
        own = short(raw, SHORT)
        if own is not None and not is_nothing(own):
            self.claims[field] = make_claim(field, None, self.source, own)

    def state_licence(self, text: str, address: str = "", *, field: str = "licence") -> None:
        """Claim the licence that a wording and its address name; a short open wording is kept."""
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
        named = licence_of(text, address)
        if named is not None:
            self.claims[field] = make_claim(field, named, self.source, short(words, SHORT))
        else:
            self.state_unclear(field, words)


def unique_refs(names: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The name of each row; rows that share one get their address too, which tells them apart."""
    rows = list(names)
    taken = [name for name, _ in rows]
    for name, url in rows:
        place = re.sub(r"^https?://|#.*$", "", url)
        yield name if taken.count(name) == 1 else f"{name} @ {place}"
