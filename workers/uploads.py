"""Own data comes in, is checked in quarantine, and is kept or deleted by its owner.

The bytes of each file lie in `parts/<number>` of the upload's folder: how many are there is the
only record of how far it came, so a killed server loses nothing that it has written.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any

from celery import current_app
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Q, Sum
from django.utils import timezone

from catalog.faults import Fault, FaultsError
from catalog.models import Dataset
from fusion.errors import BuildError, RecipeError
from fusion.imaging.errors import CaseError
from fusion.imaging.file_hash import file_sha256
from fusion.locations import SAFE_ID
from fusion.models import Upload
from fusion.recipe_check import check_description
from fusion.recipe_files import parse
from fusion.sources.archive import ArchiveLimits, Names, is_archive, unpack_checked
from fusion.sources.own import folder_of, tree_digest
from workers.clock import now
from workers.models import Run, lease_end
from workers.room import existing, size

logger = logging.getLogger(__name__)
MOST_FILES, MOST_ATTEMPTS = 2_000, 3
LARGEST_DESCRIPTION = 256 * 1024
_BLOCK = 1 << 20
_UNPACK_SECONDS = 3600.0
#: So many files are checked between two signs of life.
_AT_A_TIME = 20


class UploadError(FaultsError):
    """Something that cannot be uploaded as it was asked."""


class UploadConflictError(Exception):
    """An upload is not in the state in which that could be done to it."""


def begin(owner: Any, name: str, files: Sequence[Mapping[str, Any]]) -> Upload:
    """Make room for files that are to come.

    Args:
        owner: the user.
        name: by which recipes will call the data.
        files: path, bytes and, where known, sha256 of each; an archive comes alone.

    Raises:
        UploadError: a name or a file that cannot be.
        BuildError: disk_full or storage_quota.
    """
    rows = [
        {"path": one["path"], "bytes": one["bytes"], "sha256": one.get("sha256") or ""}
        for one in files
    ]
    total = sum(row["bytes"] for row in rows)
    if faults := [*_name_faults(owner, name), *_file_faults(rows, total)]:
        raise UploadError(faults)
    _check_room(owner, total)
    try:
        with transaction.atomic():
            upload = Upload.objects.create(owner=owner, name=name, files=rows, size_bytes=total)
    except IntegrityError as error:  # asked for twice at once
        raise UploadError(_name_faults(owner, name)) from error
    (upload.folder / "parts").mkdir(parents=True)
    for number, row in enumerate(rows):
        if not row["bytes"]:
            _part(upload, number).touch()
    settle(upload)
    return upload


def offset(upload: Upload, number: int) -> int:
    """How many bytes of a file are here."""
    part = _part(upload, number)
    return part.stat().st_size if part.is_file() else 0


def offsets(upload: Upload) -> list[int]:
    """The same for each file, all of them once nothing more is to come."""
    if upload.state != Upload.State.RECEIVING:
        return [row["bytes"] for row in upload.files]
    return [offset(upload, number) for number in range(len(upload.files))]


def append(
    upload: Upload, number: int, begins: int, content: IO[bytes], length: int, sha256: str = ""
) -> int:
    """Write `length` bytes of a file behind those that are here; returns how many are here then.

    What comes before a connection breaks is kept, unless its SHA-256 was given and cannot be
    checked. After the last byte of the last file the checks are queued.

    Raises:
        UploadConflictError: other bytes are expected, or another request is writing.
        UploadError: more bytes than the file has, or other ones than their checksum says.
    """
    row = upload.files[number]
    if upload.state != Upload.State.RECEIVING:
        raise UploadConflictError(f"{upload.name}: it is {upload.get_state_display()}")
    with _part(upload, number).open("ab") as part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UploadConflictError(f"{row['path']}: another request is writing it") from error
        here = os.fstat(part.fileno()).st_size
        if begins != here:
            raise UploadConflictError(f"{row['path']}: found offset {begins}, expected {here}")
        if here + length > row["bytes"]:
            found = f"{here + length} bytes"
            raise UploadError([Fault(row["path"], found, f"the {row['bytes']} that were declared")])
        try:
            written, found = _copy(content, part, length)
        except BaseException:
            if sha256:
                part.truncate(here)
            raise
        if sha256 and (found != sha256 or written < length):
            part.truncate(here)
            raise UploadError([Fault("Upload-Checksum", found, sha256)])
        part.flush()
        os.fsync(part.fileno())
    if here + written == row["bytes"]:
        settle(upload)
    return here + written


def settle(upload: Upload) -> None:
    """Queue the checks once all is here; changes nothing before or after that."""
    if any(have < row["bytes"] for have, row in zip(offsets(upload), upload.files, strict=True)):
        Upload.objects.filter(pk=upload.pk).update(touched_at=timezone.now())
        return
    mine = Upload.objects.filter(pk=upload.pk, state=Upload.State.RECEIVING)
    if mine.update(state=Upload.State.WAITING, touched_at=timezone.now()):
        upload.state = Upload.State.WAITING
        transaction.on_commit(partial(_enqueue, upload.pk), robust=True)


def keep(upload: Upload, *, accept: bool) -> Upload:
    """Take data out of quarantine into its owner's area.

    Args:
        upload: checked.
        accept: its owner has seen what was found and may keep it.

    Raises:
        UploadConflictError: it is not checked, or what was found was not accepted.
    """
    if upload.state != Upload.State.CHECKED:
        raise UploadConflictError(f"{upload.name}: it is {upload.get_state_display()}")
    if (upload.report or {}).get("must_be_accepted") and not accept:
        raise UploadConflictError(
            f"{upload.name}: the checks found what may tell who people are: accept says that you "
            "have seen it and may keep these data here"
        )
    target = folder_of(upload.sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_dir():
        _unpacked(upload).replace(target)
    changed = Upload.objects.filter(pk=upload.pk, state=Upload.State.CHECKED)
    changed.update(state=Upload.State.KEPT, touched_at=timezone.now())
    shutil.rmtree(upload.folder, ignore_errors=True)
    upload.refresh_from_db()
    logger.info("upload %s: kept, %d bytes", upload.pk, upload.size_bytes)
    return upload


def delete(upload: Upload) -> None:
    """Remove an upload with all its files.

    Raises:
        UploadConflictError: a run that is under way reads them.
    """
    if upload.state == Upload.State.KEPT:
        for run in Run.objects.unfinished().filter(owner=upload.owner).only("recipe", "title"):
            places = (source["location"] for source in run.recipe["sources"])
            if any(place.get("sha256") == upload.sha256 for place in places):
                raise UploadConflictError(f"{upload.name}: the run {run.title!r} reads it")
    pk, folder = upload.pk, upload.folder
    upload.delete()
    shutil.rmtree(folder, ignore_errors=True)
    if upload.sha256 and not Upload.objects.kept().filter(sha256=upload.sha256).exists():
        shutil.rmtree(folder_of(upload.sha256), ignore_errors=True)
    logger.info("upload %s: deleted", pk)


def describe(upload: Upload, text: str) -> list[dict[str, str]]:
    """Keep an edited source description; returns what is still to be done about it.

    Raises:
        UploadError: too long.
    """
    if len(text) > LARGEST_DESCRIPTION:
        found, expected = f"{len(text)} characters", f"at most {LARGEST_DESCRIPTION}"
        raise UploadError([Fault("description", found, expected)])
    upload.description = text.replace("\r\n", "\n")
    upload.save(update_fields=["description", "touched_at"])
    return description_problems(upload)


def description_problems(upload: Upload) -> list[dict[str, str]]:
    """What keeps a recipe from using the description."""
    if not upload.description:
        return []
    try:
        check_description(parse(upload.description), upload.name)
    except RecipeError as error:
        return error.errors
    return []


def check(pk: uuid.UUID) -> None:
    """Check an upload whose files are here, unless somebody else does; safe to run again."""
    upload = _claim(pk)
    if upload is None:
        return
    try:
        _check(upload)
    except (CaseError, BuildError) as error:
        _refuse(upload, error.code, str(error))
    except OSError:
        logger.warning("upload %s: could not be checked", pk, exc_info=True)
        raise


def requeue_uploads(patience_seconds: float | None = None) -> int:
    """Send a message for each upload that waits without a worker; returns how many."""
    patience = settings.RUN_LEASE_SECONDS if patience_seconds is None else patience_seconds
    long_ago = timezone.now() - timedelta(seconds=patience)
    waiting = _claimable().filter(
        Q(state=Upload.State.CHECKING) | Q(state=Upload.State.WAITING, touched_at__lte=long_ago)
    )
    ids = list(waiting.values_list("pk", flat=True))
    Upload.objects.filter(pk__in=ids).update(touched_at=timezone.now())
    for pk in ids:
        _enqueue(pk)
    return len(ids)


def expired() -> Iterable[Upload]:
    """Uploads that nobody finishes or decides on."""
    long_ago = timezone.now() - timedelta(days=settings.KEEP_UPLOAD_DAYS)
    return Upload.objects.undecided().filter(touched_at__lt=long_ago)


def _name_faults(owner: Any, name: str) -> list[Fault]:
    if not settings.UPLOAD_BYTES:
        return [Fault("name", name, "no upload: this portal takes none")]
    if not SAFE_ID.fullmatch(name):
        return [Fault("name", name[:80], "1-40 of a-z, 0-9, _ and -, a letter or digit first")]
    if Upload.objects.filter(owner=owner, name=name).exists():
        return [Fault("name", name, "a name that none of your data has")]
    if Dataset.objects.filter(slug=name).exists():
        return [Fault("name", name, "a name that no dataset of the catalog has")]
    return []


def _file_faults(rows: Sequence[Mapping[str, Any]], total: int) -> list[Fault]:
    faults, names = [], Names()
    if not 1 <= len(rows) <= MOST_FILES:
        expected = f"1 to {MOST_FILES}, or one archive (.zip, .tar, .tar.gz)"
        faults.append(Fault("files", f"{len(rows)} files", expected))
    for number, row in enumerate(rows[:MOST_FILES]):
        try:
            names.checked(row["path"])
        except ValueError as error:
            faults.append(Fault(f"files[{number}].path", str(error), "a plain path of its own"))
        if len(rows) > 1 and is_archive(Path(row["path"])):
            faults.append(Fault(f"files[{number}].path", row["path"], "an archive comes alone"))
    if total > settings.UPLOAD_BYTES:
        faults.append(Fault("files", size(total), f"at most {size(settings.UPLOAD_BYTES)}"))
    return faults


def _check_room(owner: Any, asked: int) -> None:
    allowed = settings.UPLOAD_BYTES_PER_USER
    used = used_bytes(owner)
    if allowed and used + asked > allowed:
        raise BuildError(
            "storage_quota",
            f"your data: {size(used)} used, {size(asked)} asked, {size(allowed)} allowed",
        )
    free = shutil.disk_usage(existing(Path(settings.UPLOAD_DIR))).free
    if asked + settings.DISK_RESERVE_BYTES > free:
        reserve = size(settings.DISK_RESERVE_BYTES)
        raise BuildError(
            "disk_full",
            f"found {size(free)} free, needed {size(asked)} and a reserve of {reserve}",
        )


def used_bytes(owner: Any) -> int:
    """What a person's data takes, that on its way included."""
    mine = Upload.objects.filter(owner=owner).exclude(state=Upload.State.REFUSED)
    return mine.aggregate(n=Sum("size_bytes"))["n"] or 0


def _part(upload: Upload, number: int) -> Path:
    return upload.folder / "parts" / str(number)


def _unpacked(upload: Upload) -> Path:
    """Where an upload's files lie by their own names."""
    return upload.folder / upload.name


def _copy(content: IO[bytes], part: IO[bytes], length: int) -> tuple[int, str]:
    """Bytes written, and their SHA-256."""
    written, digest = 0, hashlib.sha256()
    while written < length and (block := content.read(min(_BLOCK, length - written))):
        part.write(block)
        digest.update(block)
        written += len(block)
    return written, digest.hexdigest()


def _enqueue(pk: uuid.UUID) -> None:
    current_app.send_task("workers.tasks.check_upload", args=[str(pk)], queue="io")


def _claimable() -> Any:
    lost = Q(state=Upload.State.CHECKING) & (Q(lease_until=None) | Q(lease_until__lt=now()))
    return Upload.objects.filter(Q(state=Upload.State.WAITING) | lost)


def _claim(pk: uuid.UUID) -> Upload | None:
    taken = (
        _claimable()
        .filter(pk=pk)
        .update(state=Upload.State.CHECKING, lease_until=lease_end(), attempts=F("attempts") + 1)
    )
    if not taken:
        return None
    upload = Upload.objects.get(pk=pk)
    if upload.attempts > MOST_ATTEMPTS:
        _refuse(upload, "size_limit", f"the checks ended {MOST_ATTEMPTS} workers")
        return None
    return upload


def _check(upload: Upload) -> None:
    # They load every reader of images, which web processes do without.
    from fusion import privacy
    from fusion.draft import draft_text
    from fusion.imaging.io.guard import Guard

    folder = _unpacked(upload)
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.parent.is_dir():
        raise BuildError("not_found", "the files are no longer here")
    with Guard(seconds=_UNPACK_SECONDS, preload=("fusion.draft", "fusion.privacy")) as guard:
        _arrange(upload, folder, guard)
        guard.seconds = Guard().seconds
        files = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        )
        if not files:
            raise BuildError("no_cases", "the archive is empty")
        rows = []
        for done, path in enumerate(files):
            if done % _AT_A_TIME == 0:
                _still_here(upload, done, len(files))
            try:
                rows.append(guard.call(privacy.look, folder, path))
            except CaseError as error:  # the child itself ended
                rows.append(privacy.unlooked(folder, path, error))
        hashes = [{"path": path, "sha256": file_sha256(folder / path)} for path in files]
        try:
            drafted = guard.call(draft_text, folder)
        except CaseError as error:
            drafted = f"# No draft: {error}\n"
    found = privacy.report(rows)
    mine = Upload.objects.filter(pk=upload.pk, state=Upload.State.CHECKING)
    mine.update(
        state=Upload.State.CHECKED,
        report=found,
        size_bytes=found["bytes"],
        sha256=tree_digest(hashes),
        description=drafted,
        done=len(files),
        total=len(files),
        lease_until=None,
        touched_at=timezone.now(),
    )
    shutil.rmtree(upload.folder / "parts", ignore_errors=True)
    logger.info("upload %s: checked, %d files", upload.pk, len(files))


def _arrange(upload: Upload, folder: Path, guard: Any) -> None:
    """Verify what came, and lay it out by its names; an archive is unpacked.

    Raises:
        BuildError: file_changed.
        CaseError: archive_unsafe, source_failed or size_limit, from the child.
    """
    for number, row in enumerate(upload.files):
        found = file_sha256(_part(upload, number))
        if row["sha256"] and row["sha256"] != found:
            raise BuildError(
                "file_changed",
                f"{row['path']}: found SHA-256 {found}, expected {row['sha256']}",
            )
        row["sha256"] = found
        _still_here(upload, 0, 0)
    Upload.objects.filter(pk=upload.pk).update(files=upload.files)
    first = upload.files[0]["path"]
    if is_archive(Path(first)):
        guard.call(unpack_checked, _part(upload, 0), first, folder, _limits(upload))
        return
    for number, row in enumerate(upload.files):
        target = folder / row["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(_part(upload, number), target)  # a check that is repeated needs the part again


def _limits(upload: Upload) -> ArchiveLimits:
    """What an archive may become: within its owner's quota."""
    allowed, most = settings.UPLOAD_BYTES_PER_USER, ArchiveLimits().expanded_bytes
    if not allowed:
        return ArchiveLimits()
    left = allowed - used_bytes(upload.owner) + upload.size_bytes
    return ArchiveLimits(expanded_bytes=max(0, min(most, left)))


def _still_here(upload: Upload, done: int, total: int) -> None:
    """Say how far the check is, and that somebody does it.

    Raises:
        BuildError: its owner has deleted it meanwhile.
    """
    mine = Upload.objects.filter(pk=upload.pk, state=Upload.State.CHECKING)
    if not mine.update(done=done, total=total, lease_until=lease_end()):
        raise BuildError("cancelled", "it was deleted")


def _refuse(upload: Upload, code: str, why: str) -> None:
    """Nothing that was refused is kept."""
    shutil.rmtree(upload.folder, ignore_errors=True)
    Upload.objects.filter(pk=upload.pk).update(
        state=Upload.State.REFUSED,
        error_code=code,
        error=why[:2000],
        lease_until=None,
        touched_at=timezone.now(),
    )
    logger.info("upload %s: refused (%s)", upload.pk, code)
