"""Imaging Data Commons: its packaged index beside idc-index itself, its buckets on a local S3."""

from __future__ import annotations

import boto3
import pytest

from fusion.errors import BuildError
from fusion.locations import place_of
from fusion.sources import acquire, idc, listing
from fusion.sources.safety import FetchRules
from tests.fusion.servers import Site, serving
from tests.fusion.test_contract import bucket_page

RULES = FetchRules(networks=("127.0.0.0/8",))
SINGLE = "2.25.5618076857306634880164728989441809423.1"  # a series of one file


def place(**choice):
    return place_of({"kind": "idc", "release": idc.release(), **choice})


def test_every_collection_has_licence_subjects_and_series():
    found = idc.collections()

    assert len(found) == 179
    assert all(one.licences and one.subjects and one.series for one in found.values())
    assert found["4d_lung"].licences == {"CC BY 3.0": found["4d_lung"].series}


COHORTS = [
    {"collections": ["duke_breast_cancer_mri"], "modalities": ["MR"]},
    {"collections": ["lidc_idri", "nsclc_radiomics"], "body_parts": ["LUNG"]},
    {"collections": ["4d_lung", "acrin_6698"], "licences": ["CC BY 4.0"], "modalities": ["SEG"]},
]
SQL = {"collections": "collection_id", "modalities": "Modality", "body_parts": "BodyPartExamined",
       "licences": "license_short_name"}  # fmt: skip


@pytest.mark.slow
def test_a_cohorts_manifest_is_the_one_that_idc_index_gives():
    from idc_index import IDCClient

    client = IDCClient()
    for choice in COHORTS:
        where = " and ".join(
            f"{SQL[key]} in ({', '.join(repr(value) for value in values)})"
            for key, values in choice.items()
        )
        rows = client.sql_query(f"select series_aws_url from index where {where}")  # noqa: S608
        theirs = sorted(f"cp {url} .\n" for url in rows["series_aws_url"])

        assert theirs
        assert sorted(idc.manifest(idc.cohort(place(**choice))).splitlines(True)) == theirs


def test_first_subjects_are_the_same_ones_each_time_and_a_part_of_the_whole():
    whole = idc.cohort(place(**COHORTS[0]))
    part = idc.cohort(place(**COHORTS[0], subjects=2))

    people = sorted({one.subject for one in whole})
    assert sorted({one.subject for one in part}) == people[:2]
    assert part == [one for one in whole if one.subject in people[:2]]
    found = listing(place(**COHORTS[0], subjects=2), RULES)
    assert found.known_bytes == sum(one.bytes for one in part)
    assert found.licence == "CC BY-NC 4.0"


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"collections": ["lidc_idr"]}, "did you mean 'lidc_idri'"),
        ({"collections": ["lidc_idri"], "modalities": ["XYZ"]}, "modalities: found 'XYZ'"),
        ({"series": ["1.2.3"]}, "series 1.2.3 is not in release"),
        ({"collections": ["4d_lung"], "modalities": ["MR"]}, "no series is like that"),
        ({"collections": ["4d_lung"], "release": 1}, "expected 1"),
    ],
)
def test_what_the_index_does_not_know_is_said(choice, says):
    with pytest.raises(BuildError, match=says):
        idc.cohort(place(**choice))


@pytest.fixture
def smallest(store, settings):
    """The series of few files of a real collection; their objects hold bytes of ours."""
    settings.IDC_URL = store
    series = sorted(idc.cohort(place(collections=["4d_lung"])), key=lambda s: s.instances)[:2]
    client = boto3.client(
        "s3", endpoint_url=store, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    for one in series:
        bucket, key = one.url.removeprefix("s3://").split("/")[:2]
        client.create_bucket(Bucket=bucket, ACL="public-read")
        for n in range(one.instances):
            client.put_object(Bucket=bucket, Key=f"{key}/{n}.dcm", Body=f"{key} {n}".encode())
    return series, client


def test_series_come_from_the_buckets_into_the_folders_that_idc_index_makes(smallest, tmp_path):
    series, _ = smallest
    wanted = place(collections=["4d_lung"], series=[one.uid for one in series])

    folder = acquire(wanted, data_root=tmp_path, cache=tmp_path, rules=RULES)

    for one in series:
        found = sorted((folder / one.folder).iterdir())
        assert len(found) == one.instances
        assert found[0].read_bytes().decode() == f"{one.url.split('/')[3]} 0"
    assert acquire(wanted, data_root=tmp_path, cache=tmp_path, rules=RULES) == folder


def test_a_series_that_lost_a_file_is_noticed_with_both_numbers(smallest, tmp_path):
    series, client = smallest
    one = series[0]
    bucket, key = one.url.removeprefix("s3://").split("/")[:2]
    client.delete_object(Bucket=bucket, Key=f"{key}/0.dcm")

    with pytest.raises(BuildError) as caught:
        acquire(place(series=[one.uid]), data_root=tmp_path, cache=tmp_path, rules=RULES)

    assert caught.value.code == "upstream_changed"
    assert f"found {one.instances - 1} files, expected {one.instances}" in str(caught.value)


def test_a_series_goes_on_after_a_break_and_what_is_wrong_is_said(tmp_path, settings):
    (one,) = idc.cohort(place(series=[SINGLE]))
    bucket, key = one.url.removeprefix("s3://").split("/")[:2]
    data, path = bytes(range(256)) * 800, f"/{bucket}/{key}/a.dcm"
    site = Site(files={path: data, f"/{bucket}": bucket_page({"a.dcm": data}, f"{key}/")})
    wanted = place(series=[SINGLE])

    def refused(fault) -> BuildError:
        site.faults[path] = [fault]
        with pytest.raises(BuildError) as caught:
            acquire(wanted, data_root=tmp_path, cache=tmp_path / "other", rules=RULES)
        return caught.value

    with serving(site) as url:
        settings.IDC_URL = url
        assert [refused((status, {})).code for status in (401, 403, 404)] == [
            "access_denied", "access_denied", "source_failed",
        ]  # fmt: skip
        site.files[path] = bytes(len(data))
        assert refused((503, {"Retry-After": "0"})).code == "upstream_changed"
        site.files[path], asked = data, len(site.gets(path))
        site.faults[path] = [(429, {"Retry-After": "0"}), 50_000]
        folder = acquire(wanted, data_root=tmp_path, cache=tmp_path, rules=RULES)

    assert (folder / one.folder / "a.dcm").read_bytes() == data
    ranges = [sent.get("range") for sent in site.gets(path)[asked:]]
    assert ranges == [None, None, "bytes=50000-"]
