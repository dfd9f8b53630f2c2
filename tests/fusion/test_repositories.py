"""Records of Zenodo and articles of figshare, from servers that answer as theirs do."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

import pytest

from fusion.errors import BuildError
from fusion.locations import place_of
from fusion.sources import acquire, listing
from fusion.sources.safety import FetchRules
from tests.fusion.servers import Site, serving

RULES = FetchRules(networks=("127.0.0.0/8",))
FILES = {"images.bin": os.urandom(5000), "labels.csv": b"name,class\n"}


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def site():
    return Site()


@pytest.fixture
def url(site, settings):
    with serving(site) as address:
        settings.ZENODO_URL = settings.FIGSHARE_URL = address
        yield address


@pytest.fixture
def zenodo(site, url):
    """Record 42 of the records 41: the answer of Zenodo's API, shortened."""
    site.answers["/api/records/42"] = {
        "id": 42,
        "conceptrecid": "41",
        "metadata": {
            "title": "Vessels",
            "version": "1.1",
            "access_right": "open",
            "license": {"id": "cc-by-4.0"},
        },
        "files": [
            {
                "id": f"id-{name}",
                "key": name,
                "size": len(data),
                "checksum": f"md5:{md5(data)}",
                "links": {"self": f"{url}/api/records/42/files/{name}/content"},
            }
            for name, data in FILES.items()
        ],
    }
    site.answers["/api/records/41"] = site.answers["/api/records/42"]
    site.files |= {f"/api/records/42/files/{name}/content": data for name, data in FILES.items()}
    return {"kind": "zenodo", "record": 42}


@pytest.fixture
def figshare(site, url):
    site.answers["/v2/articles/7/versions/2"] = {
        "id": 7,
        "title": "Vessels",
        "version": 2,
        "license": {"value": 1, "name": "CC BY 4.0"},
        "files": [
            {
                "id": n,
                "name": name,
                "size": len(data),
                "is_link_only": False,
                "download_url": f"{url}/files/{n}",
                "computed_md5": md5(data),
            }
            for n, (name, data) in enumerate(FILES.items())
        ],
    }
    site.files |= {f"/files/{n}": data for n, data in enumerate(FILES.values())}
    return {"kind": "figshare", "article": 7, "version": 2}


def get(place, tmp_path):
    return acquire(place_of(place), data_root=tmp_path, cache=tmp_path, rules=RULES)


@pytest.mark.parametrize("name", ["zenodo", "figshare"])
def test_a_listing_has_sizes_checksums_and_licence_and_fetches_nothing(request, site, name):
    found = listing(place_of(request.getfixturevalue(name)), RULES)

    assert {one.path: (one.bytes, one.md5) for one in found.files} == {
        path: (len(data), md5(data)) for path, data in FILES.items()
    }
    assert found.title == "Vessels"
    assert found.licence.casefold().replace(" ", "-") == "cc-by-4.0"
    assert found.known_bytes == sum(map(len, FILES.values()))
    assert len(site.asked) == 1


@pytest.mark.parametrize("name", ["zenodo", "figshare"])
def test_only_the_wanted_files_are_fetched_and_only_once(request, site, tmp_path, name):
    place = {**request.getfixturevalue(name), "allow_patterns": ["*.csv"]}

    folder, again = get(place, tmp_path), get(place, tmp_path)

    assert folder == again
    assert [one.name for one in folder.iterdir()] == ["labels.csv"]
    fetched = [path for _, path, _ in site.asked if path in site.files]
    assert len(fetched) == 1


@pytest.mark.parametrize("name", ["zenodo", "figshare"])
def test_a_file_replaced_on_the_way_names_both_checksums(request, site, tmp_path, name):
    place = request.getfixturevalue(name)
    changed = {path: bytes(len(data)) for path, data in site.files.items()}
    site.files.update(changed)

    with pytest.raises(BuildError) as caught:
        get(place, tmp_path)

    assert caught.value.code == "upstream_changed"
    expected = {md5(data) for data in FILES.values()}
    found = {md5(data) for data in changed.values()}
    assert any(one in str(caught.value) for one in expected)
    assert any(one in str(caught.value) for one in found)


@pytest.mark.parametrize("name", ["zenodo", "figshare"])
def test_patterns_that_take_nothing_are_said(request, tmp_path, name):
    with pytest.raises(BuildError, match=r"no file matches \*\.nii"):
        get({**request.getfixturevalue(name), "allow_patterns": ["*.nii"]}, tmp_path)


def test_the_number_of_all_versions_is_refused_with_the_newest_one(zenodo, tmp_path):
    with pytest.raises(BuildError, match="stands for all versions, the newest is 42"):
        get({**zenodo, "record": 41}, tmp_path)


def test_a_record_with_closed_files_says_where_to_ask(zenodo, site, tmp_path):
    answer = site.answers["/api/records/42"]
    answer["files"], answer["metadata"]["access_right"] = [], "restricted"

    with pytest.raises(BuildError) as caught:
        get(zenodo, tmp_path)

    assert caught.value.code == "access_denied"
    assert "/records/42 for access" in str(caught.value)


def test_a_restricted_record_is_fetched_with_the_token_of_who_has_access(zenodo, site, tmp_path):
    site.answers["/api/records/42"]["metadata"]["access_right"] = "restricted"
    site.needs["/api/records/42/files"] = "zenodo-c4n4ry"
    rules = replace(RULES, credentials={"ZENODO_TOKEN": "zenodo-c4n4ry"}, person="p1")

    with pytest.raises(BuildError, match="set ZENODO_TOKEN") as without:
        get(zenodo, tmp_path)
    folder = acquire(place_of(zenodo), data_root=tmp_path, cache=tmp_path, rules=rules)

    assert without.value.code == "access_denied"
    assert (folder / "images.bin").read_bytes() == FILES["images.bin"]


def test_a_name_that_leads_out_is_refused(zenodo, site, tmp_path):
    site.answers["/api/records/42"]["files"][0]["key"] = "../../evil"

    with pytest.raises(BuildError, match="not understood"):
        get(zenodo, tmp_path)


def test_an_answer_that_is_none_of_the_api_is_said(zenodo, site, tmp_path):
    site.answers["/api/records/42"] = ["busy"]

    with pytest.raises(BuildError, match="not understood"):
        get(zenodo, tmp_path)
