"""Log lines that say what they belong to: a run, its stage and case, or a request.

Fields are bound to the context and stand in every line that is written within it; a line stays one
line, and no secret of the settings is written.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from pythonjsonlogger.json import JsonFormatter

from fusion.sources.credentials import KINDS

#: In the order in which a line shows them.
FIELDS = ("request", "run", "upload", "stage", "chunk", "source", "case", "worker", "attempt")
SECRETS = (
    "SECRET_KEY",
    "METRICS_TOKEN",
    "EMAIL_HOST_PASSWORD",
    "OIDC_CLIENT_SECRET",
    *KINDS,
)
HIDDEN = "***"
_opened: set[str] = set()  # credentials of users that this process has read
_SHORTEST_SECRET = 4  # what is shorter would hide half of the words
_bound: ContextVar[Mapping[str, Any]] = ContextVar("log_fields", default=MappingProxyType({}))
#: What ends a line, or steers a terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Every line within has these fields, beside those bound before."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def bind(**fields: Any) -> None:
    """The same from here to the end of the innermost `bound`."""
    _bound.set({**_bound.get(), **fields})


class AddFields(logging.Filter):
    """Copies the bound fields to the record; on the handler, so that no logger escapes it."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _bound.get().items():
            if not hasattr(record, name):
                setattr(record, name, str(value) if value is not None else "")
        # Django puts a request itself where its id belongs, in lines written after its end too.
        if not isinstance(request := getattr(record, "request", ""), str):
            record.request = getattr(request, "id", "")
        return True


class OneLine(logging.Formatter):
    """`time level logger [fields] message`, on one line whatever the message holds."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name}{fields} {message}", style="{")

    def format(self, record: logging.LogRecord) -> str:
        found = ((name, getattr(record, name, "")) for name in FIELDS)
        fields = " ".join(f"{name}={value}" for name, value in found if value)
        record.fields = f" [{fields}]" if fields else ""
        return without_secrets(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The traceback that `format` adds has lines of its own; indented, none looks like ours."""
        return as_one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        text = super().formatException(ei)
        return "\n".join(f"    {as_one_line(line)}" for line in text.split("\n"))


class JsonLine(JsonFormatter):
    """One JSON object a line; control characters are escaped by JSON itself."""

    def __init__(self) -> None:
        super().__init__(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            json_ensure_ascii=True,
        )
        self.default_msec_format = "%s.%03d"

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Before JSON escapes them: a secret may hold quotes."""
        return {
            key: without_secrets(value) if isinstance(value, str) else value
            for key, value in log_data.items()
        }


def as_one_line(text: str) -> str:
    """Control characters as escapes."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def without_secrets(text: str) -> str:
    """The text with each secret of the settings blotted out."""
    for secret in _secrets():
        text = text.replace(secret, HIDDEN)
    return text


def hide(secrets: Iterable[str]) -> None:
    """Blot these out of every line of this process from now on."""
    _opened.update(secrets)


def _secrets() -> set[str]:
    """Keys, tokens and the passwords in addresses, as they are now."""
    found = {str(getattr(settings, name, "") or "") for name in SECRETS} | _opened
    found |= {str(database.get("PASSWORD") or "") for database in settings.DATABASES.values()}
    found |= set(settings.CREDENTIAL_KEYS)
    bundles = settings.STORAGES.get("bundles", {}).get("OPTIONS", {})
    found.add(str(bundles.get("secret_key") or ""))
    for address in (settings.CELERY_BROKER_URL, settings.SEARCH_URL):
        password = urlsplit(address).password or ""
        found |= {password, unquote(password)}
    return {secret for secret in found if len(secret) >= _SHORTEST_SECRET}
