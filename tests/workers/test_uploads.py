"""Own data: what is received survives, what is hostile is refused, what is kept can be fused."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from catalog.models import Dataset
from fusion.errors import BuildError, RecipeError
from fusion.models import Upload
from fusion.sources.own import folder_of
from tests.uploads import dicom, fundus, zipped
from workers import uploads
from workers.own import checked_recipe
from workers.stages import build_of
from workers.submit import submit_run
from workers.tidy import tidy
from workers.uploads import UploadConflictError, UploadError

pytestmark = pytest.mark.django_db
DESCRIPTION = """
schema: imaging-x/source/1
name: Camera of mine
modality: OP
family: Fundus photography
dimension: 2D
licence: {images: CC-BY-4.0, labels: CC-BY-4.0}
annotation: manual
cases: {image: "images/{name}.png", subject: "{name}"}
layers:
  - {path: "masks/{name}.png", kind: mask, threshold: 127, concept: retinal_vessel}
"""


@pytest.fixture(autouse=True)
def own_folders(settings, tmp_path: Path) -> None:
    settings.UPLOAD_DIR = tmp_path / "uploads"
    settings.WORK_DIR = tmp_path / "work"
    settings.STATE_DIR = tmp_path


@pytest.fixture
def ada() -> User:
    return User.objects.create(username="ada")


def _sent(owner: User, name: str, files: dict[str, bytes], **declared: str) -> Upload:
    rows = [{"path": path, "bytes": len(data), **declared} for path, data in files.items()]
    upload = uploads.begin(owner, name, rows)
    for number, data in enumerate(files.values()):
        uploads.append(upload, number, 0, io.BytesIO(data), len(data))
    return upload


def _checked(owner: User, name: str, files: dict[str, bytes], **declared: str) -> Upload:
    upload = _sent(owner, name, files, **declared)
    uploads.check(upload.pk)
    upload.refresh_from_db()
    return upload


def _kept(owner: User, name: str = "mine", people: int = 4) -> Upload:
    upload = uploads.keep(_checked(owner, name, fundus(people)), accept=False)
    assert uploads.describe(upload, DESCRIPTION) == []
    return upload


def _recipe(**changes) -> dict:
    return {
        "schema": "imaging-x/recipe/1", "title": "Own vessels", "task": "segmentation",
        "concepts": ["retinal_vessel"], "baseline": {"tier": "none"},
        "sources": [{"id": "mine", "location": {"kind": "own", "name": "mine"}}], **changes,
    }  # fmt: skip


def test_an_archive_is_unpacked_checked_drafted_and_kept_on_its_owners_word(ada):
    upload = _checked(ada, "mine", {"data.zip": zipped(fundus())})

    assert upload.state == Upload.State.CHECKED
    assert upload.report["kinds"] == {"picture": 8}
    assert "images/{name}.png" in upload.description
    assert not folder_of(upload.sha256).exists()
    uploads.keep(upload, accept=False)
    assert (folder_of(upload.sha256) / "images/p0.png").read_bytes() == fundus()["images/p0.png"]
    assert not upload.folder.exists()


def test_single_files_and_an_archive_of_them_are_the_same_data(ada):
    one = _checked(ada, "one", {"data.zip": zipped(fundus())})
    two = _checked(ada, "two", fundus())

    assert one.sha256 == two.sha256
    for upload in (one, two):
        uploads.keep(upload, accept=False)
    uploads.delete(one)
    assert folder_of(two.sha256).is_dir()
    uploads.delete(two)
    assert not folder_of(two.sha256).exists()
    assert not Upload.objects.exists()


def test_what_may_tell_who_people_are_must_be_accepted(ada):
    upload = _checked(ada, "mine", {"a.dcm": dicom("CT", PatientName="Doe^Jane")})

    assert upload.report["findings"][0]["code"] == "dicom_identity"
    with pytest.raises(UploadConflictError, match="accept"):
        uploads.keep(upload, accept=False)
    assert uploads.keep(upload, accept=True).state == Upload.State.KEPT


def _link() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (zipped({"../../escaped.png": b"x"}), "archive_unsafe"),
        (zipped({"/etc/escaped": b"x"}), "archive_unsafe"),
        (_link(), "archive_unsafe"),
        (zipped({"a.png": b"1", "A.PNG": b"2"}), "archive_unsafe"),
        (b"no archive at all", "source_failed"),
        (zipped({}), "no_cases"),
    ],
)
def test_a_hostile_or_broken_archive_is_refused_and_nothing_of_it_is_kept(
    ada, tmp_path, content, code
):
    upload = _checked(ada, "mine", {"data.zip": content})

    assert (upload.state, upload.error_code) == (Upload.State.REFUSED, code)
    assert not upload.folder.exists()
    assert not list(tmp_path.rglob("escaped*"))


def test_an_archive_that_grows_beyond_the_quota_is_refused(ada, settings):
    settings.UPLOAD_BYTES_PER_USER = 200_000
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.raw", bytes(1_000_000))

    upload = _checked(ada, "mine", {"data.zip": out.getvalue()})

    assert (upload.state, upload.error_code) == (Upload.State.REFUSED, "archive_unsafe")
    assert "limit" in upload.error


def test_other_bytes_than_declared_are_refused(ada):
    right = hashlib.sha256(b"right").hexdigest()

    upload = _checked(ada, "mine", {"a.json": b"wrong"}, sha256=right)

    assert (upload.state, upload.error_code) == (Upload.State.REFUSED, "file_changed")


def test_a_file_goes_on_where_it_was_cut_and_no_byte_is_written_twice(ada):
    upload = uploads.begin(ada, "mine", [{"path": "a.json", "bytes": 6}])

    assert uploads.append(upload, 0, 0, io.BytesIO(b"{}"), 6) == 2  # the connection broke
    with pytest.raises(UploadConflictError, match="expected 2"):
        uploads.append(upload, 0, 0, io.BytesIO(b"{}    "), 6)
    digest = hashlib.sha256(b"    ").hexdigest()
    with pytest.raises(UploadError, match="Checksum"):
        uploads.append(upload, 0, 2, io.BytesIO(b"????"), 4, digest)
    with pytest.raises(UploadError, match="declared"):
        uploads.append(upload, 0, 2, io.BytesIO(b"     "), 5)
    assert uploads.append(upload, 0, 2, io.BytesIO(b"    "), 4, digest) == 6
    assert Upload.objects.get().state == Upload.State.WAITING
    with pytest.raises(UploadConflictError):
        uploads.append(upload, 0, 6, io.BytesIO(b""), 0)


@pytest.mark.parametrize(
    ("name", "rows", "words"),
    [
        ("Mine!", [("a", 1)], "name"),
        ("taken", [("a", 1)], "none of your data"),
        ("first", [("a", 1)], "no dataset of the catalog"),
        ("mine", [], "0 files"),
        ("mine", [("../a", 1)], "leads out"),
        ("mine", [("/a", 1)], "leads out"),
        ("mine", [("a\nb", 1)], "plain name"),
        ("mine", [("a", 1), ("A", 1)], "one name"),
        ("mine", [("a.zip", 1), ("b", 1)], "an archive comes alone"),
        ("mine", [("a", 10**15)], "at most"),
    ],
)
def test_what_cannot_be_uploaded_is_refused_before_a_byte_is_sent(ada, name, rows, words):
    Dataset.objects.create(slug="first", name="First", digest="0" * 64)
    Upload.objects.create(owner=ada, name="taken", files=[], size_bytes=0)

    with pytest.raises(UploadError, match=words):
        uploads.begin(ada, name, [{"path": path, "bytes": size} for path, size in rows])

    assert Upload.objects.count() == 1


def test_the_quota_counts_what_is_kept_and_on_its_way(ada, settings):
    settings.UPLOAD_BYTES_PER_USER = 1000
    uploads.begin(ada, "one", [{"path": "a", "bytes": 600}])

    with pytest.raises(BuildError, match=r"0\.6 kB used, 0\.6 kB asked") as error:
        uploads.begin(ada, "two", [{"path": "a", "bytes": 600}])
    assert error.value.code == "storage_quota"
    uploads.begin(User.objects.create(username="bob"), "two", [{"path": "a", "bytes": 600}])


def test_a_check_whose_worker_died_is_done_again_and_one_that_kills_them_is_given_up(ada):
    upload = _sent(ada, "mine", fundus())
    lost = {"state": Upload.State.CHECKING, "lease_until": None}
    Upload.objects.update(**lost)

    assert uploads.requeue_uploads() == 1
    uploads.check(upload.pk)
    assert Upload.objects.get().state == Upload.State.CHECKED
    Upload.objects.update(**lost, attempts=uploads.MOST_ATTEMPTS)
    uploads.check(upload.pk)
    assert Upload.objects.get().state == Upload.State.REFUSED


def test_own_data_stands_in_a_recipe_by_name_and_is_fused(ada):
    upload = _kept(ada)

    run = submit_run(_recipe(), owner=ada)

    source = run.recipe["sources"][0]
    assert source["location"] == {"kind": "own", "name": "mine", "sha256": upload.sha256}
    assert (source["dataset"], source["description"]["name"]) == ("mine", "Camera of mine")
    from fusion.build import run_stage
    from workers.stages import Quiet

    build = build_of(run)
    run_stage("acquire", build, Quiet(lambda: None))
    files = build.load("lock.json")["sources"]["mine"]["files"]
    assert len(files) == 8
    with pytest.raises(UploadConflictError, match="reads it"):
        uploads.delete(upload)


def test_nobody_fuses_anothers_data_by_name_or_by_its_hash(ada):
    upload = _kept(ada)
    there = {"kind": "own", "name": "mine", "sha256": upload.sha256}
    described = checked_recipe(_recipe(), ada).as_dict()

    for owner in (None, User.objects.create(username="bob", is_staff=True)):
        for place in ({"kind": "own", "name": "mine"}, there):
            source = {**described["sources"][0], "location": place}
            with pytest.raises(RecipeError, match="data that you keep here"):
                submit_run(_recipe(sources=[source]), owner=owner)


def test_a_recipe_for_other_data_of_that_name_is_refused(ada):
    _kept(ada)
    place = {"kind": "own", "name": "mine", "sha256": "0" * 64}

    with pytest.raises(RecipeError, match="what 'mine' holds"):
        checked_recipe(_recipe(sources=[{"id": "mine", "location": place}]), ada)


def test_an_unconfirmed_draft_is_refused_with_its_guesses(ada):
    upload = uploads.keep(_checked(ada, "mine", fundus()), accept=False)

    assert uploads.description_problems(upload)
    with pytest.raises(RecipeError):
        checked_recipe(_recipe(), ada)


def test_unfinished_and_undecided_uploads_are_tidied_and_kept_ones_stay(ada, settings):
    kept = _kept(ada)
    undecided = _checked(ada, "undecided", fundus(2))
    uploads.begin(ada, "unfinished", [{"path": "a", "bytes": 6}])
    young = uploads.begin(ada, "young", [{"path": "a", "bytes": 6}])
    old = timezone.now() - timedelta(days=settings.KEEP_UPLOAD_DAYS, hours=1)
    Upload.objects.exclude(pk=young.pk).update(touched_at=old)
    stray = Path(settings.UPLOAD_DIR) / "kept" / ("0" * 64)
    stray.mkdir()
    os.utime(stray, (1, 1))

    gone = {one.name for one in tidy() if one.kind == "upload"}

    assert len(gone) == 3
    assert set(Upload.objects.all()) == {kept, young}
    assert folder_of(kept.sha256).is_dir()
    assert not undecided.folder.exists()
    assert not stray.exists()
