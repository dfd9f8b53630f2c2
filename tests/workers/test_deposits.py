"""Bundles sent to the Hub, Zenodo and S3: shareable ones alone, said first, and no file twice."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from datetime import timedelta

import boto3
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils.timezone import now

from tests.factories import FILES, make_bundle, make_run
from tests.fusion.conftest import object_server, store
from tests.fusion.servers import HubHandler, S3Handler, Site, ZenodoHandler, serving
from workers.credentials import keep
from workers.deposits import (
    DepositError,
    dry_run,
    requeue_deposits,
    submit_deposit,
    work_on_deposit,
)
from workers.models import Deposit

__all__ = ["object_server", "store"]
pytestmark = pytest.mark.django_db
TOKEN = "canary_token_91c2"
SHARD = "shards/train-000000.tar"


@pytest.fixture(autouse=True)
def own_state(settings, tmp_path):
    settings.WORK_DIR = tmp_path / "work"
    settings.FETCH_NETWORKS = ["127.0.0.0/8"]
    backend = "django.core.files.storage.FileSystemStorage"
    bundles = {"BACKEND": backend, "OPTIONS": {"location": tmp_path / "bundles"}}
    settings.STORAGES = {**settings.STORAGES, "bundles": bundles}


@pytest.fixture
def ann() -> User:
    return User.objects.create(username="ann")


@pytest.fixture
def bundle():
    return make_bundle(build="shareable")


@pytest.fixture
def hub(monkeypatch):
    site = Site(needs={"write": TOKEN})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("fusion.deposits.huggingface.SMALL_BYTES", 1000)
    with serving(site, HubHandler) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield site


@pytest.fixture
def zenodo(settings):
    site = Site(needs={"write": TOKEN})
    with serving(site, ZenodoHandler) as url:
        settings.ZENODO_URL = url
        yield site


def sent(bundle, owner, place: str, target: str = "", **more) -> Deposit:
    row = submit_deposit(bundle, owner, place, target, **more)
    work_on_deposit(row.pk)
    row.refresh_from_db()
    return row


def puts(site: Site) -> list[str]:
    return [path for method, path, _ in site.asked if method == "PUT" and "depositions" not in path]


@pytest.mark.parametrize(
    ("place", "target", "files"),
    [("huggingface", "ann/two-sources", 4), ("zenodo", "", 2), ("s3", "bucket-of-ann/v1", 4)],
)
def test_a_dry_run_says_what_would_be_sent_and_asks_nobody(ann, bundle, place, target, files):
    found = dry_run(bundle, ann, place, target)

    assert found["files"] == files
    assert found["bytes"] > sum(map(len, FILES.values()))
    assert found["licences"]
    assert found["has_credential"] is False
    with pytest.raises(DepositError, match=f"Give {found['credential']}"):
        submit_deposit(bundle, ann, place, target)


def test_a_private_build_is_refused_with_the_reasons(ann):
    bundle = make_bundle(build="private")
    keep(ann, "HF_TOKEN", TOKEN)

    with pytest.raises(DepositError) as caught:
        submit_deposit(bundle, ann, "huggingface", "ann/two")
    with pytest.raises(CommandError, match="private build"):
        call_command("deposit_bundle", bundle.pk, "s3", "bucket-of-ann")

    assert "private build" in caught.value.reasons[0]
    assert not Deposit.objects.exists()


@pytest.mark.parametrize(
    ("place", "target"),
    [("huggingface", "no-slash"), ("zenodo", "x"), ("s3", "Bad Bucket"), ("ftp", "x")],
)
def test_a_target_that_cannot_be_is_said(ann, bundle, place, target):
    with pytest.raises(DepositError, match="found"):
        dry_run(bundle, ann, place, target)


def test_the_hub_gets_every_file_and_the_card_and_large_ones_once(ann, bundle, hub, caplog):
    keep(ann, "HF_TOKEN", TOKEN)
    commit = "/api/datasets/ann/two-sources/commit/main"
    hub.faults[commit] = [(400, {})]

    failed = sent(bundle, ann, "huggingface", "ann/two-sources")
    done = sent(bundle, ann, "huggingface", "ann/two-sources")

    assert (failed.pk, done.state) == (done.pk, "succeeded")
    assert done.url.endswith("/datasets/ann/two-sources")
    assert {path: hub.stored[path] for path in FILES} == FILES
    assert "SHA256SUMS" in hub.stored
    assert len([path for path in puts(hub) if path.startswith("/lfs/")]) == 1
    assert hub.answers["created"]["visibility"] == "private"
    assert TOKEN not in caplog.text + json.dumps(list(Deposit.objects.values()), default=str)


@pytest.mark.usefixtures("hub")
def test_an_account_without_the_right_to_write_is_told(ann, bundle):
    keep(ann, "HF_TOKEN", "another-token")

    row = sent(bundle, ann, "huggingface", "ann/two-sources")

    assert (row.state, row.error_code) == ("failed", "access_denied")
    assert "may not write to ann/two-sources" in row.error
    assert "another-token" not in row.error


def test_zenodo_gets_a_draft_with_a_doi_which_a_second_try_goes_on_with(ann, bundle, zenodo):
    keep(ann, "ZENODO_TOKEN", TOKEN)
    tar = f"{bundle.pk[:12]}.tar"
    zenodo.faults[f"/api/files/1/{tar}"] = [(503, {"Retry-After": "0"}), (400, {})]

    failed = sent(bundle, ann, "zenodo")
    done = sent(bundle, ann, "zenodo")

    assert (failed.remote, done.remote, len(zenodo.answers)) == ("1", "1", 1)
    assert (done.state, done.doi) == ("succeeded", "10.5281/zenodo.1")
    assert puts(zenodo).count("/api/files/1/README.md") == 1
    with tarfile.open(fileobj=io.BytesIO(zenodo.stored[tar])) as opened:
        member = opened.extractfile(f"{bundle.pk[:12]}/{SHARD}")
        assert member.read() == FILES[SHARD]
    metadata = zenodo.answers["1"]["metadata"]
    assert metadata["title"] == bundle.title
    assert metadata["creators"] == [{"name": "ann"}]
    assert zenodo.answers["1"]["submitted"] is False


def test_a_draft_whose_number_was_lost_is_found_by_the_bundle_that_it_names(ann, bundle, zenodo):
    keep(ann, "ZENODO_TOKEN", TOKEN)
    zenodo.faults[f"/api/files/1/{bundle.pk[:12]}.tar"] = [(400, {})]

    sent(bundle, ann, "zenodo")
    Deposit.objects.update(remote="")
    done = sent(bundle, ann, "zenodo")

    assert (done.state, done.remote, len(zenodo.answers)) == ("succeeded", "1", 1)


def test_a_lost_message_is_sent_again_and_a_deposit_that_ends_its_workers_is_given_up(
    ann, bundle, messages, settings
):
    keep(ann, "HF_TOKEN", TOKEN)
    row = submit_deposit(bundle, ann, "huggingface", "ann/two-sources")
    mine, long_ago = Deposit.objects.filter(pk=row.pk), now() - timedelta(hours=1)

    assert requeue_deposits() == 0  # the first message may be on its way
    mine.update(enqueued_at=long_ago)
    assert [requeue_deposits(), requeue_deposits()] == [1, 0]
    lost = {"state": "running", "lease_until": long_ago, "enqueued_at": long_ago}
    mine.update(**lost, attempts=settings.RUN_MAX_ATTEMPTS)
    assert requeue_deposits() == 1
    work_on_deposit(row.pk)
    row.refresh_from_db()

    assert [arguments for _, arguments in messages()] == [[str(row.pk)]] * 2
    assert (row.state, row.error_code) == ("failed", "too_many_attempts")
    assert submit_deposit(bundle, ann, "huggingface", "ann/two-sources").pk == row.pk
    assert mine.get().attempts == 0


def test_s3_gets_each_file_once(ann, bundle, store, settings):
    settings.S3_URL = store
    client = boto3.client(
        "s3", endpoint_url=store, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    keep(ann, "S3_KEYS", "test:test")

    missing = sent(bundle, ann, "s3", "bucket-for-deposits/v1")
    client.create_bucket(Bucket="bucket-for-deposits")
    done = sent(bundle, ann, "s3", "bucket-for-deposits/v1")
    key = f"v1/{bundle.pk[:12]}/{SHARD}"
    first = client.head_object(Bucket="bucket-for-deposits", Key=key)
    client.delete_object(Bucket="bucket-for-deposits", Key=key.replace(SHARD, "README.md"))
    Deposit.objects.update(state="failed")
    sent(bundle, ann, "s3", "bucket-for-deposits/v1")

    assert (missing.state, missing.error_code) == ("failed", "source_failed")
    assert (done.state, done.url) == ("succeeded", f"s3://bucket-for-deposits/v1/{bundle.pk[:12]}")
    again = client.head_object(Bucket="bucket-for-deposits", Key=key)
    assert again["LastModified"] == first["LastModified"]
    body = client.get_object(Bucket="bucket-for-deposits", Key=key)["Body"].read()
    assert body == FILES[SHARD]
    client.head_object(Bucket="bucket-for-deposits", Key=key.replace(SHARD, "README.md"))


def test_two_workers_do_not_send_it_twice(ann, bundle):
    keep(ann, "HF_TOKEN", TOKEN)
    row = submit_deposit(bundle, ann, "huggingface", "ann/two-sources")

    first, second = Deposit.objects.claim(row.pk), Deposit.objects.claim(row.pk)

    assert first is not None
    assert second is None


def test_page_and_api_say_first_and_send_then(client, ann, bundle):
    make_run(owner=ann, bundle=bundle)
    client.force_login(ann)
    page, api = f"/bundles/{bundle.pk}/deposit/", f"/api/v1/bundles/{bundle.pk}/deposits/"
    asked = {"place": "huggingface", "target": "ann/two-sources"}

    before = client.get(page, asked).content.decode()
    dry = client.post(api, asked, content_type="application/json")
    early = client.post(api, asked | {"dry_run": False}, content_type="application/json")
    keep(ann, "HF_TOKEN", TOKEN)
    ready = client.get(page, asked).content.decode()
    started = client.post(api, asked | {"dry_run": False}, content_type="application/json")
    posted = client.post(page, asked)
    listed = client.get(api).json()["results"]

    assert "Give HF_TOKEN first" in before
    assert (dry.status_code, dry.json()["files"]) == (200, 4)
    assert (early.status_code, early.json()["code"]) == (409, "deposit_refused")
    assert "Send it" in ready
    assert (started.status_code, posted.status_code) == (202, 302)
    assert [row["state"] for row in listed] == ["queued"]
    assert f"/bundles/{bundle.pk}/deposit/" in client.get(f"/bundles/{bundle.pk}/").content.decode()


def test_others_may_not_send_it(client, bundle):
    client.force_login(User.objects.create(username="ben"))

    assert client.get(f"/bundles/{bundle.pk}/deposit/").status_code == 403
    assert client.get(f"/api/v1/bundles/{bundle.pk}/deposits/").status_code == 403


PREPARE = """
from django.contrib.auth.models import User
from tests.factories import FILES, make_bundle
from workers.credentials import keep
from workers.deposits import submit_deposit
files = {{f"shards/train-00000{{n}}.tar": bytes([120 * n]) * {size} for n in (0, 1)}}
owner = User.objects.create(username="ann")
keep(owner, "{credential}", "{token}")
bundle = make_bundle(FILES | files, build="shareable")
submit_deposit(bundle, owner, "{place}", "{target}")
"""
LAST = "shards/train-000001.tar"
#: Place -> server, what tells its address, credential, target, bytes of a large file.
KILLED = {
    "huggingface": (HubHandler, "HF_ENDPOINT", "HF_TOKEN", "ann/two-sources", 11_000_000),
    "zenodo": (ZenodoHandler, "IMAGINGX_ZENODO_URL", "ZENODO_TOKEN", "", 3_000_000),
    "s3": (S3Handler, "IMAGINGX_S3_URL", "S3_KEYS", "bucket-of-ann/v1", 3_000_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("place", KILLED)
def test_what_a_killed_worker_had_sent_is_not_sent_again_and_there_is_one_record(make_site, place):
    handler, variable, credential, target, size = KILLED[place]
    token = "key:secret" if place == "s3" else TOKEN
    server = Site(needs={"write": TOKEN}, slow=0.03)
    last = bytes([120]) * size
    with serving(server, handler) as url:
        site = make_site("site")
        site.extra = {
            variable: url, "HF_HUB_OFFLINE": "0", "IMAGINGX_FETCH_NETWORKS": "127.0.0.0/8",
            "IMAGINGX_RUN_LEASE_SECONDS": "3",
        }  # fmt: skip
        code = PREPARE.format(
            size=size, credential=credential, token=token, place=place, target=target
        )
        site.manage("shell", "-v0", "-c", code)
        worker = site.start_worker()

        def in_the_last_file() -> bool:
            ends, least = (f"/lfs/{hashlib.sha256(last).hexdigest()}", "000001.tar"), 1_000_000
            if place == "zenodo":
                ends, least = (".tar",), size + 1_000_000
            coming = list(server.coming.items())
            return any(path.endswith(ends) and taken > least for path, taken in coming)

        site.wait(in_the_last_file, 200)
        site.kill(worker)
        server.slow = 0.0
        state = "SELECT state, error, bundle_id FROM workers_deposit"
        assert site.one(state)[0] == "running"
        site.start_worker()
        site.wait(lambda: site.one(state)[0] != "running", 200)
        state, error, bundle = site.one(state)
        short = bundle[:12]
        assert state == "succeeded", error + site.logs()

    assert [path for path, times in Counter(puts(server)).items() if times > 1] == []
    if place == "zenodo":
        assert list(server.answers) == ["1"]
        with tarfile.open(fileobj=io.BytesIO(server.stored[f"{short}.tar"])) as opened:
            assert opened.extractfile(f"{short}/{LAST}").read() == last
    elif place == "huggingface":
        assert len([1 for _, path, _ in server.asked if path.endswith("/commit/main")]) == 1
        assert server.stored[LAST] == last
    else:
        assert len(server.stored) == 5
        assert server.stored[f"/{target}/{short}/{LAST}"] == last
