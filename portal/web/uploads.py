"""One's own data: send it, see what the checks found, keep or delete it, describe it."""

from __future__ import annotations

from http import HTTPStatus
from typing import IO, Any, cast
from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from catalog.faults import Fault
from fusion.errors import BuildError
from fusion.models import Upload
from portal.access import own_uploads, user_of
from portal.web.paging import paginate
from workers import uploads
from workers.uploads import UploadConflictError, UploadError

SHOWN_FILES = 50
MOODS = {"alert": "bad", "warning": "warn", "note": "busy"}


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """One's data, and a form for more. Three queries."""
    refused: dict[str, Any] = {}
    status = HTTPStatus.OK
    if request.method == "POST":
        name, files = request.POST.get("name", "").strip(), request.FILES.getlist("files")
        try:
            rows = [{"path": file.name, "bytes": file.size} for file in files]
            upload = uploads.begin(user_of(request), name, rows)
            _receive(upload, files)
            return redirect("upload", upload_id=upload.pk)
        except UploadError as error:
            refused, status = {"problems": error.errors}, HTTPStatus.UNPROCESSABLE_ENTITY
        except BuildError as error:
            refused, status = {"no_room": error}, HTTPStatus.INSUFFICIENT_STORAGE
    rows, pages = paginate(request, own_uploads(request).defer("report", "description", "files"))
    context = {
        "uploads": rows,
        "pages": pages,
        "name": request.POST.get("name", ""),
        "used": uploads.used_bytes(user_of(request)),
        **_limits(),
        **refused,
    }
    return render(request, "uploads/list.html", context, status=status)


@login_required
@never_cache
@require_safe
def detail(request: HttpRequest, upload_id: UUID) -> HttpResponse:
    """One upload; with htmx only the part that changes while it is checked."""
    upload = get_object_or_404(own_uploads(request), pk=upload_id)
    uploads.settle(upload)
    part = "uploads/state.html" if request.htmx else "uploads/detail.html"  # type: ignore[attr-defined]
    return render(request, part, _context(upload))


@login_required
@require_POST
def send(request: HttpRequest, upload_id: UUID) -> HttpResponse:
    """Files that are still to come, sent as a form; each goes to the one of its name and size."""
    upload = get_object_or_404(own_uploads(request), pk=upload_id)
    try:
        _receive(upload, request.FILES.getlist("files"))
    except (UploadError, UploadConflictError) as error:
        return _refused(request, upload, str(error))
    return redirect("upload", upload_id=upload_id)


@login_required
@require_POST
def act(request: HttpRequest, upload_id: UUID, action: str) -> HttpResponse:
    """Keep, delete or describe; what cannot be done now is said on the page."""
    upload = get_object_or_404(own_uploads(request), pk=upload_id)
    try:
        if action == "delete":
            uploads.delete(upload)
            return redirect("uploads")
        if action == "keep":
            uploads.keep(upload, accept=request.POST.get("accept") == "on")
        else:
            uploads.describe(upload, request.POST.get("description", ""))
    except (UploadError, UploadConflictError) as error:
        return _refused(request, upload, str(error))
    anchor = "#description" if action == "describe" else ""
    return redirect(reverse("upload", args=[upload_id]) + anchor)


@login_required
@require_safe
def description(request: HttpRequest, upload_id: UUID) -> HttpResponse:
    """The source description as a file."""
    upload = get_object_or_404(own_uploads(request), pk=upload_id)
    disposition = f'attachment; filename="{upload.name}.yaml"'
    headers = {"Content-Disposition": disposition, "Cache-Control": "no-store"}
    return HttpResponse(upload.description, content_type="application/yaml", headers=headers)


def _receive(upload: Upload, files: list[UploadedFile[Any]]) -> None:
    """Append what is missing of each file.

    Raises:
        UploadError: a file that was not announced.
        UploadConflictError: another request is writing.
    """
    numbers = {(row["path"], row["bytes"]): number for number, row in enumerate(upload.files)}
    for file in files:
        number = numbers.get((file.name, file.size))
        if number is None:
            expected = "a file of the name and size that were announced"
            raise UploadError([Fault("files", f"{file.name}, {file.size} bytes", expected)])
        here, size = uploads.offset(upload, number), upload.files[number]["bytes"]
        file.seek(here)
        if here < size:
            uploads.append(upload, number, here, cast("IO[bytes]", file), size - here)


def _refused(request: HttpRequest, upload: Upload, why: str) -> HttpResponse:
    upload.refresh_from_db()
    context = _context(upload) | {"refused": why}
    return render(request, "uploads/detail.html", context, status=HTTPStatus.CONFLICT)


def _context(upload: Upload) -> dict[str, Any]:
    have = uploads.offsets(upload)
    files = [
        {**row, "offset": offset, "number": number}
        for number, (row, offset) in enumerate(zip(upload.files, have, strict=True))
    ]
    missing = [row for row in files if row["offset"] < row["bytes"]]
    findings = (upload.report or {}).get("findings", [])
    return {
        "upload": upload,
        "received": sum(have),
        "announced": sum(row["bytes"] for row in upload.files),
        "files": files,
        "missing": missing[:SHOWN_FILES],
        "hidden": max(0, len(missing) - SHOWN_FILES),
        "findings": [{**one, "mood": MOODS[one["severity"]]} for one in findings],
        "problems": uploads.description_problems(upload),
        **_limits(),
    }


def _limits() -> dict[str, int]:
    return {
        "largest": settings.UPLOAD_BYTES,
        "quota": settings.UPLOAD_BYTES_PER_USER,
        "keep_days": settings.KEEP_UPLOAD_DAYS,
    }
