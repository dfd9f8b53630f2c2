"""Log lines: one a record, with what they belong to, and no secrets."""

from __future__ import annotations

import json
import logging
import sys
import threading
from typing import Any

import pytest

from workers import logs
from workers.logs import AddFields, JsonLine, OneLine, bind, bound

FORGED = "a title\n2026-01-01 00:00:00,000 INFO workers.runner run 1: all is well\x1b[2J\u2028x"


@pytest.fixture(autouse=True)
def _no_secret_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process hides what it once opened for good; another test's key may be "test"."""
    monkeypatch.setattr(logs, "_opened", set())


def written(formatter: logging.Formatter, message: str, **extra: Any) -> str:
    record = logging.LogRecord("workers.test", logging.INFO, __file__, 1, message, (), None)
    record.__dict__.update(extra)
    assert AddFields().filter(record)
    return formatter.format(record)


def raised(error: Exception) -> Any:
    """What logging is given of an error that was caught."""
    try:
        raise error  # noqa: TRY301
    except Exception:  # noqa: BLE001
        return sys.exc_info()


@pytest.mark.parametrize("formatter", [OneLine(), JsonLine()], ids=["line", "json"])
def test_text_of_users_cannot_begin_a_line_or_steer_a_terminal(formatter: logging.Formatter):
    with bound(case=FORGED):
        line = written(formatter, f"case: {FORGED}")

    assert len(line.splitlines()) == 1
    assert "\x1b" not in line


def test_a_traceback_cannot_hold_a_line_that_looks_like_ours():
    text = written(OneLine(), "it broke", exc_info=raised(ValueError(FORGED)))

    assert [line for line in text.split("\n") if not line.startswith("    ")] == [
        text.split("\n")[0]
    ]
    assert "it broke" in text.split("\n")[0]


def test_a_json_line_has_the_fields_of_its_run():
    with bound(run="r1", stage="acquire"):
        bind(worker="w", attempt=2)
        with bound(source="s", case="c"):
            inner = json.loads(written(JsonLine(), "hello"))
        outer = json.loads(written(JsonLine(), "hello"))
    after = json.loads(written(JsonLine(), "hello"))

    assert inner["message"] == "hello"
    assert (inner["level"], inner["logger"]) == ("INFO", "workers.test")
    fields = {"run": "r1", "stage": "acquire", "worker": "w", "attempt": "2"}
    assert fields.items() <= inner.items()
    assert (inner["source"], inner["case"]) == ("s", "c")
    assert "case" not in outer
    assert "run" not in after


def test_threads_do_not_share_their_fields():
    seen = []
    with bound(run="r1"):
        thread = threading.Thread(target=lambda: seen.append(written(OneLine(), "x")))
        thread.start()
        thread.join()
    assert "r1" not in seen[0]


@pytest.mark.parametrize("formatter", [OneLine(), JsonLine()], ids=["line", "json"])
def test_no_secret_of_the_settings_is_written(formatter: logging.Formatter, settings: Any):
    settings.CELERY_BROKER_URL = "amqp://portal:pass%22word@host//"
    settings.METRICS_TOKEN = 'to"ken-1234'
    settings.HF_TOKEN = "hf_secret"
    message = f'{settings.CELERY_BROKER_URL} pass"word {settings.METRICS_TOKEN} hf_secret'
    info = raised(ConnectionError(settings.SECRET_KEY))
    line = written(formatter, message, exc_info=info)

    for secret in ("pass%22word", 'pass"word', 'pass\\"word', "ken-1234", "hf_secret"):
        assert secret not in line
    assert settings.SECRET_KEY not in line
    assert "host//" in line
