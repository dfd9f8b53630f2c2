"""Imaging Data Commons: metadata from its packaged index, files from its public buckets.

The index (package idc-index-data, one row a series) is of one release of IDC. It is read once in a
process, in seconds; a query of it takes a fraction of one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fusion.errors import BuildError, nearest
from fusion.locations import Idc
from fusion.sources.base import Check, Hit, Listing, RemoteFile
from fusion.sources.bucket import objects, store
from fusion.sources.download import THREADS, fetch_files
from fusion.sources.safety import FetchRules

_WORDS = (
    "collection_id", "PatientID", "StudyInstanceUID", "Modality", "BodyPartExamined",
    "license_short_name",
)  # fmt: skip
_COLUMNS = [*_WORDS, "SeriesInstanceUID", "series_aws_url", "series_size_MB", "instanceCount"]
_MB = 1_000_000
#: Keys of a location and the columns of the index that they choose by.
CHOICES = {
    "collections": "collection_id",
    "modalities": "Modality",
    "body_parts": "BodyPartExamined",
    "licences": "license_short_name",
    "series": "SeriesInstanceUID",
}


@dataclass(frozen=True)
class Collection:
    """One collection as the index knows it; licences as IDC spells them, with series of each."""

    id: str
    name: str
    subjects: int
    series: int
    instances: int
    bytes: int
    modalities: tuple[str, ...]
    licences: dict[str, int]
    doi: str


@dataclass(frozen=True)
class Series:
    """One DICOM series and the folder of a bucket that it is in."""

    collection: str
    subject: str
    study: str
    uid: str
    modality: str
    licence: str
    url: str
    bytes: int
    instances: int

    @property
    def folder(self) -> str:
        """As idc-index lays it out: collection/subject/study/modality_series."""
        parts = (self.collection, self.subject, self.study, f"{self.modality}_{self.uid}")
        return "/".join(part.replace("/", "_").replace("\\", "_") for part in parts)


def release() -> int:
    """Release of IDC that the index is of."""
    return int(version("idc-index-data").partition(".")[0])


def _index_folder() -> Path:
    import idc_index_data

    return Path(idc_index_data.__file__).parent


@cache
def _index() -> Any:
    """A table of one row a series, in the order of collection, subject and series."""
    import pyarrow.parquet as pq

    file = _index_folder() / "idc_index.parquet"
    return pq.read_table(file, columns=_COLUMNS, read_dictionary=list(_WORDS), memory_map=True)


@cache
def collection_ids() -> frozenset[str]:
    """Every collection, from a small table: the index itself is not read."""
    import pyarrow.parquet as pq

    file = _index_folder() / "collections_index.parquet"
    return frozenset(pq.read_table(file, columns=["collection_id"])["collection_id"].to_pylist())


@cache
def collections() -> dict[str, Collection]:
    """Every collection by id."""
    import pyarrow.parquet as pq

    table = _index().select(
        ["collection_id", "Modality", "license_short_name", "series_size_MB", "instanceCount"]
    )
    keys = ["collection_id", "Modality", "license_short_name"]
    groups = table.group_by(keys).aggregate(
        [("series_size_MB", "sum"), ("instanceCount", "sum"), ("instanceCount", "count")]
    )
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in groups.to_pylist():
        rows.setdefault(row["collection_id"], []).append(row)
    known = pq.read_table(_index_folder() / "collections_index.parquet").to_pylist()
    return {one["collection_id"]: _collection(one, rows[one["collection_id"]]) for one in known}


def _collection(one: dict[str, Any], rows: list[dict[str, Any]]) -> Collection:
    licences: Counter[str] = Counter()
    for row in rows:
        licences[row["license_short_name"]] += row["instanceCount_count"]
    dois = [source["source_doi"] for source in one["sources"] if source.get("source_doi")]
    return Collection(
        id=one["collection_id"],
        name=one["collection_name"],
        subjects=one["subjects"],
        series=sum(row["instanceCount_count"] for row in rows),
        instances=sum(row["instanceCount_sum"] for row in rows),
        bytes=round(sum(row["series_size_MB_sum"] for row in rows) * _MB),
        modalities=tuple(sorted({row["Modality"] for row in rows})),
        licences=dict(sorted(licences.items())),
        doi=dois[0] if dois else "",
    )


def cohort(place: Idc) -> list[Series]:
    """The series that a location chooses, in the order of collection, subject and series.

    Raises:
        BuildError: source_failed, for another release than the index is of, a value that it does
            not know, or no series at all.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if place.release != release():
        raise BuildError(
            "source_failed",
            f"Imaging Data Commons: found the index of release {release()}, expected "
            f"{place.release}: the same query may choose other series there",
        )
    table = _index()
    for key, column in CHOICES.items():
        wanted = getattr(place, key)
        if not wanted:
            continue
        known = set(_values(column)) if column in _WORDS else set()
        for value in wanted if known else ():
            if value not in known:
                raise BuildError(
                    "source_failed",
                    f"Imaging Data Commons: {key}: found {value!r}{nearest(value, known)}",
                )
        table = table.filter(pc.is_in(table[column], pa.array(wanted, pa.large_string())))
    people: set[tuple[str, str]] = set()
    if place.subjects:  # before rows become objects: a collection may have 200,000 of them
        person = ["collection_id", "PatientID"]
        everybody = table.select(person).group_by(person).aggregate([]).to_pylist()
        people = set(sorted(map(_person, everybody))[: place.subjects])
        ids = pa.array(sorted({subject for _, subject in people}), pa.large_string())
        table = table.filter(pc.is_in(table["PatientID"], ids))
    found = (row for row in table.to_pylist() if not people or _person(row) in people)
    chosen = sorted(map(_series, found), key=lambda one: (one.collection, one.subject, one.uid))
    if missing := set(place.series) - {one.uid for one in chosen}:
        raise BuildError(
            "source_failed",
            f"Imaging Data Commons: series {min(missing)} is not in release {place.release}, or "
            "not of the collections, modalities, body parts and licences that are asked for",
        )
    if not chosen:
        raise BuildError("source_failed", "Imaging Data Commons: no series is like that")
    return chosen


@cache
def _values(column: str) -> frozenset[str]:
    found = _index()[column].unique().to_pylist()
    return frozenset(value for value in found if value)


def _person(row: dict[str, Any]) -> tuple[str, str]:
    """Ids of subjects are unique within a collection."""
    return row["collection_id"], row["PatientID"]


def _series(row: dict[str, Any]) -> Series:
    return Series(
        collection=row["collection_id"],
        subject=row["PatientID"],
        study=row["StudyInstanceUID"],
        uid=row["SeriesInstanceUID"],
        modality=row["Modality"],
        licence=row["license_short_name"],
        url=row["series_aws_url"],
        bytes=round(row["series_size_MB"] * _MB),
        instances=row["instanceCount"],
    )


def search(words: str, most: int, rules: FetchRules) -> list[Hit]:  # noqa: ARG001 - the protocol's
    """Collections with all the words in name, id or modalities; from the index: nobody is asked."""
    wanted = words.casefold().split()
    found = []
    for one in collections().values():
        text = " ".join((one.name, one.id.replace("_", " "), *one.modalities)).casefold()
        if all(word in text for word in wanted):
            url = f"https://portal.imaging.datacommons.cancer.gov/explore/?collection_id={one.id}"
            place = {"kind": "idc", "release": release(), "collections": [one.id]}
            found.append(Hit(one.name, url, place, ", ".join(one.licences)))
    return found[:most]


def manifest(chosen: Sequence[Series]) -> str:
    """What idc-index and s5cmd take: one `cp` a series."""
    return "".join(f"cp {one.url} .\n" for one in chosen)


def listing(place: Idc, rules: FetchRules) -> Listing:  # noqa: ARG001 - the protocol's
    """Each series with its bytes, from the index alone: nobody is asked."""
    chosen = cohort(place)
    return Listing(
        title=", ".join(sorted({one.collection for one in chosen})),
        version=f"IDC release {place.release}",
        files=tuple(RemoteFile(one.folder, one.url, one.bytes) for one in chosen),
        licence=", ".join(sorted({one.licence for one in chosen})),
    )


def endpoint() -> str:
    """The object store that the buckets are in."""
    from django.conf import settings

    return str(settings.IDC_URL).rstrip("/")


def fetch(place: Idc, cache: Path, rules: FetchRules, check: Check) -> Path:
    """Folder with the series in folders as idc-index lays them out."""
    chosen = cohort(place)
    buckets = store(endpoint(), rules)
    files: list[RemoteFile] = []
    with ThreadPoolExecutor(THREADS) as threads:
        found_of = threads.map(lambda one: list(_objects(buckets, one)), chosen)
        for one, found in zip(chosen, found_of, strict=True):
            check()
            if len(found) != one.instances:
                raise BuildError(
                    "upstream_changed",
                    f"{one.url}: found {len(found)} files, expected {one.instances}",
                )
            files += found
    return fetch_files(files, cache, rules, check, unpacked=False)


def _objects(store: Any, series: Series) -> Iterator[RemoteFile]:
    parts = urlsplit(series.url)
    prefix = parts.path.strip("/").partition("/")[0] + "/"
    return objects(store, parts.netloc, prefix, series.folder)
