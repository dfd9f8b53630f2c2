"""Uploads over the API: announce, send on, look, keep, delete; all of it one's own."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from django.contrib.auth.models import User
from django.test import Client

from fusion.models import Upload
from portal.models import ApiToken, Scope
from tests.uploads import dicom
from workers import uploads

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]
JSON = "application/json"
STREAM = "application/offset+octet-stream"
CONTENT = dicom("CT", PatientName="Doe^Jane")


@pytest.fixture
def ada() -> User:
    return User.objects.create(username="ada")


@pytest.fixture
def signed_in(client: Client, ada: User) -> Client:
    client.force_login(ada)
    return client


def _begin(client: Client, name: str = "mine", size: int = len(CONTENT), **extra):
    body = json.dumps({"name": name, "files": [{"path": "a.dcm", "bytes": size, **extra}]})
    return client.post("/api/v1/uploads/", body, JSON)


def _send(client: Client, address: str, offset: int, data: bytes, **headers: str):
    given = {"Upload-Offset": str(offset), **headers}
    return client.patch(address, data, STREAM, headers=given)


def test_send_in_parts_look_keep_describe_and_delete(signed_in):
    made = _begin(signed_in)
    assert made.status_code == 201
    address, file = made["Location"], made.json()["files"][0]["url"]
    half = len(CONTENT) // 2

    first = _send(signed_in, file, 0, CONTENT[:half])
    assert (first.status_code, first["Upload-Offset"]) == (204, str(half))
    told = signed_in.head(file)
    assert (told["Upload-Offset"], told["Upload-Length"]) == (str(half), str(len(CONTENT)))
    assert "no-store" in told["Cache-Control"]
    assert _send(signed_in, file, 0, CONTENT[:half]).status_code == 409
    rest = CONTENT[half:]
    digest = base64.b64encode(hashlib.sha256(rest).digest()).decode()
    wrong = base64.b64encode(bytes(32)).decode()
    spoilt = _send(signed_in, file, half, rest, **{"Upload-Checksum": f"sha256 {wrong}"})
    assert (spoilt.status_code, spoilt.json()["code"]) == (422, "upload_invalid")
    right = _send(signed_in, file, half, rest, **{"Upload-Checksum": f"sha256 {digest}"})
    assert right.status_code == 204
    assert signed_in.get(address).json()["state"] == "waiting"

    uploads.check(Upload.objects.get().pk)
    found = signed_in.get(address).json()
    assert (found["state"], found["done"], found["total"]) == ("checked", 1, 1)
    assert found["report"]["findings"][0]["code"] == "dicom_identity"
    assert "Doe" not in json.dumps(found)
    refused = signed_in.post(f"{address}keep/", "{}", JSON)
    assert (refused.status_code, refused.json()["code"]) == (409, "upload_conflict")
    kept = signed_in.post(f"{address}keep/", '{"accept": true}', JSON)
    assert (kept.status_code, kept.json()["expires_at"]) == (200, None)
    said = signed_in.patch(address, '{"description": "name: ["}', JSON).json()
    assert said["description_problems"]
    assert signed_in.delete(address).status_code == 204
    assert signed_in.get(address).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Upload-Offset": "-1"}, 400), ({"Upload-Offset": "x"}, 400), ({}, 400),
     ({"Upload-Offset": "0", "Upload-Checksum": "md5 AAAA"}, 400)],
)  # fmt: skip
def test_headers_that_mean_nothing_are_named(signed_in, headers, status):
    file = _begin(signed_in).json()["files"][0]["url"]

    answer = signed_in.patch(file, b"x", STREAM, headers=headers)

    assert answer.status_code == status
    assert answer.json()["errors"][0]["path"] in {"Upload-Offset", "Upload-Checksum"}


def test_more_than_declared_another_type_or_no_such_file(signed_in):
    file = _begin(signed_in, size=2).json()["files"][0]["url"]

    assert _send(signed_in, file, 0, b"abc").status_code == 422
    assert signed_in.patch(file, "{}", JSON, headers={"Upload-Offset": "0"}).status_code == 415
    assert _send(signed_in, file.replace("/0/", "/7/"), 0, b"a").status_code == 404


def test_what_cannot_be_uploaded_is_said_with_its_place(signed_in, settings):
    twice = _begin(signed_in, "first-fundus")
    assert (twice.status_code, twice.json()["errors"][0]["path"]) == (422, "name")
    settings.UPLOAD_BYTES_PER_USER = 10
    full = _begin(signed_in)
    assert (full.status_code, full.json()["code"]) == (507, "storage_quota")
    settings.UPLOAD_BYTES = 0
    assert "takes none" in _begin(signed_in, size=1).json()["detail"]


ROWS = (
    "GET /api/v1/uploads/{id}/",
    "PATCH /api/v1/uploads/{id}/",
    "GET /api/v1/uploads/{id}/files/0/",
    "PATCH /api/v1/uploads/{id}/files/0/",
    "POST /api/v1/uploads/{id}/keep/",
    "DELETE /api/v1/uploads/{id}/",
    "GET /uploads/{id}/",
    "GET /uploads/{id}/description.yaml",
    "POST /uploads/{id}/send/",
    "POST /uploads/{id}/keep/",
    "POST /uploads/{id}/describe/",
    "POST /uploads/{id}/delete/",
)


@pytest.mark.parametrize("row", ROWS)
def test_an_upload_is_its_owners_alone_even_for_staff(signed_in, row):
    upload_id = _begin(signed_in).json()["id"]
    method, address = row.format(id=upload_id).split()
    visitor, other = Client(), Client()
    other.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))

    answers = [who.generic(method, address).status_code for who in (visitor, other)]

    assert answers == [401 if address.startswith("/api/") else 302, 404]
    assert Upload.objects.filter(pk=upload_id).exists()


def test_a_token_uploads_with_the_scope_run(client, ada):
    for scope, status in ((Scope.READ, 403), (Scope.RUN, 201)):
        text = ApiToken.objects.issue(ada, "a test", [scope])[1]
        body = json.dumps({"name": "mine", "files": [{"path": "a.dcm", "bytes": 1}]})
        headers = {"Authorization": f"Bearer {text}"}
        assert client.post("/api/v1/uploads/", body, JSON, headers=headers).status_code == status
    assert client.post("/api/v1/uploads/", "{}", JSON).status_code == 401


def test_the_list_holds_ones_own(signed_in):
    _begin(signed_in)
    Upload.objects.create(
        owner=User.objects.create(username="bob"), name="his", files=[], size_bytes=0
    )

    found = signed_in.get("/api/v1/uploads/").json()

    assert [row["name"] for row in found["results"]] == ["mine"]
