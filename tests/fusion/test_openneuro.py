"""Datasets of OpenNeuro, from a local S3 with a bucket laid out as theirs."""

from __future__ import annotations

import json

import boto3
import pytest

from fusion.acquisition import asked, narrowed, plan_of
from fusion.errors import BuildError
from fusion.locations import place_of
from fusion.sources import acquire, listing
from fusion.sources.openneuro import BUCKET
from fusion.sources.safety import FetchRules
from tests.factories import make_facts

RULES = FetchRules(networks=("127.0.0.0/8",))
ABOUT = {"Name": "Tasks", "License": "CC0", "DatasetDOI": "10.18112/openneuro.ds000009.v1.0.2"}
FILES = {
    "dataset_description.json": json.dumps(ABOUT),
    "participants.tsv": "participant_id\n",
    "sub-01/anat/sub-01_T1w.nii.gz": "one anat",
    "sub-01/func/sub-01_bold.nii.gz": "one func",
    "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz": "two anat",
    "sub-02/ses-1/func/sub-02_ses-1_bold.nii.gz": "two func",
    "sub-03/anat/sub-03_T1w.nii.gz": "three anat",
    "derivatives/prep/sub-01/anat/sub-01_T1w.nii.gz": "derived",
}


@pytest.fixture(autouse=True)
def bucket(store, settings):
    settings.OPENNEURO_URL = store
    client = boto3.client(
        "s3", endpoint_url=store, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET, ACL="public-read")
    for name, text in FILES.items():
        client.put_object(Bucket=BUCKET, Key=f"ds000009/{name}", Body=text.encode())
    return client


def get(tmp_path, **more):
    place = place_of({"kind": "openneuro", "dataset": "ds000009", **more})
    folder = acquire(place, data_root=tmp_path, cache=tmp_path, rules=RULES)
    files = [one for one in folder.rglob("*.*") if one.is_file()]
    return {one.relative_to(folder).as_posix(): one.read_text() for one in files}


def test_a_dataset_comes_whole_but_for_its_derivatives(tmp_path):
    assert get(tmp_path) == {n: t for n, t in FILES.items() if not n.startswith("derivatives")}
    assert list(get(tmp_path, allow_patterns=["derivatives/*"])) == [list(FILES)[-1]]


def test_first_subjects_and_one_kind_of_data_are_a_part(tmp_path):
    found = get(tmp_path, subjects=2, datatypes=["anat"])

    assert set(found) == {
        "dataset_description.json",
        "participants.tsv",
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz",
    }


def test_a_listing_has_version_licence_sizes_and_checksums():
    found = listing(place_of({"kind": "openneuro", "dataset": "ds000009"}), RULES)

    assert (found.version, found.licence, found.title) == ("1.0.2", "CC0", "Tasks")
    assert all(one.bytes and one.md5 for one in found.files)


def test_a_part_is_planned_with_the_bytes_that_the_bucket_states():
    link = {"url": "https://openneuro.org/datasets/ds000009", "source": "curation"}
    plan = narrowed(plan_of(make_facts("nine", links=[link])), subjects=1)

    part = asked(plan, RULES)
    images = asked(plan, RULES, ["sub-*/anat/*"])

    wanted = [name for name in FILES if not name.startswith(("sub-02", "sub-03", "derivatives"))]
    assert (part.files, part.bytes) == (len(wanted), sum(len(FILES[one]) for one in wanted))
    assert (images.files, images.bytes) == (1, len("one anat"))


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ({"version": "1.0.0"}, "upstream_changed", "found version 1.0.2, expected 1.0.0"),
        ({"dataset": "ds999999"}, "source_failed", "no such dataset"),
        ({"datatypes": ["pet"]}, "source_failed", "no subject has data of pet"),
        ({"allow_patterns": ["*.mgz"]}, "source_failed", r"no file matches \*\.mgz"),
    ],
)
def test_what_is_not_there_is_said(tmp_path, more, code, says):
    with pytest.raises(BuildError, match=says) as caught:
        get(tmp_path, **more)

    assert caught.value.code == code
