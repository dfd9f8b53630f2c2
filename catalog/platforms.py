"""Where datasets are kept: platforms by the host of a homepage, and how one gets files there. Pure.

Only a host tells a platform; a dataset on a page of its own has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Platform:
    """`hosts` are endings of host names, `synonyms` other names that people use for it."""

    name: str
    hosts: tuple[str, ...]
    steps: str
    synonyms: tuple[str, ...] = ()


_ROWS = (
    Platform(
        "OpenNeuro",
        ("openneuro.org",),
        "Choose “Download”: in the browser, with the OpenNeuro or DataLad command line, or "
        "from its public S3 bucket.",
    ),
    Platform(
        "TCIA",
        ("cancerimagingarchive.net",),
        "Open the collection's page; open collections download with the NBIA Data Retriever "
        "or from Imaging Data Commons, restricted ones ask for a licence agreement first.",
        ("The Cancer Imaging Archive", "cancer imaging archive"),
    ),
    Platform(
        "Imaging Data Commons",
        ("imaging.datacommons.cancer.gov",),
        "Select the collection and download it with the idc-index command line (`idc download`).",
        ("IDC",),
    ),
    Platform(
        "Kaggle",
        ("kaggle.com",),
        "Sign in to Kaggle, accept the rules if there are any, and download on the page or "
        "with kagglehub.",
    ),
    Platform(
        "Grand Challenge",
        ("grand-challenge.org",),
        "Sign in to Grand Challenge, join the challenge, and follow its data page.",
        ("grand-challenge",),
    ),
    Platform(
        "Synapse",
        ("synapse.org",),
        "Sign in to Synapse, accept the conditions of use, and download with the Synapse client.",
    ),
    Platform(
        "PhysioNet",
        ("physionet.org",),
        "Sign in to PhysioNet; credentialed sets ask for training and a signed agreement first.",
    ),
    Platform(
        "Zenodo",
        ("zenodo.org",),
        "Download the files on the record's page; each has a checksum.",
    ),
    Platform(
        "figshare",
        ("figshare.com",),
        "Download the files on the item's page.",
    ),
    Platform(
        "Mendeley Data",
        ("data.mendeley.com",),
        "Choose “Download all” on the dataset's page.",
        ("mendeley",),
    ),
    Platform(
        "Hugging Face",
        ("huggingface.co",),
        "Download with huggingface-hub; gated sets ask you to accept their terms first.",
        ("huggingface", "HF"),
    ),
    Platform(
        "GitHub",
        ("github.com",),
        "Read the repository's README; it holds the files or says where they are.",
    ),
    Platform(
        "IEEE DataPort",
        ("ieee-dataport.org",),
        "Sign in with an IEEE account and download on the dataset's page.",
        ("dataport",),
    ),
    Platform(
        "Stanford AIMI",
        ("aimi.stanford.edu",),
        "Sign in, accept the research use agreement, and download.",
    ),
    Platform(
        "Tianchi",
        ("tianchi.aliyun.com",),
        "Sign in to Alibaba Cloud Tianchi and download on the page.",
    ),
    Platform(
        "Dataverse",
        ("dataverse.harvard.edu", "borealisdata.ca"),
        "Download the files on the page of the dataset.",
        ("Harvard Dataverse",),
    ),
    Platform(
        "OSF",
        ("osf.io",),
        "Download the files on the page of the project.",
        ("Open Science Framework",),
    ),
    Platform(
        "NITRC",
        ("nitrc.org",),
        "Sign in to NITRC where the page asks for it, and download there.",
    ),
    Platform(
        "CodaLab",
        ("codalab.org", "codalab.lisn.upsaclay.fr"),
        "Sign in to CodaLab, join the competition, and follow its data page.",
    ),
    Platform(
        "OpenDataLab",
        ("opendatalab.com", "opendatalab.org.cn"),
        "Sign in to OpenDataLab and download on the page.",
    ),
    Platform(
        "BBBC",
        ("bbbc.broadinstitute.org",),
        "Download the archives on the page of the set.",
        ("Broad Bioimage Benchmark Collection",),
    ),
)
ELSEWHERE = "Open the homepage and look for its download or data section."


@cache
def platforms() -> Mapping[str, Platform]:
    """Every platform by name."""
    return MappingProxyType({row.name: row for row in _ROWS})


def platform_of(url: str | None) -> Platform | None:
    """The platform whose host an address is on."""
    host = (urlsplit(url or "").hostname or "").casefold()
    for row in _ROWS:
        if any(host == end or host.endswith(f".{end}") for end in row.hosts):
            return row
    return None
