"""Work shared among threads: in its order, on no more threads than asked for, never stuck."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from fusion.imaging.parallel import beside, for_each, in_order, set_threads


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    set_threads(request.param)
    yield request.param
    set_threads(0)


class Busy:
    """Counts who works at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.who: set[int] = set()
        self._lock = threading.Lock()

    def work(self, turn: int) -> int:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.who.add(threading.get_ident())
        time.sleep(0.002)
        with self._lock:
            self.now -= 1
        return turn * turn


def test_results_come_in_their_order_from_as_many_threads_as_are_set(threads: int):
    busy = Busy()
    assert list(in_order(busy.work, 60)) == [turn * turn for turn in range(60)]
    assert busy.most <= threads
    assert threading.get_ident() in busy.who  # who waits takes part
    assert len(busy.who) == threads


@pytest.mark.usefixtures("threads")
def test_an_error_is_raised_where_its_turn_comes():
    def work(turn: int) -> int:
        if turn == 5:
            raise ValueError("the fifth")
        time.sleep(0.002 if turn == 0 else 0)
        return turn

    results = in_order(work, 20)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="the fifth"):
        next(results)


@pytest.mark.usefixtures("threads")
def test_work_inside_work_ends():
    def inner(turn: int) -> int:
        parts = [0] * 4
        for_each(lambda n: parts.__setitem__(n, turn), 4)
        return sum(parts) + sum(in_order(lambda n: n, 3))

    later = beside(lambda: sum(in_order(inner, 8)))
    assert sum(in_order(inner, 8)) == later() == 4 * sum(range(8)) + 8 * 3


def test_what_is_done_beside_leaves_the_calling_thread_its_core(threads: int):
    busy = Busy()
    own = threading.Event()

    def label() -> None:
        for_each(busy.work, 12)
        own.set()

    later = beside(label)
    if threads > 1:
        assert own.wait(60)
    later()
    assert busy.most <= max(1, threads - 1)
