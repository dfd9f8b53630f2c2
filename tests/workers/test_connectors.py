"""A run whose sources are elsewhere, in three ways, on a worker that dies while it fetches."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest

from fusion.sources.idc import release
from tests.fusion.conftest import object_server, store
from tests.fusion.made import brain, member, recipe, write_source
from tests.fusion.servers import COMMIT, HubHandler, hub, serving
from tests.fusion.servers import Site as Server
from tests.workers.conftest import Site
from workers.room import asked_bytes

__all__ = ["object_server", "store"]
CASES = 6


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def recipe_elsewhere(url: str) -> dict[str, Any]:
    """One source of the Hub, one archive over HTTP, one of an object store."""
    places = {
        "a": {"kind": "huggingface", "repo_id": "some/set", "revision": COMMIT},
        "b": {"kind": "http", "files": [{"url": f"{url}/b.zip"}]},
        "c": {"kind": "openneuro", "dataset": "ds000009", "allow_patterns": ["*.nii.gz"]},
    }
    slugs = {"a": "stare", "b": "fives", "c": "hrf"}
    members = [
        {**member(name), "dataset": slugs[name], "location": place}
        for name, place in places.items()
    ]
    return recipe(*members)


@pytest.mark.slow
def test_a_run_killed_in_mid_download_goes_on_and_gives_the_same_bundle(
    make_site: Callable[[str], Site], tmp_path: Path, store: str
):
    for n, name in enumerate("abc"):
        images = {f"{name}{i}": brain(100 * n + i) for i in range(CASES)}
        write_source(tmp_path / "made" / name, images)
    held = {name: files_below(tmp_path / "made" / name) for name in "abc"}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in held["b"].items():
            archive.writestr(name, data)
        archive.writestr("padding.bin", bytes(8 << 20))
    server = Server(files={"/b.zip": packed.getvalue()})
    hub(server, held["a"])
    client = boto3.client(
        "s3", endpoint_url=store, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    client.create_bucket(Bucket="openneuro.org", ACL="public-read")
    for name, data in {**held["c"], "dataset_description.json": b"{}"}.items():
        client.put_object(Bucket="openneuro.org", Key=f"ds000009/{name}", Body=data)

    with serving(server, HubHandler) as url:
        extra = {
            "IMAGINGX_FETCH_NETWORKS": "127.0.0.0/8",
            "IMAGINGX_OPENNEURO_URL": store,
            "HF_ENDPOINT": url,
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": "hf_canary-of-the-run",
            "IMAGINGX_RUN_LEASE_SECONDS": "5",
        }
        undisturbed, killed = make_site("undisturbed"), make_site("killed")
        undisturbed.extra = killed.extra = extra
        first = undisturbed.submit(recipe_elsewhere(url))
        undisturbed.start_worker()
        assert undisturbed.wait_for_end(first, 400) == "succeeded", undisturbed.logs()
        undisturbed.close()
        server.asked.clear()

        server.slow = 0.05
        run = killed.submit(recipe_elsewhere(url))
        worker = killed.start_worker()
        partial = killed.state / "cache" / "partial"
        killed.wait(
            lambda: any(p.stat().st_size > 1 << 20 for p in partial.glob("*") if not p.suffix), 300
        )
        killed.kill(worker)
        server.slow = 0.0
        killed.start_worker()
        assert killed.wait_for_end(run, 400) == "succeeded", killed.logs()

    assert killed.sums() == undisturbed.sums()
    starts = [re.sub(r"\D", "", one.get("range", "")) for one in server.gets("/b.zip")]
    assert starts[0] == ""
    assert int(starts[1]) > 1 << 20
    assert all(
        len(server.gets(f"/datasets/some/set/resolve/{COMMIT}/{name}")) == 1 for name in held["a"]
    )
    for site in (undisturbed, killed):
        for path in site.state.rglob("*"):
            with suppress(FileNotFoundError, IsADirectoryError):  # a worker may still tidy up
                assert b"hf_canary-of-the-run" not in path.read_bytes(), path


def test_room_is_asked_for_the_series_that_are_chosen_and_not_for_their_whole_collection():
    place = {"kind": "idc", "release": release(), "collections": ["4d_lung"], "modalities": ["CT"]}
    sizes = [
        asked_bytes([{"dataset": "4d-lung", "location": place | more}])
        for more in ({}, {"subjects": 1})
    ]

    assert sizes[0][0] == sizes[0][1] > sizes[1][0] == sizes[1][1] > 10**6
