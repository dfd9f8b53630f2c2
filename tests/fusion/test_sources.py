"""Sources from the Hugging Face Hub: its own client against a server that speaks its protocol."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest

from fusion.errors import BuildError
from fusion.locations import place_of
from fusion.sources import acquire, listing
from fusion.sources.download import measured_speed
from fusion.sources.huggingface import whoami
from fusion.sources.safety import FetchRules
from tests.fusion.servers import COMMIT, HubHandler, Site, hub, serving

BIG = bytes(range(256)) * 5000
CONTENT = {"images/1.png": b"one", "images/2.png": b"two", "images/big.nii": BIG, "README.md": b""}
NETWORKS = ("127.0.0.0/8",)
RESOLVE = f"/datasets/some/set/resolve/{COMMIT}"


@pytest.fixture
def site(monkeypatch, tmp_path):
    made = Site()
    hub(made, CONTENT, large=("images/big.nii",))
    with serving(made, HubHandler) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield made


def ask(cache: Path, *places, show=False, largest: int = 10**9) -> list:
    """For each place its folder, its listing, or code and text of the error."""
    rules, done = FetchRules(networks=NETWORKS, largest_bytes=largest), []
    for more in places:
        place = place_of({"kind": "huggingface", "revision": COMMIT, **more})
        try:
            if show:
                done.append(listing(place, rules))
            else:
                done.append(acquire(place, data_root=cache, cache=cache, rules=rules))
        except BuildError as error:
            done.append((error.code, str(error)))
    return done


IMAGES = {"repo_id": "some/set", "allow_patterns": ["images/*"]}


def test_only_the_wanted_files_of_the_pinned_commit_are_fetched_and_only_once(site, tmp_path):
    first, again = ask(tmp_path, IMAGES, IMAGES)

    assert first == again
    found = {p.relative_to(first).as_posix() for p in first.rglob("*") if p.is_file()}
    assert found == {"images/1.png", "images/2.png", "images/big.nii"}
    assert (first / "images" / "big.nii").read_bytes() == BIG
    assert all(len(site.gets(f"{RESOLVE}/{name}")) == 1 for name in found)
    assert site.gets(f"{RESOLVE}/README.md") == []


def test_a_listing_states_size_hash_and_licence_and_fetches_nothing(site, tmp_path):
    info = site.answers[f"/api/datasets/some/set/revision/{COMMIT}"]
    info.update(cardData={"license": "cc-by-4.0"}, gated="manual")

    (found,) = ask(tmp_path, IMAGES, show=True)

    files = {one.path: one for one in found.files}
    assert files["images/big.nii"].bytes == len(BIG)
    assert files["images/big.nii"].sha256 == hashlib.sha256(BIG).hexdigest()
    assert (found.licence, found.access, found.credential) == (
        "cc-by-4.0", "terms", "HF_TOKEN",
    )  # fmt: skip
    assert found.terms_url.endswith("/datasets/some/set")
    assert not any("/resolve/" in path for _, path, _ in site.asked)


def test_what_the_hub_refuses_is_said_in_words(site, tmp_path):
    site.faults["/api/datasets/gated/set/revision/" + COMMIT] = [
        (401, {"X-Error-Code": "GatedRepo"})
    ]
    gated, missing, commit = ask(
        tmp_path,
        {"repo_id": "gated/set"},
        {"repo_id": "no/set"},
        {"repo_id": "some/set", "revision": "b" * 40},
    )

    assert gated[0] == "access_denied"
    assert "set HF_TOKEN" in gated[1]
    assert "huggingface.co/datasets/gated/set" in gated[1]
    assert missing[0] == "source_failed"
    assert "no such repository" in missing[1]
    assert commit[0] == "source_failed"
    assert "no such commit" in commit[1]


def test_an_account_without_access_is_told_from_a_refused_token_and_the_token_is_written_nowhere(
    site, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.DEBUG)
    token = "hf_canary0123456789"
    monkeypatch.setenv("HF_TOKEN", token)
    site.faults["/api/datasets/gated/set/revision/" + COMMIT] = [
        (403, {"X-Error-Code": "GatedRepo"})
    ]
    site.faults["/api/datasets/mine/set/revision/" + COMMIT] = [(401, {})]
    site.faults["/api/whoami-v2"] = [(401, {})]

    gated, refused, folder = ask(
        tmp_path, {"repo_id": "gated/set"}, {"repo_id": "mine/set"}, IMAGES
    )
    with pytest.raises(BuildError, match="is refused") as who:
        whoami(FetchRules())

    assert gated[0] == refused[0] == who.value.code == "access_denied"
    assert "has no access yet" in gated[1]
    assert "is refused" in refused[1]
    assert any(sent.get("authorization") == f"Bearer {token}" for _, _, sent in site.asked)
    assert token not in caplog.text + str(gated) + str(refused) + str(who.value)
    written = [one for one in tmp_path.rglob("*") if one.is_file()]
    assert folder.is_dir()
    assert not any(token.encode() in one.read_bytes() for one in written)


def test_terms_that_are_not_accepted_are_said_before_a_file_is_asked_for(site, tmp_path):
    site.answers[f"/api/datasets/some/set/revision/{COMMIT}"]["gated"] = "manual"
    site.faults["/api/datasets/some/set/auth-check"] = [(403, {"X-Error-Code": "GatedRepo"})]

    refused, folder = ask(tmp_path, IMAGES, IMAGES)

    assert refused[0] == "access_denied"
    assert "huggingface.co/datasets/some/set" in refused[1]
    assert (folder / "images" / "1.png").read_bytes() == b"one"  # granted by now


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_file_that_is_refused_says_why_and_shows_no_token(site, tmp_path, monkeypatch, status):
    monkeypatch.setenv("HF_TOKEN", "hf_canary0123456789")
    site.faults[f"{RESOLVE}/images/big.nii"] = [(status, {})]

    (refused,) = ask(tmp_path, IMAGES)

    assert refused[0] == ("source_failed" if status == 404 else "access_denied")
    assert f"answered {status}" in refused[1]
    assert "hf_canary" not in refused[1]


def test_a_store_that_large_files_are_sent_to_gets_no_token(site, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_canary0123456789")
    elsewhere = Site(files={"/store/big": BIG})
    with serving(elsewhere) as url:
        site.redirects[f"{RESOLVE}/images/big.nii"] = f"{url}/store/big?signed=1"
        (folder,) = ask(tmp_path, IMAGES)

    assert (folder / "images" / "big.nii").read_bytes() == BIG
    assert [one.get("authorization") for one in elsewhere.gets("/store/big")] == [None]
    sent = site.gets(f"{RESOLVE}/images/big.nii")[0]
    assert sent["authorization"] == "Bearer hf_canary0123456789"


def test_a_cancelled_fetch_goes_on_where_it_was_and_a_known_commit_is_not_asked_for(site, tmp_path):
    place = place_of({"kind": "huggingface", "revision": COMMIT, **IMAGES})
    rules = FetchRules(networks=NETWORKS)

    def cancelled() -> None:
        if any(p.stat().st_size > 1 << 16 for p in (tmp_path / "partial").glob("*")):
            raise KeyboardInterrupt

    site.slow = 0.2
    with pytest.raises(KeyboardInterrupt):
        acquire(place, data_root=tmp_path, cache=tmp_path, rules=rules, check=cancelled)
    site.slow, asked = 0.0, len(site.asked)
    folder = acquire(place, data_root=tmp_path, cache=tmp_path, rules=rules)

    later = [path for _, path, _ in site.asked[asked:]]
    assert later == [f"{RESOLVE}/images/big.nii"]
    start = site.gets(later[0])[1]["range"].removeprefix("bytes=").removesuffix("-")
    assert int(start) > 1 << 16
    assert (folder / "images" / "big.nii").read_bytes() == BIG


def test_the_operators_limits_hold_for_the_hub_too(site, tmp_path):
    place = place_of({"kind": "huggingface", "revision": COMMIT, **IMAGES})
    rules = FetchRules(networks=NETWORKS, hosts={"127.0.0.1": (1, 2e6)})
    site.slow = 0.01

    with pytest.raises(BuildError) as inner:
        acquire(place, data_root=tmp_path, cache=tmp_path / "other", rules=FetchRules())
    folder = acquire(place, data_root=tmp_path, cache=tmp_path, rules=rules)

    assert inner.value.code == "url_refused"
    assert (folder / "images" / "big.nii").read_bytes() == BIG
    assert site.busiest == 1
    assert 0 < measured_speed(tmp_path, "127.0.0.1") < 4e6


def test_a_busy_or_failing_hub_is_asked_again(site, tmp_path):
    revision = f"/api/datasets/some/set/revision/{COMMIT}"
    site.faults[revision] = [(429, {"Retry-After": "1"})]
    site.faults[f"{RESOLVE}/images/1.png"] = [(429, {"Retry-After": "1"})]
    site.faults[f"{RESOLVE}/images/2.png"] = [(503, {})]

    (folder,) = ask(tmp_path, IMAGES)

    assert (folder / "images" / "2.png").read_bytes() == b"two"
    assert len(site.gets(f"{RESOLVE}/images/1.png")) == 2


def test_a_body_that_ends_too_early_goes_on_where_it_broke(site, tmp_path):
    site.faults[f"{RESOLVE}/images/big.nii"] = [500_000]

    (folder,) = ask(tmp_path, IMAGES)

    assert (folder / "images" / "big.nii").read_bytes() == BIG
    ranges = [one.get("range") for one in site.gets(f"{RESOLVE}/images/big.nii")]
    assert ranges == [None, "bytes=500000-"]


@pytest.mark.parametrize("name", ["images/big.nii", "images/1.png"])
def test_a_file_that_is_not_what_the_hub_states_is_refused_with_both_hashes(site, tmp_path, name):
    good = site.files[f"{RESOLVE}/{name}"]
    site.files[f"{RESOLVE}/{name}"] = bytes(len(good))

    (refused,) = ask(tmp_path, IMAGES)
    site.files[f"{RESOLVE}/{name}"] = good
    (folder,) = ask(tmp_path, IMAGES)

    assert refused[0] == "upstream_changed"
    assert "found" in refused[1]
    assert "expected" in refused[1]
    assert (folder / name).read_bytes() == good


def test_a_file_above_the_limit_is_refused_before_it_is_fetched(site, tmp_path):
    (refused,) = ask(tmp_path, IMAGES, largest=1000)

    assert refused[0] == "download_too_large"
    assert not any("/resolve/" in path for _, path, _ in site.asked)
