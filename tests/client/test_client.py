"""The Python client and its command line against a running portal."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from imagingx import ChecksumError, Client, ProblemError, load_bundle, load_table
from imagingx.cli import main
from imagingx.transfer import inside
from portal.models import ApiToken, Scope
from tests.conftest import ROOT
from tests.factories import make_bundle, make_dataset, make_run
from workers.models import Run, RunStage

CODE = """
import sys
import imagingx, imagingx.cli
loaded = {name.split(".")[0] for name in sys.modules}
sys.exit(", ".join(sorted(loaded & {"django", "portal", "workers", "fusion", "catalog", "torch",
                                    "pandas", "numpy"})) or 0)
"""


def test_the_client_loads_nothing_of_the_portal():
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_it_finds_shows_and_cites(portal):
    found = portal.search("fundus", licence=["CC-BY-4.0"])

    assert [hit["slug"] for hit in found["results"]] == ["first-fundus"]
    assert [hit["slug"] for hit in found["near"]] == ["second-fundus"]
    assert {hit["slug"] for hit in portal.search_all(limit=1)} == {
        "first-fundus", "second-fundus", "icbm152-2009a", "mni152-neuromorphometrics",
    }  # fmt: skip
    assert portal.dataset("first-fundus")["licence"] == "CC-BY-4.0"
    assert "First Fundus" in portal.citation("first-fundus")
    assert portal.acquisition("first-fundus", mbit=100)["seconds"] is None
    assert portal.compare("first-fundus", "second-fundus")["fields"]
    assert portal.blueprint("first-fundus", "second-fundus")["rules"]


def test_what_the_portal_refuses_is_an_error_with_code_and_reasons(portal):
    with pytest.raises(ProblemError, match="Segmentation") as refused:
        portal.search(task="Segmentatoin")

    assert (refused.value.status, refused.value.code) == (400, "query_invalid")
    assert refused.value.errors[0]["path"] == "task"


def test_a_run_is_started_with_a_token_and_followed_to_its_end(live_server, portal):
    ada = User.objects.create(username="ada")
    _, text = ApiToken.objects.issue(ada, "test", [Scope.READ, Scope.RUN])
    with Client(live_server.url, text) as hers:
        started = hers.start("brain-tissue", key="k1")
        assert hers.start("brain-tissue", key="k1")["id"] == started["id"]
        seen = []
        for run in hers.follow(started["id"], every_s=0.05):
            seen.append(run["state"])
            row = Run.objects.filter(pk=started["id"])
            if run["state"] == "queued":
                row.update(state="running")
                RunStage.objects.filter(run=started["id"], position=0).update(state="done")
            else:
                row.update(state="succeeded")
    assert seen == ["queued", "running", "succeeded"]
    assert started["owner"] == "ada"
    with pytest.raises(ProblemError, match="404"):
        portal.run(started["id"])


@pytest.mark.usefixtures("datasets")
def test_terms_are_accepted_with_the_digest_of_the_plan(live_server):
    link = {"url": "https://zenodo.org/records/7", "kind": "official", "source": "curation"}
    make_dataset("signed", links=[link | {"issue": None}], access="registration")
    _, text = ApiToken.objects.issue(User.objects.create(username="ada"), "test", [*Scope])
    with Client(live_server.url, text) as hers:
        plan = hers.acquisition("signed")
        assert plan["accepted_at"] is None
        with pytest.raises(ProblemError, match="409"):
            hers.accept_terms("signed", "0" * 64)
        assert hers.accept_terms("signed", plan["accept_digest"])["accepted_at"]
        assert hers.acquisition("signed")["accepted_at"]


def test_a_download_is_checked_and_goes_on_where_it_was_interrupted(portal, tmp_path):
    data = bytes(range(256)) * 9000
    bundle = make_bundle({"README.md": b"# hello\n", "shards/train-000000.tar": data})
    shard = tmp_path / "shards" / "train-000000.tar"
    shard.parent.mkdir()
    Path(f"{shard}.part").write_bytes(data[:100_000])
    told = []

    portal.download(bundle.pk, tmp_path, lambda done, size: told.append((done, size)))

    assert shard.read_bytes() == data
    assert (tmp_path / "SHA256SUMS").is_file()
    assert told[-1][0] == told[-1][1] > len(data)
    first = next(done for done, _ in told if done > 8)
    assert first > 100_000  # only the rest was fetched
    changed = shard.stat().st_mtime_ns
    portal.download(bundle.pk, tmp_path)
    assert shard.stat().st_mtime_ns == changed  # what is right is not fetched again


def test_a_spoilt_part_is_fetched_anew_and_wrong_bytes_are_refused(portal, tmp_path):
    data = b"x" * 50_000
    bundle = make_bundle({"a.bin": data})
    (tmp_path / "a.bin.part").write_bytes(b"y" * 10_000)
    (tmp_path / "b.bin.part").write_bytes(b"z" * 90_000)  # longer than the file

    portal.download(bundle.pk, tmp_path)

    assert (tmp_path / "a.bin").read_bytes() == data
    bundle.files = [{"path": "a.bin", "bytes": 50_000, "sha256": hashlib.sha256(b"").hexdigest()}]
    bundle.save()
    with pytest.raises(ChecksumError, match=r"a\.bin: found SHA-256"):
        portal.download(bundle.pk, tmp_path / "other")
    assert not (tmp_path / "other" / "a.bin").exists()


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "c:/x", "a\\..\\x"])
def test_no_portal_writes_outside_the_folder(path):
    with pytest.raises(ChecksumError, match="outside"):
        inside(path)


def test_a_whole_bundle_as_tar_goes_on_too(portal, tmp_path):
    tmp_path = tmp_path / "here"
    tmp_path.mkdir()
    bundle = make_bundle()
    whole = portal.download_view(bundle.pk, "", tmp_path / "whole.tar").read_bytes()
    etag = portal._answer("HEAD", f"bundles/{bundle.pk}/download/").headers["ETag"]
    (tmp_path / "again.tar.part").write_bytes(whole[:3000])
    (tmp_path / "again.tar.part.etag").write_text(etag)

    portal.download_view(bundle.pk, "", tmp_path / "again.tar")

    assert (tmp_path / "again.tar").read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.tar", "whole.tar"]


def test_a_downloaded_bundle_is_a_table_and_a_reader(tmp_path):
    case = {"id": "a-1", "source": "a", "split": "train", "shape": [2, 3], "annotated": ["Liver"],
            "files": [{"role": "image", "bytes": 7}], "classes": {"Liver": 1}}  # fmt: skip
    manifest = {"cases": [case, case | {"id": "a-2", "classes": None, "split": "test"}]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))

    table = load_table(tmp_path)

    assert list(table["id"]) == ["a-1", "a-2"]
    assert table.loc[0, "class:Liver"] == 1
    assert table["class:Liver"].isna().tolist() == [False, True]
    assert [one["id"] for one in load_bundle(tmp_path).cases("train")] == ["a-1"]


def command(portal: Client, capsys, *words: str) -> tuple[int, str, str]:
    status = main(["--url", portal.url, *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_line_finds_shows_downloads_and_refuses(portal, capsys, tmp_path):
    bundle = make_bundle()
    make_run(bundle=bundle, state="succeeded")

    assert "first-fundus" in command(portal, capsys, "search", "fundus")[1]
    status, text, _ = command(portal, capsys, "--json", "show", "first-fundus")
    assert (status, json.loads(text)["year"]) == (0, 2011)
    assert "CC-BY-4.0" in command(portal, capsys, "show", "first-fundus")[1]
    assert "@" in command(portal, capsys, "show", "first-fundus", "--cite", "bibtex")[1]
    assert "licence" in command(portal, capsys, "compare", "first-fundus", "second-fundus")[1]
    status, text, _ = command(portal, capsys, "blueprint", "first-fundus", "second-fundus")
    assert (status, json.loads(text)["rules"] != []) == (0, True)
    words = ("download", bundle.pk, "--out", str(tmp_path / "b"))
    assert command(portal, capsys, *words)[0] == 0
    assert (tmp_path / "b" / "README.md").is_file()
    assert "succeeded" in command(portal, capsys, "--json", "runs")[1]
    status, _, told = command(portal, capsys, "show", "nope")
    assert (status, "404" in told) == (1, True)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("title: [")
    assert command(portal, capsys, "fuse", str(recipe))[0] == 1
    assert main(["--url", "http://127.0.0.1:9", "runs"]) == 3


def test_a_fusion_is_started_followed_and_told_by_its_status(portal, capsys):
    status, text, _ = command(portal, capsys, "fuse", "brain-tissue")
    run_id = text.split()[1]
    assert (status, text.split()[2]) == (0, "queued")
    assert command(portal, capsys, "cancel", run_id)[1].split()[2] == "cancelled"

    status, _, told = command(portal, capsys, "follow", run_id)

    assert (status, "cancelled" in told) == (1, True)


def test_a_fusion_without_server_says_what_it_needs(capsys):
    assert main(["fuse", "brain-tissue", "--local"]) == 1
    assert "--out" in capsys.readouterr().err
