"""Sources from the Hugging Face Hub: its own client against a server that speaks its protocol."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest

from fusion.errors import BuildError
from fusion.recipe import place_of
from fusion.sources import acquire, listing
from fusion.sources.huggingface import whoami
from fusion.sources.safety import FetchRules
from tests.fusion.servers import COMMIT, HubHandler, Site, hub, serving

BIG = bytes(range(256)) * 4000
CONTENT = {"images/1.png": b"one", "images/2.png": b"two", "images/big.nii": BIG, "README.md": b""}
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
    rules, done = FetchRules(largest_bytes=largest), []
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
    assert len(site.gets(f"{RESOLVE}/images/big.nii")) == 2


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
