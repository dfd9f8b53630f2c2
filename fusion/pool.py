"""Cases beside each other, each in a bounded child process; what they give comes back in order."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from fusion.imaging.errors import CaseError
from fusion.imaging.io.guard import Guard
from fusion.imaging.parallel import core_count

#: Memory that one more child must find free to be worth starting.
CHILD_BYTES = 4 * 1024**3
#: A child takes a second to start: it should have some cases to do.
CASES_PER_CHILD = 8
#: Children that wait for the next build; the others end with theirs and free their memory.
CHILDREN_KEPT = 1
_POLL_SECONDS = 0.2
_kept: list[Guard] = []
_keeping = threading.Lock()


def share_cores(threads: int, children: int, cases: int) -> tuple[int, int]:
    """Threads for each child, and how many children, for so many cases.

    Args:
        threads: cores to use in all; 0: those that this process may use.
        children: as configured; 0: as many as cores and memory allow.
        cases: work that lies ahead.
    """
    threads = threads or core_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    children = children or min(threads, memory // CHILD_BYTES)
    children = max(1, min(children, -(-cases // CASES_PER_CHILD)))
    return max(1, threads // children), children


def in_children(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    children: int,
    check: Callable[[], None],
    keep: int = 0,
) -> Generator[Any, None, None]:
    """`function(*job)` of each job in order of `jobs`, or the CaseError that it ended with.

    `check` is called often; where it raises, all children end at once. Else CHILDREN_KEPT of them
    (`keep`, if more) wait for the next call: small builds would mostly wait for a child to start.
    """
    guards: queue.SimpleQueue[Guard] = queue.SimpleQueue()
    begun = [_take() for _ in range(children)]
    for guard in begun:
        guards.put(guard)

    def work(job: tuple[Any, ...]) -> Any:
        guard = guards.get()
        try:
            return guard.call(function, *job)
        except CaseError as error:
            return error
        finally:
            guards.put(guard)

    ahead: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(children) as threads:
        try:
            for number in range(len(jobs) + 2 * children):
                if number < len(jobs):
                    ahead.append(threads.submit(work, jobs[number]))
                if ahead and (number >= 2 * children or number >= len(jobs)):
                    yield _result(ahead.popleft(), check)
        except BaseException:
            for guard in begun:
                guard.stop()
            threads.shutdown(cancel_futures=True)
            for guard in begun:
                guard.close()
            raise
    _give_back(begun, max(keep, CHILDREN_KEPT))


def _result(future: Future[Any], check: Callable[[], None]) -> Any:
    check()
    while not wait([future], _POLL_SECONDS).done:
        check()
    return future.result()


def _take() -> Guard:
    with _keeping:
        return _kept.pop() if _kept else Guard(preload=("fusion.build",))


def end_waiting_children() -> None:
    """End those that wait for a next call, but for CHILDREN_KEPT."""
    _give_back([], CHILDREN_KEPT)


def _give_back(guards: list[Guard], keep: int) -> None:
    with _keeping:
        _kept.extend(guards)
        ended = _kept[keep:]
        del _kept[keep:]
    for guard in ended:
        guard.close()
