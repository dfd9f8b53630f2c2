"""Make the stores ready: schema, catalog, search index. Quick when nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.core.management import call_command

from catalog.claims import FILE as SOURCES
from catalog.collection import HARVESTED
from catalog.models import CatalogRevision, Dataset
from catalog.records_io import FOLDER
from catalog.search.engine import reindex
from catalog.search.index import current_key
from catalog.services import load_catalog

Say = Callable[[str], object]


def prepare(say: Say) -> None:
    """Bring schema, catalog and index up to date, saying what takes time."""
    call_command("migrate", interactive=False, verbosity=0)
    stamp = Path(settings.STATE_DIR) / "catalog.stamp"
    state = _records_state()
    if not _is_loaded() or not stamp.is_file() or stamp.read_text() != state:
        say("catalog: loading the records ...")
        report = load_catalog(FOLDER)
        stamp.write_text(state)
        say(f"catalog: {report.total} datasets")
    index = Path(settings.STATE_DIR) / "index.stamp"
    key = f"{settings.SEARCH_URL and settings.SEARCH_INDEX} {current_key()}"
    if not index.is_file() or index.read_text() != key:
        say("search: building the index ...")
        number = reindex()
        index.write_text(key)
        say(f"search: {number} datasets indexed")


def _is_loaded() -> bool:
    return CatalogRevision.objects.exists() and Dataset.objects.exists()


def _records_state() -> str:
    """Tells a changed set of record files from the one loaded last, without reading them."""
    paths = [*FOLDER.glob("*.yaml"), *HARVESTED.glob("*.csv"), SOURCES]
    files = [path.stat() for path in paths]
    return f"{len(files)} {max((file.st_mtime_ns for file in files), default=0)}"
