"""From a finished folder to the storage: moved whole, or saved file by file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.files.storage import InMemoryStorage, storages

from fusion.errors import BuildError
from fusion.models import Bundle
from workers.publish import is_published, list_files, publish

pytestmark = pytest.mark.django_db
PLAN: Any = SimpleNamespace(bundle_id="b" * 64, title="Two sources", build="private")
MANIFEST = {
    "bundle_id": PLAN.bundle_id,
    "plan": {},
    "sources": [],
    "cases": [],
    "concepts": [],
    "splits": {"counts": {}},
    "known_limits": [],
}


@pytest.fixture
def local(settings: Any, tmp_path: Path) -> Path:
    """The bundle folder of a file system storage."""
    _use(settings, "django.core.files.storage.FileSystemStorage", location=tmp_path / "bundles")
    return tmp_path / "bundles"


@pytest.fixture
def remote(settings: Any) -> InMemoryStorage:
    """A storage without folders to rename."""
    _use(settings, "django.core.files.storage.InMemoryStorage")
    return storages["bundles"]


def _use(settings: Any, backend: str, **options: Any) -> None:
    bundles = {"BACKEND": backend, "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "bundles": bundles}


def finished_folder(root: Path, text: str = "1") -> Path:
    folder = root / "finished"
    (folder / "shards").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "shards" / "a.tar").write_text(text)
    paths = ("manifest.json", "shards/a.tar")
    sums = [f"{hashlib.sha256((folder / p).read_bytes()).hexdigest()}  {p}\n" for p in paths]
    (folder / "SHA256SUMS").write_text("".join(sums))
    (folder / "build_info.json").write_text("{}")
    (folder / "baseline").mkdir()
    document = folder / "baseline" / "baseline.json"
    document.write_text('{"tier": "smoke"}')
    digest = hashlib.sha256(document.read_bytes()).hexdigest()
    (folder / "baseline" / "SHA256SUMS").write_text(f"{digest}  baseline/baseline.json\n")
    return folder


def test_a_bundle_is_moved_whole_and_its_files_are_listed(local: Path, tmp_path: Path):
    folder = finished_folder(tmp_path)
    bundle = publish(folder, PLAN, {"title": "r"})

    assert not folder.exists()
    assert [path.name for path in local.iterdir()] == [PLAN.bundle_id]
    paths = ["manifest.json", "shards/a.tar", "baseline/baseline.json"]
    assert [file["path"] for file in bundle.files] == paths
    assert bundle.files == list_files(local / PLAN.bundle_id)
    assert bundle.size_bytes == sum(file["bytes"] for file in bundle.files)
    assert bundle.baseline == {"tier": "smoke"}
    assert is_published(PLAN.bundle_id)


def test_publishing_again_after_a_kill_between_move_and_row_writes_the_row(
    local: Path, tmp_path: Path
):
    publish(finished_folder(tmp_path), PLAN, {})
    Bundle.objects.all().delete()

    bundle = publish(tmp_path / "finished", PLAN, {})

    assert Bundle.objects.get() == bundle
    assert (local / PLAN.bundle_id / "manifest.json").is_file()


def test_a_bundle_built_anew_replaces_the_damaged_one(local: Path, tmp_path: Path):
    publish(finished_folder(tmp_path), PLAN, {})
    (local / PLAN.bundle_id / "shards" / "a.tar").write_text("damaged")

    publish(finished_folder(tmp_path), PLAN, {})

    assert (local / PLAN.bundle_id / "shards" / "a.tar").read_text() == "1"
    assert len(list(local.iterdir())) == 1
    assert Bundle.objects.count() == 1


def test_without_folders_each_file_is_saved_and_again_if_need_be(
    remote: InMemoryStorage, tmp_path: Path
):
    folder = finished_folder(tmp_path)
    publish(folder, PLAN, {})
    bundle = publish(folder, PLAN, {})

    names = [f"{PLAN.bundle_id}/{file['path']}" for file in bundle.files]
    assert all(remote.exists(name) for name in [*names, f"{PLAN.bundle_id}/build_info.json"])
    assert remote.listdir(PLAN.bundle_id)[1].count("SHA256SUMS") == 1
    assert is_published(PLAN.bundle_id)


@pytest.mark.usefixtures("local")
def test_nothing_to_publish_is_an_error_that_says_so(tmp_path: Path):
    with pytest.raises(BuildError, match="nothing to publish"):
        publish(tmp_path / "finished", PLAN, {})
    assert not Bundle.objects.exists()
