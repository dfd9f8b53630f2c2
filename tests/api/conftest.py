"""An own search index and bundle storage, and a small catalog."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.models import Dataset
from tests.factories import make_dataset


@pytest.fixture(autouse=True)
def own_state(settings, tmp_path: Path):
    """Index, bundles, data and collected static files below the test's own folder."""
    settings.SEARCH_URL = ""
    settings.SEARCH_DIR = tmp_path / "search"
    settings.DATA_ROOT = tmp_path / "data"
    settings.UPLOAD_DIR = tmp_path / "uploads"
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STATIC_ROOT.mkdir()
    settings.STORAGES = {
        **settings.STORAGES,
        "bundles": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": tmp_path / "bundles"},
        },
    }


@pytest.fixture
def datasets(db) -> dict[str, Dataset]:  # noqa: ARG001
    """Two datasets of the retina, and the two that the sample recipe names."""
    fundus = {
        "modalities": ["Fundus photography"],
        "anatomies": ["Retina"],
        "tasks": ["Segmentation"],
        "dimensions": ["2D"],
    }
    rows = [
        make_dataset("first-fundus", name="First Fundus", licence="CC-BY-4.0", year=2011, **fundus),
        make_dataset("second-fundus", name="Second Fundus", access="open", **fundus),
        make_dataset("icbm152-2009a", modalities=["MR"], anatomies=["Brain"], dimensions=["3D"]),
        make_dataset("mni152-neuromorphometrics", modalities=["MR"], anatomies=["Brain"]),
    ]
    return {row.slug: row for row in rows}
