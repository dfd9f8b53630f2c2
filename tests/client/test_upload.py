"""Own data by the client: a folder, gone on with, and another folder of the same name."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from fusion.models import Upload
from imagingx import Client
from imagingx.cli import main
from imagingx.transfer import ChecksumError
from portal.models import ApiToken, Scope
from tests.uploads import fundus
from workers import uploads

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def signed_in(live_server, monkeypatch):
    scopes = [Scope.READ, Scope.RUN]
    token = ApiToken.objects.issue(User.objects.create(username="ada"), "a test", scopes)[1]
    monkeypatch.setenv("IMAGINGX_URL", live_server.url)
    monkeypatch.setenv("IMAGINGX_TOKEN", token)
    with Client() as client:
        yield client


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "My Eyes.v2"
    for path, content in {**fundus(2), ".hidden/x": b"x"}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def test_a_folder_is_sent_under_its_name_and_what_is_there_is_not_sent_again(signed_in, folder):
    told: list[tuple[int, int]] = []

    first = signed_in.upload(folder, progress=lambda *one: told.append(one))
    again = signed_in.upload(folder)

    size = sum(len(content) for content in fundus(2).values())
    assert (first["name"], first["state"]) == ("my-eyes", "waiting")
    assert [file["path"] for file in first["files"]] == sorted(fundus(2))
    assert told[-1] == (size, size)
    assert again["id"] == first["id"]
    (folder / "images/p0.png").write_bytes(b"other")
    with pytest.raises(ChecksumError, match="other files"):
        signed_in.upload(folder)


def test_half_a_file_is_gone_on_with(signed_in, folder):
    file = folder / "images/p0.png"
    whole = file.read_bytes()
    signed_in.upload(file, "half")  # tells what a complete one looks like
    upload = Upload.objects.get()
    (upload.folder / "parts/0").write_bytes(whole[:100])
    Upload.objects.update(state=Upload.State.RECEIVING)

    found = signed_in.upload(file, "half")

    assert found["state"] == "waiting"
    assert (upload.folder / "parts/0").read_bytes() == whole


def test_the_command_keeps_what_was_checked(signed_in, folder, capsys):
    upload = signed_in.upload(folder)
    uploads.check(Upload.objects.get().pk)

    assert main(["upload", str(folder), "--keep"]) == 0
    assert "my-eyes" in capsys.readouterr().out
    assert Upload.objects.get().state == Upload.State.KEPT
    assert main(["uploads"]) == 0
    assert main(["uploads", "--delete", upload["id"]]) == 0
    assert not Upload.objects.exists()
