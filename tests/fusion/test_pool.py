"""Cases beside each other: order, faults and cancelling are those of one after the other."""

from __future__ import annotations

import os
import signal
import time

import pytest

from fusion.errors import CancelledError
from fusion.imaging.errors import CaseError
from fusion.pool import in_children, share_cores


def slow_first(number):
    time.sleep(0.3 if number == 0 else 0)
    return number, os.getpid()


def troubled(number):
    if number == 2:
        raise CaseError("degenerate", "one value only")
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def endless(_):
    time.sleep(600)


def nothing():
    pass


def test_answers_come_in_the_order_of_the_jobs_from_several_processes():
    found = list(in_children(slow_first, [(n,) for n in range(20)], 2, nothing))

    assert [number for number, _ in found] == list(range(20))
    pids = {pid for _, pid in found}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_a_refused_case_and_a_killed_child_leave_the_others_alone():
    found = list(in_children(troubled, [(n,) for n in range(8)], 2, nothing))

    assert [one for one in found if not isinstance(one, CaseError)] == [0, 1, 4, 5, 6, 7]
    assert (found[2].code, found[3].code) == ("degenerate", "unreadable")
    assert "SIGKILL" in found[3].message


def test_cancelling_ends_running_children():
    started = time.monotonic()

    def check():
        if time.monotonic() - started > 3:
            raise CancelledError

    with pytest.raises(CancelledError):
        list(in_children(endless, [(n,) for n in range(4)], 2, check))


@pytest.mark.parametrize(
    ("threads", "children", "cases", "expected"),
    [
        (8, 0, 1, (8, 1)),
        (1, 0, 100, (1, 1)),
        (8, 2, 100, (4, 2)),
        (2, 3, 100, (1, 3)),
        (8, 4, 0, (8, 1)),
    ],
)
def test_cores_are_shared_among_children_not_multiplied(threads, children, cases, expected):
    assert share_cores(threads, children, cases) == expected
