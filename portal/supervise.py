"""Child processes that live and end together."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import IO

logger = logging.getLogger(__name__)
#: What a process is told, and how long it then has to end. SIGTERM lets a worker finish its
#: stage; SIGQUIT makes it drop it, and the run goes on after the next start.
GENTLE = ((signal.SIGTERM, 2.0), (signal.SIGQUIT, 1.5), (signal.SIGKILL, 5.0))


class PortInUseError(Exception):
    """Something else listens there."""


@dataclass
class Child:
    """A process in a session of its own: Ctrl-C in the terminal reaches the supervisor alone."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    output: IO[bytes] | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT if self.output else None,
            start_new_session=True,
        )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.process.poll() if self.process else None

    def tell(self, number: signal.Signals) -> None:
        """Signal the process; SIGKILL goes to all of its session."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            elif self.process.poll() is None:
                self.process.send_signal(number)


def stop(children: Sequence[Child]) -> None:
    """End all of them, ever less gently, within seconds."""
    for number, seconds in GENTLE:
        for child in children:
            child.tell(number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(_runs(child) for child in children):
            time.sleep(0.05)
        if not any(_runs(child) for child in children):
            break
    for child in children:  # what a dead parent left behind
        child.tell(signal.SIGKILL)


def run_together(children: Sequence[Child]) -> tuple[Child, int] | None:
    """Start them and wait until a signal asks for the end (None) or one of them dies.

    Returns:
        The child that died and its exit code; the others have been stopped by then.
    """
    with stopping_signals() as asked:
        try:
            for child in children:
                child.start()
            while not asked:
                for child in children:
                    if (code := child.exit_code) is not None:
                        return child, code
                time.sleep(0.2)
        finally:
            stop(children)
    return None


@contextlib.contextmanager
def stopping_signals() -> Iterator[list[int]]:
    """A list that SIGINT, SIGTERM and SIGHUP fill instead of ending the process."""
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_port(host: str, port: int) -> None:
    """Refuse a port that cannot be listened on.

    Raises:
        PortInUseError: with the free port to take instead.
    """
    if not _is_free(host, port):
        other = next((p for p in range(port + 1, port + 100) if _is_free(host, p)), None)
        hint = f"; PORT={other} is free" if other else ""
        raise PortInUseError(f"PORT: found {port} in use on {host}, expected a free one{hint}")


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _runs(child: Child) -> bool:
    return child.process is not None and child.exit_code is None
