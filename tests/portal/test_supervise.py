"""Processes that live and end together, with real processes."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

import pytest

from portal.supervise import Child, PortInUseError, check_port, run_together

SLEEP = "import time; time.sleep(60)"
STUBBORN = (
    "import signal, time\n"
    "for s in (signal.SIGTERM, signal.SIGQUIT): signal.signal(s, signal.SIG_IGN)\n"
    "time.sleep(60)"
)


def python(name: str, code: str) -> Child:
    return Child(name, [sys.executable, "-c", code], os.environ)


def test_a_child_that_dies_stops_the_others():
    sleeper, dying = python("web server", SLEEP), python("worker", "raise SystemExit(3)")

    child, code = run_together([sleeper, dying])

    assert (child.name, code) == ("worker", 3)
    assert sleeper.exit_code == -signal.SIGTERM


@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_within_seconds_even_the_stubborn(number: signal.Signals):
    children = [python("web server", SLEEP), python("worker", STUBBORN)]
    threading.Timer(1.5, os.kill, (os.getpid(), number)).start()
    start = time.monotonic()

    assert run_together(children) is None

    assert time.monotonic() - start < 8
    assert [child.exit_code for child in children] == [-signal.SIGTERM, -signal.SIGKILL]


def test_a_port_in_use_is_refused_with_a_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"PORT: found {port} in use.*PORT=\d+ is free"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
