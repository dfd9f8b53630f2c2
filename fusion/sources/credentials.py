"""What places ask of those who fetch from them: kinds of credentials, and how each is sent."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Kind:
    """A credential of one place.

    Args:
        name: of the environment variable that an operator gives it in, and of a user's own.
        connector: of fusion.sources.CONNECTORS that sends it.
        form: token; login: name:password; keys: id:secret, which sign and are not sent.
        page: where a person gets one.
    """

    name: str
    place: str
    connector: str
    form: str
    page: str

    @property
    def shape(self) -> str:
        """What its value looks like, for people."""
        return {"token": "a token", "login": "name:password", "keys": "key id:secret key"}[
            self.form
        ]

    def problem(self, value: str) -> str:
        """Why this cannot be one; "" when it can. The value itself is not repeated."""
        if not re.fullmatch(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", value):
            return "found characters that no header may hold, expected printable ASCII on one line"
        first, colon, rest = value.partition(":")
        if self.form != "token" and not (first and colon and rest):
            return f"found no {self.shape}"
        return ""


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        row[0]: Kind(*row)
        for row in (
            ("HF_TOKEN", "Hugging Face Hub", "huggingface", "token",
             "https://huggingface.co/settings/tokens"),
            ("ZENODO_TOKEN", "Zenodo", "zenodo", "token",
             "https://zenodo.org/account/settings/applications/"),
            ("FIGSHARE_TOKEN", "figshare", "figshare", "token",
             "https://figshare.com/account/applications"),
            ("KAGGLE_API_TOKEN", "Kaggle", "kaggle", "token", "https://www.kaggle.com/settings"),
            ("SYNAPSE_AUTH_TOKEN", "Synapse", "synapse", "token",
             "https://www.synapse.org/PersonalAccessTokens:0"),
            ("PHYSIONET_LOGIN", "PhysioNet", "physionet", "login", "https://physionet.org/login/"),
            ("S3_KEYS", "S3", "s3", "keys", "https://console.aws.amazon.com/iam/"),
        )
    }
)  # fmt: skip


def kind_of(connector: str) -> Kind | None:
    """The credential that a connector sends."""
    return next((one for one in KINDS.values() if one.connector == connector), None)


def headers_of(name: str, value: str, method: str, url: str) -> dict[str, str]:
    """What is sent along with one request so that it is answered."""
    if not value:
        return {}
    kind = KINDS[name]
    if kind.form == "keys":
        return _signed(value, method, url)
    if kind.form == "login" or (kind.connector == "kaggle" and ":" in value):
        return {"Authorization": f"Basic {base64.b64encode(value.encode()).decode()}"}
    word = "token" if kind.connector == "figshare" else "Bearer"
    return {"Authorization": f"{word} {value}"}


def _signed(value: str, method: str, url: str) -> dict[str, str]:
    """Headers of AWS's signature, version 4."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    from fusion.sources.bucket import region_of

    request = AWSRequest(method=method, url=url)
    key, _, secret = value.partition(":")
    S3SigV4Auth(Credentials(key, secret), "s3", region_of(url)).add_auth(request)
    return dict(request.headers.items())
