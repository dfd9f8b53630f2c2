"""Every environment variable that Imaging-X Portal reads, in one place.

Each variable is declared once in `VARIABLES` with its default and its meaning; `docs/settings.md`
is compared with this table by a test. A value that cannot be used stops the start with a message
that names the variable, the value found and the one expected.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent.parent
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_LONGEST_ISSUER = 200  # accounts are kept under it


@dataclass(frozen=True)
class Variable:
    """One environment variable: its name, default (as text) and what it does."""

    name: str
    default: str
    meaning: str


_VARIABLES = (
    Variable("IMAGINGX_DEBUG", "0", "1 shows tracebacks in the browser; never on a public server"),
    Variable(
        "IMAGINGX_SECRET_KEY",
        "",
        "Django's signing key; empty: one is made and kept in the state folder",
    ),
    Variable(
        "IMAGINGX_CREDENTIAL_KEYS",
        "",
        "comma list of Fernet keys: the first seals credentials of users, each opens; empty: one is"
        " made and kept in the state folder",
    ),
    Variable("IMAGINGX_ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]", "comma list of host names"),
    Variable("IMAGINGX_CSRF_TRUSTED_ORIGINS", "", "comma list of origins behind a TLS proxy"),
    Variable("IMAGINGX_HTTPS", "0", "1: cookies only over TLS, HSTS, redirect to https"),
    Variable(
        "IMAGINGX_PROXIES",
        "",
        "proxies before the portal, each of which adds to X-Forwarded-For; empty: 1 with"
        " IMAGINGX_HTTPS, else 0",
    ),
    Variable(
        "IMAGINGX_PROXY_NETWORKS",
        "",
        "comma list of their networks: from elsewhere X-Forwarded-For is not believed; empty:"
        " whoever connects is a proxy",
    ),
    Variable(
        "IMAGINGX_SIGN_IN_ATTEMPTS",
        "5",
        "wrong passwords of one name from one address after which it waits; 0: no limits",
    ),
    Variable(
        "IMAGINGX_SIGN_IN_ATTEMPTS_PER_ADDRESS",
        "100",
        "wrong passwords from one address, whatever the name, after which it waits; 0: no limit",
    ),
    Variable("IMAGINGX_SIGN_IN_WAIT_MINUTES", "15", "so long"),
    Variable(
        "IMAGINGX_LOCAL_SIGN_IN",
        "1",
        "0: passwords open nothing, the admin included; needs IMAGINGX_OIDC_ISSUER",
    ),
    Variable(
        "IMAGINGX_OIDC_ISSUER",
        "",
        "issuer of an OpenID Connect provider, as it stands in its ID tokens; empty: accounts of"
        " the portal alone",
    ),
    Variable("IMAGINGX_OIDC_CLIENT_ID", "", "id under which the provider knows the portal"),
    Variable("IMAGINGX_OIDC_CLIENT_SECRET", "", "secret that goes with it"),
    Variable(
        "IMAGINGX_OIDC_NAME", "", "what the provider is called on pages; empty: the issuer's host"
    ),
    Variable(
        "IMAGINGX_OIDC_CURATOR_GROUP",
        "",
        "value of the groups claim that makes a curator; empty: the provider makes none",
    ),
    Variable("IMAGINGX_OIDC_GROUPS_CLAIM", "groups", "claim that lists a person's groups"),
    Variable(
        "IMAGINGX_STATE_DIR", "var", "database, index, broker and scratch of the embedded stores"
    ),
    Variable("IMAGINGX_DATA_ROOT", "var/data", "folder below which local sources of recipes lie"),
    Variable("IMAGINGX_DATABASE_URL", "", "empty: SQLite in the state folder; else postgres://..."),
    Variable(
        "IMAGINGX_BROKER_URL", "", "empty: broker in the state folder; else redis:// or amqp://"
    ),
    Variable(
        "IMAGINGX_SEARCH_URL", "", "empty: tantivy in process; else http(s):// of Elasticsearch 8"
    ),
    Variable("IMAGINGX_SEARCH_INDEX", "imagingx-datasets", "alias name in Elasticsearch"),
    Variable(
        "IMAGINGX_STORAGE_URL", "", "empty: bundles in the state folder; else s3://bucket/prefix"
    ),
    Variable("IMAGINGX_S3_ENDPOINT_URL", "", "endpoint of an S3-compatible server; empty: AWS"),
    Variable("IMAGINGX_S3_ACCESS_KEY_ID", "", "key id for the S3-compatible server"),
    Variable("IMAGINGX_S3_SECRET_ACCESS_KEY", "", "secret key for the S3-compatible server"),
    Variable(
        "IMAGINGX_SCORE_WEIGHTS",
        "modality=0.20,anatomy=0.15,labels=0.25,geometry=0.10,acquisition=0.10,population=0.10,"
        "annotation=0.10",
        "weight of each part of the compatibility score; together 1",
    ),
    Variable(
        "IMAGINGX_DEVICE", "auto", "auto, cpu or cuda: where baselines and torch resampling run"
    ),
    Variable("IMAGINGX_THREADS", "0", "threads of the compute kernels in one worker; 0: all cores"),
    Variable(
        "IMAGINGX_HARMONISE_WORKERS",
        "0",
        "processes that harmonise cases beside each other and share those threads; 0: as many as"
        " cores and memory (4 GiB each) allow",
    ),
    Variable(
        "IMAGINGX_CHUNK_CASES",
        "0",
        "cases that one worker takes of a run at a time; 0: by the size of their files and the"
        " worker's cores",
    ),
    Variable(
        "IMAGINGX_RESULTS_GB",
        "10",
        "size of the store of finished cases, which later runs use again; 0: none is kept",
    ),
    Variable(
        "IMAGINGX_RUN_LEASE_SECONDS", "60", "a run without heartbeat for so long is taken over"
    ),
    Variable(
        "IMAGINGX_RUNS_AT_ONCE",
        "0",
        "runs under way at once for all users, others wait; 0: no limit",
    ),
    Variable(
        "IMAGINGX_RUNS_AT_ONCE_PER_USER",
        "0",
        "the same for each user; visitors without an account count as one",
    ),
    Variable(
        "IMAGINGX_BUNDLE_GB", "0", "GB (10^9 bytes) that all bundles together may take; 0: no limit"
    ),
    Variable(
        "IMAGINGX_BUNDLE_GB_PER_USER",
        "0",
        "the same for each user; visitors without an account count as one",
    ),
    Variable("IMAGINGX_DISK_RESERVE_GB", "1", "GB that a new run must leave free on each disk"),
    Variable(
        "IMAGINGX_KEEP_FAILED_HOURS",
        "24",
        "so long a failed run keeps its scratch, to be retried from there",
    ),
    Variable(
        "IMAGINGX_KEEP_BUNDLES", "0", "private bundles kept of each recipe, the newest; 0: all"
    ),
    Variable("IMAGINGX_KEEP_BUNDLE_DAYS", "0", "days that a private bundle is kept; 0: for ever"),
    Variable(
        "IMAGINGX_KEEP_CACHE_DAYS",
        "30",
        "days without use after which fetched sources go; 0: never",
    ),
    Variable(
        "IMAGINGX_VIEWER_MB",
        "512",
        "decoded images that a web process keeps for the slice viewer; a larger one is not shown",
    ),
    Variable(
        "IMAGINGX_UPLOAD_DIR",
        "",
        "folder of uploaded data, shared by web and workers; empty: in the state folder",
    ),
    Variable("IMAGINGX_UPLOAD_GB", "20", "GB that one upload of a user may have; 0: no uploads"),
    Variable("IMAGINGX_UPLOAD_GB_PER_USER", "50", "GB of uploaded data of each user; 0: no limit"),
    Variable(
        "IMAGINGX_KEEP_UPLOAD_DAYS",
        "7",
        "days after which an unfinished upload goes, and one that its owner does not decide on",
    ),
    Variable(
        "IMAGINGX_MAIL_URL",
        "",
        "smtp:// (STARTTLS with ?tls=1) or smtps://user:password@host:port; empty: no mail is sent",
    ),
    Variable("IMAGINGX_MAIL_FROM", "imaging-x@localhost", "sender of the portal's mail"),
    Variable(
        "IMAGINGX_REQUIRE_SIGN_IN", "0", "1: only who is signed in, or has a token, starts runs"
    ),
    Variable(
        "IMAGINGX_API_RATE", "", "requests of one address to the API, as 120/min; empty: no limit"
    ),
    Variable("IMAGINGX_API_RATE_USER", "", "the same for each user who is signed in"),
    Variable(
        "IMAGINGX_CORRECTIONS_A_DAY",
        "20",
        "corrections that one address or user may propose a day; 0: none are taken",
    ),
    Variable("IMAGINGX_CORS_ORIGINS", "", "comma list of origins whose pages may ask the API"),
    Variable("IMAGINGX_LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR"),
    Variable("IMAGINGX_LOG_FORMAT", "line", "line or json: how log lines are written"),
    Variable(
        "IMAGINGX_METRICS_TOKEN",
        "",
        "token that /metrics, /readyz and /status/ ask for; empty: none is taken",
    ),
    Variable(
        "IMAGINGX_METRICS_NETWORKS",
        "127.0.0.0/8,::1/128",
        "comma list of networks that need no token for them",
    ),
    Variable(
        "IMAGINGX_FETCH_NETWORKS",
        "",
        "comma list of inner networks that sources may be fetched from; empty: public ones alone",
    ),
    Variable("IMAGINGX_FETCH_GB", "200", "GB that one fetched file may have"),
    Variable("IMAGINGX_FETCH_PER_HOST", "4", "files fetched from one host beside each other"),
    Variable(
        "IMAGINGX_FETCH_MBIT_PER_HOST",
        "0",
        "megabits a second that come from one host, for all processes of a machine; 0: no limit",
    ),
    Variable(
        "IMAGINGX_FETCH_HOSTS",
        "",
        "comma list of host=files/megabits with other limits for single hosts, as zenodo.org=2/80",
    ),
    Variable("IMAGINGX_ZENODO_URL", "https://zenodo.org", "address of Zenodo or a server like it"),
    Variable("IMAGINGX_FIGSHARE_URL", "https://api.figshare.com", "address of figshare's API"),
    Variable(
        "IMAGINGX_IDC_URL",
        "https://s3.amazonaws.com",
        "object store with the buckets of Imaging Data Commons",
    ),
    Variable(
        "IMAGINGX_OPENNEURO_URL",
        "https://s3.amazonaws.com",
        "object store with the bucket of OpenNeuro",
    ),
    Variable(
        "IMAGINGX_REFRESH",
        "0",
        "1: harvest the catalog's sources and check its links on a schedule; needs the internet",
    ),
    Variable(
        "IMAGINGX_HARVEST_HOURS",
        "idc=168,openneuro=24,zenodo=168,figshare=168,huggingface=168",
        "hours between two harvests of each source; a source that is left out is not harvested",
    ),
    Variable("IMAGINGX_LINK_CHECK_DAYS", "30", "days between two checks of an address"),
    Variable(
        "IMAGINGX_LINK_PAUSE_SECONDS", "2", "seconds between two requests of link checks to a host"
    ),
    Variable("IMAGINGX_REFRESH_SECONDS", "300", "seconds between two looks at what is due"),
    Variable(
        "IMAGINGX_IDC_INDEX_URL",
        "https://storage.googleapis.com/idc-index-data-artifacts/current/release_artifacts",
        "folder with the index files of Imaging Data Commons",
    ),
    Variable(
        "IMAGINGX_OPENNEURO_TABLE_URL",
        "https://raw.githubusercontent.com/jbwexler/openneuro_metadata/main/metadata_imaging.csv",
        "the table of OpenNeuro's datasets",
    ),
    Variable(
        "IMAGINGX_MENDELEY_URL", "https://data.mendeley.com", "address of Mendeley Data's API"
    ),
    Variable("IMAGINGX_KAGGLE_URL", "https://www.kaggle.com", "address of Kaggle's API"),
    Variable(
        "IMAGINGX_SYNAPSE_URL", "https://repo-prod.prod.sagebase.org", "address of Synapse's API"
    ),
    Variable("IMAGINGX_PHYSIONET_URL", "https://physionet.org", "address of PhysioNet"),
    Variable(
        "IMAGINGX_S3_URL",
        "https://s3.amazonaws.com",
        "object store of s3 sources that name no other, and of bundles that are sent to S3",
    ),
    Variable("KAGGLE_API_TOKEN", "", "token of Kaggle, or its older name:key"),
    Variable("SYNAPSE_AUTH_TOKEN", "", "personal access token of Synapse"),
    Variable("PHYSIONET_LOGIN", "", "name:password of PhysioNet"),
    Variable("S3_KEYS", "", "key id:secret key for buckets that are not open"),
    Variable(
        "IMAGINGX_CONTACT",
        "",
        "mail address that other catalogs are told; empty: webmaster at the site's host",
    ),
    Variable("ZENODO_TOKEN", "", "token for restricted records of Zenodo"),
    Variable("FIGSHARE_TOKEN", "", "token for private articles of figshare"),
    Variable("HF_TOKEN", "", "token for the Hugging Face Hub, read by huggingface-hub itself"),
    Variable("HF_ENDPOINT", "", "another Hub address, read by huggingface-hub itself"),
    Variable("HOST", "127.0.0.1", "address that `make up` listens on"),
    Variable("PORT", "8000", "port that `make up` listens on"),
)
VARIABLES = {variable.name: variable for variable in _VARIABLES}


def text(name: str) -> str:
    """Value of a declared variable, or its default."""
    return os.environ.get(name, "").strip() or VARIABLES[name].default


def flag(name: str) -> bool:
    """0 or 1 as a boolean."""
    value = text(name).lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    msg = f"{name}: found {value!r}, expected 0 or 1"
    raise ImproperlyConfigured(msg)


def integer(name: str, minimum: int = 0) -> int:
    """A whole number, at least `minimum`."""
    value = text(name)
    if not value.isdigit() or int(value) < minimum:
        msg = f"{name}: found {value!r}, expected a whole number >= {minimum}"
        raise ImproperlyConfigured(msg)
    return int(value)


def words(name: str) -> list[str]:
    """A comma list."""
    return [word.strip() for word in text(name).split(",") if word.strip()]


def fernet_keys(name: str) -> list[str]:
    """A comma list of keys of 32 bytes each, as base64 for addresses."""
    found = words(name)
    for number, key in enumerate(found, 1):
        if not re.fullmatch(r"[A-Za-z0-9_-]{43}=", key):
            # Of a secret, only its length is shown.
            msg = f"{name}: key {number} has {len(key)} characters, expected 44 of base64"
            raise ImproperlyConfigured(msg)
    return found


def networks(name: str) -> list[str]:
    """A comma list of IP networks, such as 10.0.0.0/8."""
    found = words(name)
    for network in found:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            msg = f"{name}: found {network!r}, expected networks such as 10.0.0.0/8 or ::1/128"
            raise ImproperlyConfigured(msg) from error
    return found


def hours(name: str) -> dict[str, int]:
    """A comma list of source=hours, each at least 1, with sources of the default."""
    known = [row.partition("=")[0] for row in VARIABLES[name].default.split(",")]
    rows = [word.partition("=") for word in words(name)]
    found = {source.strip(): number.strip() for source, _, number in rows}
    usable = len(found) == len(rows) and found.keys() <= set(known)
    if not usable or not all(re.fullmatch(r"[1-9]\d{0,5}", number) for number in found.values()):
        msg = f"{name}: found {text(name)!r}, expected some of {', '.join(known)} as source=hours"
        raise ImproperlyConfigured(msg)
    return {source: int(number) for source, number in found.items()}


def host_limits(name: str) -> dict[str, tuple[int, float]]:
    """Files at once and bytes a second of single hosts."""
    found = {}
    for word in words(name):
        row = re.fullmatch(r"([\w.-]+)=([1-9]\d{0,3})/(\d{1,6})", word)
        if row is None:
            msg = f"{name}: found {word!r}, expected host=files/megabits, as zenodo.org=2/80"
            raise ImproperlyConfigured(msg)
        found[row[1]] = int(row[2]), int(row[3]) * 125_000.0
    return found


def rate(name: str) -> str:
    """Empty, or a number of requests in a time, such as 120/min."""
    value = text(name)
    if value and not re.fullmatch(r"[1-9]\d{0,8}/(s|sec|min|hour|day)", value):
        msg = f"{name}: found {value!r}, expected such as 10/s, 120/min, 1000/hour or 5000/day"
        raise ImproperlyConfigured(msg)
    return value


def one_of(name: str, allowed: tuple[str, ...]) -> str:
    """A value out of a closed list."""
    value = text(name)
    if value not in allowed:
        msg = f"{name}: found {value!r}, expected one of {', '.join(allowed)}"
        raise ImproperlyConfigured(msg)
    return value


def url(name: str, schemes: tuple[str, ...]) -> str:
    """Empty, or an address with one of `schemes`."""
    value = text(name)
    if value and value.split("://", 1)[0] not in schemes:
        # The value may hold a password: only its scheme is shown.
        found = value.split("://", 1)[0] if "://" in value else "no scheme"
        msg = f"{name}: found scheme {found!r}, expected one of {', '.join(schemes)}"
        raise ImproperlyConfigured(msg)
    return value


def issuer(name: str) -> str:
    """Empty, or an issuer of OpenID Connect: https, or http on this machine."""
    value = text(name)
    if not value:
        return ""
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError:
        host = None
    safe = host and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOCAL))
    if not safe or parts.query or parts.fragment or parts.username or len(value) > _LONGEST_ISSUER:
        msg = (
            f"{name}: found {value[:_LONGEST_ISSUER]!r}, expected an https address without a query"
            f" of at most {_LONGEST_ISSUER} characters, as https://login.example.org"
        )
        raise ImproperlyConfigured(msg)
    return value


def check_whole(needed: tuple[str, ...], others: tuple[str, ...]) -> None:
    """Either all of `needed` are given, or none of them and none of `others`.

    Raises:
        ImproperlyConfigured: something is missing.
    """
    given = [name for name in (*needed, *others) if text(name) != VARIABLES[name].default]
    absent = [name for name in needed if name not in given]
    if given and absent:
        msg = f"{', '.join(absent)}: found nothing, expected a value with {', '.join(given)}"
        raise ImproperlyConfigured(msg)


def folder(name: str, default: Path | None = None) -> Path:
    """A folder; a relative one counts from the project's root."""
    if default is not None and not text(name):
        return default
    return (BASE_DIR / Path(text(name)).expanduser()).resolve()


def weights(name: str) -> dict[str, float]:
    """A comma list of part=weight with the parts of the default, which together make 1.

    Raises:
        ImproperlyConfigured: another part, no number, a negative one, or another sum.
    """
    value = text(name)
    expected = f"{name}: found {value!r}, expected each of "
    parts = [row.partition("=")[0] for row in VARIABLES[name].default.split(",")]
    expected += f"{', '.join(parts)} as part=weight, from 0 to 1 and together 1"
    rows = [row.strip().partition("=") for row in value.split(",")]
    try:
        found = {part.strip(): float(weight) for part, _, weight in rows}
    except ValueError as error:
        raise ImproperlyConfigured(expected) from error
    usable = sorted(found) == sorted(parts) and len(rows) == len(parts) and min(found.values()) >= 0
    if not usable or not math.isclose(sum(found.values()), 1.0, abs_tol=1e-6):
        raise ImproperlyConfigured(expected)
    return found
