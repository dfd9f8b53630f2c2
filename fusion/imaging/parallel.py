"""Work shared among the threads of one process; what it gives never depends on their number.

For code that releases the GIL. The calling thread takes part and never waits for work that nobody
has begun, so calls may be nested. It is one of the threads to use: with the others there are never
more, so that what is done beside takes no core from it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
#: Elements that are worked on at a time: they stay in the cache.
PIECE = 1 << 18
#: For the environment of a process: glibc keeps freed memory, so that new arrays are not zeroed
#: page by page (1.2-2.4 times faster).
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}


def core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count() -> int:
    """As set, else NUMBA_NUM_THREADS, which workers set, else the cores this process may use."""
    return _chosen or int(os.environ.get("NUMBA_NUM_THREADS") or core_count())


def set_threads(count: int) -> None:
    """Use `count` threads in this process; 0: the default."""
    global _chosen  # noqa: PLW0603 - one number for the process
    _chosen = count
    _pool.cache_clear()


_chosen = 0


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, thread_count() - 1), thread_name_prefix="imaging")


# OpenMP (torch, numba) reads this when it loads. By default its threads spin while they wait: on
# cores that others use, too, a step of training took six times the processor time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Threads do not survive a fork.
os.register_at_fork(after_in_child=_pool.cache_clear)


def for_each(work: Callable[[int], object], count: int) -> None:
    """`work(0)` to `work(count - 1)`, in any order; returns when all are done."""
    turns = iter(range(count))

    def take() -> None:
        for turn in turns:
            work(turn)

    helpers = [_pool().submit(take) for _ in range(min(thread_count(), count) - 1)]
    try:
        take()
    finally:
        for helper in helpers:
            _finish(helper, lambda: None)


def in_slabs(work: Callable[[int, int], object], count: int) -> None:
    """`work(start, stop)` over ranges that cover 0 to `count`."""
    slabs = min(count, 4 * thread_count())
    for_each(lambda n: work(n * count // slabs, (n + 1) * count // slabs), slabs)


def in_order(work: Callable[[int], T], count: int, ahead: int = 0) -> Iterator[T]:
    """The results of `work(0)` to `work(count - 1)`; only a few are held at a time.

    Args:
        ahead: begun before they are asked for, at most; 0: two for each thread.
    """
    ahead = ahead or 2 * thread_count()
    if thread_count() == 1:
        yield from map(work, range(count))
        return
    begun: deque[Future[T]] = deque()
    try:
        for turn in range(count + ahead):
            if turn < count:
                begun.append(_pool().submit(work, turn))
            if turn >= ahead:
                _until_first(begun, work, turn - ahead)
                yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()


def _until_first(begun: deque[Future[T]], work: Callable[[int], T], first: int) -> None:
    """Do what nobody has begun until the first of `begun`, `work(first)`, is under way or done."""
    while not begun[0].done():
        place = next((at for at, future in enumerate(begun) if future.cancel()), None)
        if place is None:
            return
        begun[place] = _done(work, first + place)


def _done(work: Callable[[int], T], turn: int) -> Future[T]:
    future: Future[T] = Future()
    try:
        future.set_result(work(turn))
    except Exception as error:  # noqa: BLE001 - raised where its turn comes
        future.set_exception(error)
    return future


def elementwise(work: Callable[[Any], Any], array: Any, dtype: Any) -> Any:
    """`work` on a piece of `array` at a time, as a new array of `dtype` in its memory order."""
    order: Any = "F" if array.flags.f_contiguous else "C"
    flat = array.reshape(-1, order=order)
    out = np.empty(flat.shape, dtype)

    def piece(number: int) -> None:
        part = slice(number * PIECE, (number + 1) * PIECE)
        out[part] = work(flat[part])

    for_each(piece, -(-len(flat) // PIECE))
    return out.reshape(array.shape, order=order)


def beside(work: Callable[[], T]) -> Callable[[], T]:
    """Begin `work` on another thread where there is one; call the result to have its value."""
    if thread_count() == 1:
        return work
    future = _pool().submit(work)
    return lambda: _finish(future, work)


def _finish(future: Future[T], work: Callable[[], T]) -> T:
    """The future's value; what nobody has begun is done here."""
    return work() if future.cancel() else future.result()
