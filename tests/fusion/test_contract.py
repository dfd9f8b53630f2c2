"""What every connector owes, against servers that answer as the places do."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import boto3
import pytest
from django.core.management import call_command

from fusion.errors import BuildError
from fusion.locations import place_of
from fusion.sources import acquire, connector, listing
from fusion.sources.download import PEOPLE, measured_speed, paced
from fusion.sources.safety import FetchRules
from tests.factories import make_dataset
from tests.fusion.servers import Site, serving

FILES = {"images/scan 1.bin": os.urandom(200_000), "labels.csv": b"name,class\n"}
BIG, SMALL = FILES
NETWORKS = ("127.0.0.0/8",)
RULES = FetchRules(networks=NETWORKS)


def digest(kind: str, data: bytes) -> str:
    return hashlib.new(kind, data).hexdigest()


@dataclass
class Case:
    """A place that holds FILES: where each is asked for, how it is checked, and by whom."""

    site: Site
    url: str
    place: dict[str, Any]
    paths: dict[str, str]
    checksum: str = ""
    credential: str = ""
    value: str = ""
    accepted: str = ""  # what a right Authorization header is
    asks: str = ""  # the first path that is asked for a listing
    also: str = ""  # a file that the place holds besides
    calls: dict[str, str] = field(default_factory=dict)

    def rules(self, value: str | None = None) -> FetchRules:
        given = self.value if value is None else value
        own = {self.credential: given} if self.credential and given else {}
        return FetchRules(networks=NETWORKS, credentials=own, person="p1" if own else "")


def kaggle(site: Site, url: str, settings: Any) -> Case:
    settings.KAGGLE_URL = url
    base = "/api/v1/datasets"
    site.answers[f"{base}/view/ann/scans"] = {
        "title": "Scans", "licenseName": "CC BY 4.0", "currentVersionNumber": 3, "isPrivate": False,
    }  # fmt: skip
    names = list(FILES)

    def page(query: dict[str, str], _: Any) -> dict[str, Any]:
        at = int(query.get("pageToken", "0"))
        row = {"ref": names[at], "name": names[at], "totalBytes": len(FILES[names[at]])}
        following = str(at + 1) if at + 1 < len(names) else ""
        return {"datasetFiles": [row], "nextPageToken": following}

    site.answers[f"{base}/list/ann/scans"] = page
    site.answers["/api/v1/hello"] = {"userName": "ann"}
    paths = {name: f"{base}/download-raw/ann/scans/{quote(name, safe='')}" for name in FILES}
    for name, path in paths.items():
        site.files[path] = FILES[name]
        sent = base64.b64encode(hashlib.md5(FILES[name], usedforsecurity=False).digest()).decode()
        site.headers[path] = {"x-goog-hash": f"crc32c=AAAAAA==,md5={sent}"}
    return Case(
        site, url, {"kind": "kaggle", "dataset": "ann/scans", "version": 3}, paths,
        credential="KAGGLE_API_TOKEN", value="KGAT_c4n4ry", accepted="Bearer KGAT_c4n4ry",
        asks=f"{base}/view/ann/scans",
    )  # fmt: skip


def synapse(site: Site, url: str, settings: Any) -> Case:
    settings.SYNAPSE_URL = url
    kind = "org.sagebionetworks.repo.model."
    base = "/repo/v1"
    site.answers |= {
        f"{base}/entity/syn1": {
            "id": "syn1", "name": "Scans", "concreteType": f"{kind}Project",
        },
        f"{base}/restrictionInformation": {
            "restrictionLevel": "OPEN", "hasUnmetAccessRequirement": False,
        },
        f"{base}/userProfile": {"userName": "ann"},
    }  # fmt: skip

    def children(_: Any, body: dict[str, Any]) -> dict[str, Any]:
        rows = {
            ("syn1", None): (["syn2", "images", "Folder"], "more"),
            ("syn1", "more"): (["syn3", "labels.csv", "FileEntity"], None),
            ("syn2", None): (["syn4", "scan 1.bin", "FileEntity"], None),
        }
        (number, name, what), following = rows[body["parentId"], body.get("nextPageToken")]
        row = {"id": number, "name": name, "type": kind + what, "versionNumber": 2}
        return {"page": [row], "nextPageToken": following}

    site.answers[f"{base}/entity/children"] = children
    paths = {}
    for number, name in (("syn4", BIG), ("syn3", SMALL)):
        version = f"{base}/entity/{number}/version/2"
        data = FILES[name]
        handle = {"contentMd5": digest("md5", data), "contentSize": len(data), "isPreview": False}
        site.answers[f"{version}/filehandles"] = {"list": [{"isPreview": True}, handle]}
        site.files[f"{version}/file"] = data
        paths[name] = f"{version}/file"
    return Case(
        site, url, {"kind": "synapse", "entity": "syn1"}, paths, "md5",
        "SYNAPSE_AUTH_TOKEN", "syn_c4n4ry", "Bearer syn_c4n4ry", f"{base}/entity/syn1",
    )  # fmt: skip


def physionet(site: Site, url: str, settings: Any) -> Case:
    settings.PHYSIONET_URL = url
    base = "/files/scans/1.0.0"
    site.answers["/api/v1/projects/scans/versions/1.0.0/"] = {
        "title": "Scans", "license": {"name": "CC BY 4.0"}, "access_policy": "Credentialed",
    }  # fmt: skip
    sums = "".join(f"{digest('sha256', data)} {name}\n" for name, data in FILES.items())
    site.files[f"{base}/SHA256SUMS.txt"] = sums.encode()
    paths = {name: f"{base}/{quote(name)}" for name in FILES}
    site.files |= {path: FILES[name] for name, path in paths.items()}
    accepted = "Basic " + base64.b64encode(b"ann:c4n4ry").decode()
    return Case(
        site, url, {"kind": "physionet", "project": "scans", "version": "1.0.0"}, paths, "sha256",
        "PHYSIONET_LOGIN", "ann:c4n4ry", accepted, f"{base}/SHA256SUMS.txt",
    )  # fmt: skip


def mendeley(site: Site, url: str, settings: Any) -> Case:
    settings.MENDELEY_URL = url
    base = "/public-api/datasets/abcdefghij"
    site.answers[f"{base}/snapshot/2"] = {
        "name": "Scans", "data_licence": {"short_name": "CC BY 4.0"},
    }  # fmt: skip
    site.answers[f"{base}/folders/2"] = [{"id": "f1", "name": "images", "parent_id": None}]
    folders: dict[str, list[Any]] = {"root": [], "f1": []}
    paths = {}
    for name, data in FILES.items():
        folder, _, short = name.rpartition("/")
        paths[name] = f"/public-files/{quote(short)}"
        site.files[paths[name]] = data
        content = {
            "size": len(data), "sha256_hash": digest("sha256", data),
            "download_url": f"{url}{paths[name]}",
        }  # fmt: skip
        row = {"filename": short, "id": short, "content_details": content}
        folders["f1" if folder else "root"].append(row)
    site.answers[f"{base}/files"] = lambda query, _: folders[query["folder_id"]]
    place = {"kind": "mendeley", "dataset": "abcdefghij", "version": 2}
    return Case(site, url, place, paths, "sha256", asks=f"{base}/snapshot/2")


def bucket_page(files: dict[str, bytes], prefix: str) -> bytes:
    """What S3 answers to list-objects-v2."""
    rows = "".join(
        f"<Contents><Key>{prefix}{escape(name)}</Key><Size>{len(data)}</Size>"
        f"<ETag>&quot;{digest('md5', data)}&quot;</ETag></Contents>"
        for name, data in files.items()
    )
    return (
        '<?xml version="1.0"?><ListBucketResult '
        'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
        f"<IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
    ).encode()


def s3(site: Site, url: str, settings: Any) -> Case:
    settings.S3_URL = url
    site.files["/scans"] = bucket_page(FILES, "open/")
    paths = {name: f"/scans/open/{quote(name)}" for name in FILES}
    site.files |= {path: FILES[name] for name, path in paths.items()}
    return Case(
        site, url, {"kind": "s3", "bucket": "scans", "prefix": "open"}, paths, "md5",
        "S3_KEYS", "AKIA:c4n4ry", "", "/scans",
    )  # fmt: skip


def openneuro(site: Site, url: str, settings: Any) -> Case:
    settings.OPENNEURO_URL = url
    about = b'{"Name": "Scans", "DatasetDOI": "10.18112/openneuro.ds000009.v1.0.2"}'
    held = {**FILES, "dataset_description.json": about}
    paths = {name: f"/openneuro.org/ds000009/{quote(name)}" for name in held}
    site.files["/openneuro.org"] = bucket_page(held, "ds000009/")
    site.files |= {path: held[name] for name, path in paths.items()}
    place = {"kind": "openneuro", "dataset": "ds000009", "allow_patterns": ["*"]}
    return Case(
        site, url, place, paths, "md5", asks="/openneuro.org", also="dataset_description.json"
    )


def zenodo(site: Site, url: str, settings: Any) -> Case:
    settings.ZENODO_URL = url
    paths = {name: f"/api/records/42/files/{quote(name)}/content" for name in FILES}
    rows = [
        {
            "key": name, "size": len(data), "checksum": f"md5:{digest('md5', data)}",
            "links": {"self": f"{url}{paths[name]}"},
        }
        for name, data in FILES.items()
    ]  # fmt: skip
    site.answers["/api/records/42"] = {"id": 42, "metadata": {"title": "Scans"}, "files": rows}
    site.files |= {path: FILES[name] for name, path in paths.items()}
    place = {"kind": "zenodo", "record": 42}
    return Case(site, url, place, paths, "md5", asks="/api/records/42")


def figshare(site: Site, url: str, settings: Any) -> Case:
    settings.FIGSHARE_URL = url
    paths = {name: f"/files/{n}" for n, name in enumerate(FILES)}
    rows = [
        {
            "name": name, "size": len(data), "is_link_only": False,
            "computed_md5": digest("md5", data), "download_url": f"{url}{paths[name]}",
        }
        for name, data in FILES.items()
    ]  # fmt: skip
    site.answers["/v2/articles/7/versions/2"] = {"title": "Scans", "version": 2, "files": rows}
    site.files |= {path: FILES[name] for name, path in paths.items()}
    place = {"kind": "figshare", "article": 7, "version": 2}
    return Case(site, url, place, paths, "md5", asks="/v2/articles/7/versions/2")


MAKERS: dict[str, Callable[..., Case]] = {
    one.__name__: one
    for one in (kaggle, synapse, physionet, mendeley, s3, openneuro, zenodo, figshare)
}
BY_TOKEN = ["kaggle", "synapse", "physionet"]


@pytest.fixture
def make(settings, monkeypatch):
    """A running place by its name."""
    open_sites = []

    def made(name: str) -> Case:
        site = Site()
        running = serving(site)
        url = running.__enter__()
        open_sites.append(running)
        case = MAKERS[name](site, url, settings)
        if case.credential:
            monkeypatch.delenv(case.credential, raising=False)
        return case

    yield made
    for running in open_sites:
        running.__exit__(None, None, None)


def get(case: Case, tmp_path, rules: FetchRules | None = None, **more):
    place = place_of({**case.place, **more})
    return acquire(place, data_root=tmp_path, cache=tmp_path, rules=rules or case.rules())


def refused(case: Case, tmp_path, rules: FetchRules | None = None, **more) -> BuildError:
    with pytest.raises(BuildError) as caught:
        get(case, tmp_path, rules, **more)
    return caught.value


@pytest.mark.parametrize("name", MAKERS)
def test_a_listing_tells_files_sizes_and_checksums_and_fetches_none(make, name):
    case = make(name)

    found = listing(place_of(case.place), case.rules())

    by_path = {one.path: one for one in found.files if one.path != case.also}
    assert set(by_path) == set(FILES)
    for path, one in by_path.items():
        assert one.bytes in {None, len(FILES[path])}
        if case.checksum:
            assert getattr(one, case.checksum) == digest(case.checksum, FILES[path])
    assert found.credential == case.credential
    assert not any(case.site.gets(case.paths[name]) for name in FILES)


#: Place -> its setting, where it is searched, its answer, and the location and licence of the hit.
SEARCHES = {
    "huggingface": (
        "HF_ENDPOINT", "/api/datasets", [{"id": "ann/scans", "tags": ["license:mit"]}],
        {"kind": "huggingface", "repo_id": "ann/scans"}, "mit",
    ),
    "zenodo": (
        "ZENODO_URL", "/api/records",
        {"hits": {"hits": [{"id": 42, "metadata": {"title": "S", "license": {"id": "cc0-1.0"}}}]}},
        {"kind": "zenodo", "record": 42}, "cc0-1.0",
    ),
    "figshare": (
        "FIGSHARE_URL", "/v2/articles/search",
        [{"id": 7, "title": "S", "url_public_html": "https://figshare.com/articles/dataset/S/7"}],
        {"kind": "figshare", "article": 7}, "",
    ),
    "kaggle": (
        "KAGGLE_URL", "/api/v1/datasets/list", [{"ref": "ann/scans", "title": "S"}],
        {"kind": "kaggle", "dataset": "ann/scans"}, "",
    ),
}  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("name", SEARCHES)
def test_a_place_is_searched_and_its_hits_have_a_location(settings, monkeypatch, capsys, name):
    setting, path, answer, location, licence = SEARCHES[name]
    asked = []
    site = Site(answers={path: lambda query, body: asked.append((query, body)) or answer})
    settings.FETCH_NETWORKS = list(NETWORKS)
    with serving(site) as url:
        setattr(settings, setting, url)
        monkeypatch.setenv(setting, url)
        (hit,) = connector(name).search("chest scans", 5, RULES)
        link = {"url": hit.url, "kind": "official", "source": "curation", "issue": None}
        make_dataset("known-here", links=[link])
        call_command("search_places", "chest", "scans", place=[name])
        site.answers[path] = [1] if name != "zenodo" else {"hits": {"hits": [1]}}
        with pytest.raises(BuildError, match="not understood"):
            connector(name).search("chest", 5, RULES)

    assert (dict(hit.location), hit.licence) == (location, licence)
    assert "chest scans" in str(asked[0])
    assert f"{hit.url}  {licence or 'no licence stated'}  catalog: known-here" in (
        capsys.readouterr().out
    )


def test_collections_of_the_index_are_searched_without_asking_anybody():
    found = connector("idc").search("4d lung ct", 5, FetchRules())

    assert [one.location["collections"] for one in found] == [["4d_lung"]]
    assert "CC BY 3.0" in found[0].licence


@pytest.mark.parametrize("name", ["figshare", "kaggle"])
def test_the_newest_version_is_named_where_the_place_tells_it(make, name):
    case = make(name)
    case.site.answers["/v2/articles/7"] = {"version": case.place["version"]}
    bare = {key: value for key, value in case.place.items() if key != "version"}

    assert connector(name).newest(bare, case.rules()) == case.place
    case.site.answers |= {"/v2/articles/7": [], "/api/v1/datasets/view/ann/scans": {}}
    with pytest.raises(BuildError, match="not understood"):
        connector(name).newest(bare, case.rules())


@pytest.mark.parametrize("name", MAKERS)
def test_only_the_chosen_files_come_and_only_once(make, tmp_path, name):
    case = make(name)

    folder = get(case, tmp_path, allow_patterns=["images/*"])
    again = get(case, tmp_path, allow_patterns=["images/*"])

    assert folder == again
    assert (folder / BIG).read_bytes() == FILES[BIG]
    assert not (folder / SMALL).exists()
    assert case.site.gets(case.paths[SMALL]) == []
    sent = [one for one in case.site.gets(case.paths[BIG]) if "if-none-match" not in one]
    assert len(sent) == 1


@pytest.mark.parametrize("name", MAKERS)
def test_a_broken_body_goes_on_and_a_busy_place_is_asked_again(make, tmp_path, name):
    case = make(name)
    case.site.faults[case.paths[BIG]] = [(429, {"Retry-After": "1"}), 50_000, (503, {})]
    case.site.faults[case.asks] = [(503, {"Retry-After": "0"})]

    folder = get(case, tmp_path)

    assert (folder / BIG).read_bytes() == FILES[BIG]
    ranges = [one.get("range") for one in case.site.gets(case.paths[BIG])]
    assert ranges == [None, None, "bytes=50000-", "bytes=50000-"]


@pytest.mark.parametrize("name", MAKERS)
def test_other_content_than_stated_names_both_checksums(make, tmp_path, name):
    case = make(name)
    other = bytes(len(FILES[BIG]))
    case.site.files[case.paths[BIG]] = other

    error = refused(case, tmp_path)

    kind = case.checksum or "md5"
    assert error.code == "upstream_changed"
    assert digest(kind, other) in str(error)
    assert digest(kind, FILES[BIG]) in str(error)


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_not_there_and_patterns_that_take_nothing_are_said(make, tmp_path, name):
    case = make(name)

    assert "no file matches *.nii" in str(refused(case, tmp_path, allow_patterns=["*.nii"]))
    case.site.faults[case.paths[SMALL]] = [(404, {})]
    error = refused(case, tmp_path)

    assert error.code == "source_failed"
    assert "404" in str(error)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("name", MAKERS)
def test_a_refusal_says_what_a_person_does_and_shows_no_secret(
    make, tmp_path, caplog, name, status
):
    case = make(name)
    case.site.faults[case.paths[BIG]] = [(status, {})]

    error = refused(case, tmp_path)

    assert error.code == "access_denied"
    assert case.value.rpartition(":")[2] not in str(error) + caplog.text or not case.value
    if status == 401 and case.credential:
        assert f"{case.credential} is refused" in str(error)


@pytest.mark.parametrize("name", BY_TOKEN)
def test_the_credential_is_sent_as_the_place_wants_it_and_its_lack_is_said(make, tmp_path, name):
    case = make(name)
    case.site.needs["/files" if name == "physionet" else "/"] = case.accepted

    without = refused(case, tmp_path, case.rules(""))
    folder = get(case, tmp_path)

    assert without.code == "access_denied"
    assert f"set {case.credential}" in str(without)
    assert (folder / BIG).read_bytes() == FILES[BIG]
    assert connector(name).whoami(case.rules()) in {"ann", ""}
    secret = case.value.rpartition(":")[2].encode()
    written = [one for one in tmp_path.rglob("*") if one.is_file()]
    assert not any(secret in one.read_bytes() for one in written)


@pytest.mark.parametrize("name", BY_TOKEN)
def test_the_operators_credential_serves_who_has_none(make, tmp_path, name, monkeypatch):
    case = make(name)
    case.site.needs["/files" if name == "physionet" else "/"] = case.accepted
    monkeypatch.setenv(case.credential, case.value)

    folder = get(case, tmp_path, case.rules(""))

    assert (folder / SMALL).read_bytes() == FILES[SMALL]


@pytest.mark.parametrize("name", BY_TOKEN)
def test_what_came_by_a_persons_credential_is_kept_from_others(make, tmp_path, name):
    case = make(name)
    case.site.needs["/files" if name == "physionet" else "/"] = case.accepted
    mine = get(case, tmp_path)

    error = refused(case, tmp_path, case.rules(""))
    sha256 = digest("sha256", FILES[BIG])
    url = f"{case.url}/elsewhere/scan.bin"
    place = place_of({"kind": "http", "files": [{"url": url, "sha256": sha256}]})
    with pytest.raises(BuildError) as by_hash:
        acquire(place, data_root=tmp_path, cache=tmp_path, rules=RULES)

    assert mine.is_relative_to(tmp_path / PEOPLE / "p1")
    assert error.code == "access_denied"
    assert by_hash.value.code in {"access_denied", "source_failed"}


def test_terms_of_synapse_that_are_not_accepted_are_said_before_anything_is_fetched(make, tmp_path):
    case = make("synapse")
    case.site.answers["/repo/v1/restrictionInformation"] = {
        "restrictionLevel": "RESTRICTED_BY_TERMS_OF_USE", "hasUnmetAccessRequirement": True,
    }  # fmt: skip

    error = refused(case, tmp_path)

    assert error.code == "access_denied"
    assert "synapse.org/Synapse:syn1" in str(error)


def test_a_page_instead_of_checksums_means_no_access(make, tmp_path):
    case = make("physionet")
    case.site.files["/files/scans/1.0.0/SHA256SUMS.txt"] = b"<!DOCTYPE html><html>Sign in</html>"

    error = refused(case, tmp_path)

    assert error.code == "access_denied"
    assert "/content/scans/1.0.0/" in str(error)


def test_keys_of_s3_sign_and_are_never_sent(make, tmp_path):
    case = make("s3")

    get(case, tmp_path)
    open_only = get(case, tmp_path, case.rules(""))

    signed = [one.get("authorization", "") for _, _, one in case.site.asked]
    assert signed[0].startswith("AWS4-HMAC-SHA256 Credential=AKIA/")
    assert "" in signed  # without keys nothing is signed
    assert "c4n4ry" not in str(case.site.asked)
    assert (open_only / BIG).read_bytes() == FILES[BIG]


def test_a_bucket_of_a_real_store_is_fetched(store, tmp_path, settings):
    settings.S3_URL = store
    client = boto3.client(
        "s3", endpoint_url=store, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    client.create_bucket(Bucket="scans-of-ann")
    for name, data in FILES.items():
        client.put_object(Bucket="scans-of-ann", Key=f"v1/{name}", Body=data)
    place = place_of({"kind": "s3", "bucket": "scans-of-ann", "prefix": "v1/"})
    rules = FetchRules(networks=NETWORKS, credentials={"S3_KEYS": "test:test"}, person="p1")

    folder = acquire(place, data_root=tmp_path, cache=tmp_path, rules=rules)
    missing = place_of({"kind": "s3", "bucket": "no-such-bucket"})
    with pytest.raises(BuildError, match="NoSuchBucket"):
        listing(missing, rules)

    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert connector("s3").whoami(rules)


def test_a_store_at_an_inner_address_is_refused(make, tmp_path):
    case = make("s3")

    error = refused(case, tmp_path, FetchRules(), endpoint=case.url)

    assert error.code == "url_refused"
    assert case.site.asked == []


def test_files_that_a_person_puts_are_checked_and_each_wrong_one_is_named(tmp_path):
    rows = [
        {"path": name, "bytes": len(data), "sha256": digest("sha256", data)}
        for name, data in FILES.items()
    ]
    place = place_of(
        {"kind": "manual", "path": "set", "page": "https://example.org/set", "files": rows}
    )

    def problem() -> str:
        with pytest.raises(BuildError) as caught:
            acquire(place, data_root=tmp_path, cache=tmp_path / "cache")
        assert caught.value.code == "files_missing"
        return str(caught.value)

    nothing = problem()
    (tmp_path / "set" / "images").mkdir(parents=True)
    (tmp_path / "set" / SMALL).write_bytes(b"NAME,class\n")
    two = problem()
    for name, data in FILES.items():
        (tmp_path / "set" / name).write_bytes(data)

    assert "expected 2 files" in nothing
    assert "https://example.org/set" in nothing
    assert f"{BIG} is missing" in two
    assert f"{SMALL}: found sha256" in two
    assert acquire(place, data_root=tmp_path, cache=tmp_path / "cache") == tmp_path / "set"


def test_the_pace_of_a_host_is_kept_by_all_that_fetch_from_it_together(tmp_path):
    waits = [round(paced(tmp_path, "example.org", 10.0), -1) for _ in range(3)]
    other = round(paced(tmp_path, "example.com", 10.0), -1)

    assert waits == [10, 20, 30]
    assert other == 10


def test_a_host_with_limits_of_its_own_is_fetched_by_them_and_its_speed_is_known(tmp_path):
    site = Site(files={f"/{n}": os.urandom(400_000) for n in range(4)}, slow=0.01)
    with serving(site) as url:
        rows = [{"url": f"{url}/{n}"} for n in range(4)]
        rules = FetchRules(networks=NETWORKS, hosts={"127.0.0.1": (2, 4e6)})
        place = place_of({"kind": "http", "files": rows})
        folder = acquire(place, data_root=tmp_path, cache=tmp_path, rules=rules)

    assert all((folder / str(n)).read_bytes() == site.files[f"/{n}"] for n in range(4))
    assert site.busiest == 2
    assert 0 < measured_speed(tmp_path, "127.0.0.1") < 8e6
    assert measured_speed(tmp_path, "example.org") is None
