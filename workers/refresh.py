"""Harvests: a source is read where it lives, politely, and handed to `catalog.refresh`.

Files come through the same guarded, resuming download as sources of fusions: one that its server
calls unchanged is not sent again. Repositories are asked by their APIs, slowly, for the pages alone
that curated datasets are at. A source that fails is tried again ever later, and left alone after a
few failures in a row until somebody harvests it by hand.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from django.conf import settings
from django.utils.timezone import now

from catalog import refresh
from catalog.harvest import format_table
from catalog.importers import cells, openneuro, repositories
from catalog.importers.entry import Entry, ImportSourceError
from catalog.models import Harvest
from catalog.records_io import RecordError
from catalog.refresh import HarvestError, Reading
from catalog.search.engine import engine
from catalog.search.errors import SearchUnavailableError
from catalog.services import rows_by_dataset
from fusion.errors import BuildError
from fusion.sources import configured_rules, figshare, huggingface, zenodo
from fusion.sources.base import RemoteFile
from fusion.sources.download import fetch_files, get_json
from fusion.sources.safety import FetchRules

logger = logging.getLogger(__name__)
Row = TypeVar("Row", bound=Mapping[str, str])
FIRST_RETRY = timedelta(hours=1)  # after a failure; doubles up to the source's own interval
MOST_FAILURES = 5  # in a row; then a person must look
TABLE = "openneuro_metadata/metadata_imaging.csv"
_NOT_THERE = re.compile(r": answered (404|410)\b")


@dataclass(frozen=True)
class Upstream:
    """Where the files of a source live and how they are read.

    Args:
        files: path below a folder -> address.
        read: the entries of such a folder, and (ref, why) of those that cannot be read.
    """

    files: Mapping[str, str]
    read: Callable[[Path], tuple[list[Entry], list[tuple[str, str]]]]


def _openneuro() -> Upstream:
    def read(folder: Path) -> tuple[list[Entry], list[tuple[str, str]]]:
        rows = cells.read_csv(folder / TABLE, openneuro.COLUMNS)
        return _each(rows, openneuro.parse_dataset, "accession_number")

    return Upstream({TABLE: settings.OPENNEURO_TABLE_URL}, read)


def _idc() -> Upstream:
    from catalog.importers import idc_live  # on pyarrow, which other tasks do without

    folder = settings.IDC_INDEX_URL.rstrip("/")
    files = {name: f"{folder}/{name}" for name in idc_live.FILES}
    return Upstream(files, lambda found: (list(idc_live.entries(found)), []))


@dataclass(frozen=True)
class Repository:
    """A place that is asked for each of its pages that a curated dataset is at.

    Args:
        ask: what its API says of an id there.
        read: the entry that this is.
    """

    ask: Callable[[str, FetchRules], Any]
    read: Callable[[str, Mapping[str, Any]], Entry]


def _ask_zenodo(ref: str, rules: FetchRules) -> Any:
    return get_json(f"{zenodo.endpoint()}/api/records/{ref}", rules)


def _ask_figshare(ref: str, rules: FetchRules) -> Any:
    return get_json(f"{figshare.endpoint()}/v2/articles/{ref}", rules)


def _ask_hub(ref: str, rules: FetchRules) -> Any:
    return get_json(f"{huggingface.endpoint()}/api/datasets/{ref}", rules)


UPSTREAMS: Mapping[str, Callable[[], Upstream | Repository]] = MappingProxyType(
    {
        "idc": _idc,
        "openneuro": _openneuro,
        "zenodo": lambda: Repository(_ask_zenodo, repositories.parse_zenodo),
        "figshare": lambda: Repository(_ask_figshare, repositories.parse_figshare),
        "huggingface": lambda: Repository(_ask_hub, repositories.parse_hub),
    }
)


def _each(
    rows: Iterable[Row], parse: Callable[[Row], Entry | None], key: str
) -> tuple[list[Entry], list[tuple[str, str]]]:
    """Rows that are no entry (None) are left out; one that cannot be read is named."""
    found: list[Entry] = []
    failed: list[tuple[str, str]] = []
    for row in rows:
        try:
            entry = parse(row)
        except (ValueError, KeyError) as error:
            failed.append((row[key], str(error)))
        else:
            found += [entry] if entry else []
    return found, failed


def due_sources() -> list[str]:
    """Sources whose next harvest is due."""
    return [source for source in settings.HARVEST_HOURS if _is_due(source)]


def next_at(source: str) -> datetime | None:
    """When the schedule harvests a source next; None: not by itself."""
    hours = settings.HARVEST_HOURS.get(source)
    if not settings.REFRESH or hours is None:
        return None
    every = timedelta(hours=hours)
    last = list(Harvest.objects.filter(source=source)[:MOST_FAILURES])
    failures = next((n for n, row in enumerate(last) if not _failed(row)), len(last))
    if failures == MOST_FAILURES:
        return None
    if not last:
        return now()
    pause = min(FIRST_RETRY * 2 ** (failures - 1), every) if failures else every
    return last[0].started_at + pause


def _failed(row: Harvest) -> bool:
    return row.state == Harvest.State.FAILED


def _is_due(source: str) -> bool:
    moment = next_at(source)
    return moment is not None and moment <= now()


def harvest_if_due(source: str) -> Harvest | None:
    """The harvest, unless another message was faster."""
    return harvest(source) if _is_due(source) else None


def harvest(source: str, *, again: bool = False) -> Harvest | None:
    """Harvest a source now; None while another process does.

    Its row says what came of it: nothing is raised for a source that cannot be read.

    Args:
        again: read it also where it gave the same as last time.
    """
    row = refresh.begin(source)
    if row is None:
        return None
    try:
        _harvest(row, again=again)
    except (BuildError, ImportSourceError, HarvestError, RecordError, OSError) as error:
        refresh.fail(row, str(error))
    except Exception as error:
        refresh.fail(row, f"a fault of the software: {type(error).__name__}: {error}")
        logger.exception("harvest of %s", source)
    logger.info("harvest of %s: %s %s", source, row.state, row.error[:200])
    return row


def _harvest(row: Harvest, *, again: bool) -> None:
    version, read = _opened(row.source)
    if refresh.is_known(row.source, version) and not again:
        refresh.unchanged(row, version)
    elif refresh.take(row, read()):
        update_index()


def _opened(source: str) -> tuple[str, Callable[[], Reading]]:
    """A name for what the source has now, and what reads it."""
    upstream = UPSTREAMS[source]()
    if isinstance(upstream, Repository):
        reading = _asked(source, upstream)
        return reading.version, lambda: reading
    folder, version = _fetched(source, upstream.files)
    files = upstream

    def read() -> Reading:
        entries, failed = files.read(folder)
        return Reading(entries, version, failed)

    return version, read


def _asked(source: str, repository: Repository) -> Reading:
    """What a repository says of each of its pages, one after the other.

    What it says is not there is no entry; what cannot be had now stays as it was.
    """
    rules = replace(configured_rules(), attempts=3)
    refs = {ref for rows in rows_by_dataset().values() for owner, ref in rows if owner == source}
    entries: list[Entry] = []
    failed: list[tuple[str, str]] = []
    for place, ref in enumerate(sorted(refs)):
        if place:
            time.sleep(settings.LINK_PAUSE_SECONDS)
        try:
            entries.append(repository.read(ref, repository.ask(ref, rules)))
        except BuildError as error:
            if not _NOT_THERE.search(str(error)):
                failed.append((ref, str(error)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            failed.append((ref, f"not understood: {error!r}"))
    said = format_table(sorted(entries, key=lambda one: one.ref), source)
    return Reading(entries, hashlib.sha256(said.encode()).hexdigest(), failed)


def _fetched(source: str, files: Mapping[str, str]) -> tuple[Path, str]:
    """The folder of a source's files, and a name for their content."""
    cache = Path(settings.STATE_DIR) / "harvest" / source
    _ask_again(cache)
    wanted = [RemoteFile(path=path, url=url) for path, url in files.items()]
    folder = fetch_files(wanted, cache, configured_rules(), lambda: None, unpacked=False)
    return folder, folder.name


def _ask_again(cache: Path) -> None:
    """Forget files that came without a date or tag: only a new copy tells of a change."""
    for note in (cache / "fetched").glob("*.json"):
        if not json.loads(note.read_text("utf-8")).get("etag"):
            note.unlink()


def update_index() -> None:
    """Mend the search index; where its server is away, the next search does it."""
    try:
        engine().refresh()
    except SearchUnavailableError:
        logger.warning("the search index could not be brought up to date", exc_info=True)
