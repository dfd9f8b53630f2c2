"""What a file does to its reader ends a child process, never the build."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fusion.imaging.errors import CaseError
from fusion.imaging.io import LabelSet, Limits, read_image, write_nifti
from fusion.imaging.io.guard import Guard
from fusion.imaging.io.labelset import layered
from fusion.imaging.volume import Picture, Volume
from tests.imaging.make import noise, placed

GRID = placed((7, 6, 5), (0.9, 1.3, 2.5), "LPI")


@pytest.fixture(scope="module")
def guard():
    with Guard(memory_bytes=1024**3, seconds=60, preload=(__name__,)) as one:
        yield one


def refusal(guard, function, *args):
    with pytest.raises(CaseError) as caught:
        guard.call(function, *args)
    return caught.value


# What runs in the child: each is what a damaged file does to some reader.
def crash():
    ctypes.string_at(0)


def leave():
    os._exit(3)


def hang():
    time.sleep(600)


def spin():
    while True:
        pass


def allocate(gib):
    return int(np.ones(int(gib * 1024**3), np.uint8)[0])


def fail(text):
    raise KeyError(text)


def disk_full():
    raise OSError(28, "No space left on device")


def nest(depth):
    return nest(depth + 1)


def talk():
    sys.stdout.write("to stdout")
    os.write(1, b"again")
    return "heard"


def connect():
    socket.socket()


def run_program():
    subprocess.run(["/bin/true"], check=True)


def environment():
    return dict(os.environ)


def descriptors():
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder's own
            found.append(str(link.readlink()))
    return found


def many_things():
    mask = np.zeros(GRID.shape, bool)
    mask[2] = True
    labels = LabelSet(layered(GRID, [(1, mask)], 1), {1: "Leber"})
    picture = Picture(np.arange(12, dtype=np.uint16).reshape(3, 4), 12, ("burned_in_annotation",))
    return {"a": [1, 2.5, None, "ü"], "labels": labels, 3: (picture, np.float32(1.5))}


def process():
    return os.getpid()


def test_an_image_comes_through_as_it_is_read_here(tmp_path, guard):
    volume = noise(GRID)
    write_nifti(volume, tmp_path / "a.nii.gz")

    there, here = guard.read_image(tmp_path / "a.nii.gz"), read_image(tmp_path / "a.nii.gz")

    assert isinstance(there, Volume)
    np.testing.assert_array_equal(there.array, here.array)
    np.testing.assert_array_equal(there.grid.affine, here.grid.affine)
    assert there.array.flags.f_contiguous == here.array.flags.f_contiguous
    assert there.array.flags.writeable
    assert (there.geometry, there.unit, there.flags) == (here.geometry, here.unit, here.flags)


def test_refusals_keep_their_code_and_words(tmp_path, guard):
    (tmp_path / "a.nii").write_bytes(b"nothing")
    with pytest.raises(CaseError) as here:
        read_image(tmp_path / "a.nii")
    with pytest.raises(CaseError) as there:
        guard.read_image(tmp_path / "a.nii")
    assert (there.value.code, there.value.message) == (here.value.code, here.value.message)
    with pytest.raises(CaseError) as there:
        guard.read_image(tmp_path / "a.nii", Limits(file_bytes=2))
    assert there.value.code == "size_limit"


def test_structures_pictures_and_plain_data_come_back(guard):
    found = guard.call(many_things)
    assert found["a"] == [1, 2.5, None, "ü"]
    assert found["labels"].names == {1: "Leber"}
    assert int(found["labels"].mask(1).sum()) == 30
    picture, number = found[3]
    assert (picture.array.tolist(), picture.bits, number) == (
        np.arange(12).reshape(3, 4).tolist(), 12, 1.5,
    )  # fmt: skip
    assert picture.flags == ("burned_in_annotation",)


@pytest.mark.parametrize(
    ("function", "args", "code", "words"),
    [
        (crash, (), "unreadable", "SIGSEGV"),
        (leave, (), "unreadable", "exit status 3"),
        (allocate, (4,), "size_limit", "more than 1 GiB"),
        (fail, ("x",), "unreadable", "KeyError: 'x'"),
        (nest, (0,), "unreadable", "RecursionError"),
    ],
)
def test_a_crash_or_a_hunger_excludes_the_case_and_the_next_is_read(
    guard, function, args, code, words
):
    error = refusal(guard, function, *args)
    assert error.code == code
    assert words in error.message
    assert guard.call(allocate, 0.25) == 1


@pytest.mark.parametrize("function", [hang, spin])
def test_what_takes_too_long_is_ended(function):
    with Guard(seconds=2, preload=(__name__,)) as quick:
        child = quick.call(process)
        error = refusal(quick, function)
        assert error.code == "size_limit"
        assert "longer than 2 s" in error.message
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
        assert quick.call(process) != child


def test_a_full_disk_is_not_the_fault_of_the_case(guard):
    with pytest.raises(OSError, match="No space left") as caught:
        guard.call(disk_full)
    assert caught.value.errno == 28


def test_one_child_serves_many_calls_and_prints_disturb_nothing(guard):
    first = guard.call(process)
    assert guard.call(talk) == "heard"
    assert guard.call(process) == first != os.getpid()


def test_the_child_opens_no_socket_and_starts_no_program(guard):
    assert guard.bounds["memory_bytes"] == 1024**3
    if not guard.bounds["no_network_no_programs"]:
        pytest.fail("expected on Linux: x86-64 and ARM64")
    for function in (connect, run_program):
        with pytest.raises(OSError, match="not permitted"):
            guard.call(function)


def test_neither_secrets_nor_open_files_reach_the_child(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "secret")
    server = socket.create_server(("127.0.0.1", 0))
    server.set_inheritable(True)
    with Guard() as fresh, server, (tmp_path / "open").open("wb") as file:
        os.set_inheritable(file.fileno(), True)
        assert "secret" not in fresh.call(environment).values()
        opened = fresh.call(descriptors)
        assert not [name for name in opened if "socket" in name or str(tmp_path) in name]


def test_a_child_that_was_killed_is_replaced(guard):
    os.kill(guard.call(process), signal.SIGKILL)
    assert guard.call(talk) == "heard"


def _in_pool_worker(path, results):
    with Guard() as own:
        results.put(own.read_image(path).array.shape)


def test_it_works_inside_a_daemonic_process(tmp_path):
    write_nifti(noise(GRID), tmp_path / "a.nii")
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    worker = context.Process(target=_in_pool_worker, args=(tmp_path / "a.nii", results))
    worker.daemon = True
    worker.start()
    assert results.get(timeout=120) == GRID.shape
    worker.join(30)


def _start_and_vanish(results):
    results.put(Guard().call(process))
    results.close()
    results.join_thread()
    os._exit(0)


def test_the_child_ends_with_its_parent():
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    parent = context.Process(target=_start_and_vanish, args=(results,))
    parent.start()
    child = results.get(timeout=120)
    parent.join(30)
    for _ in range(300):
        if not Path(f"/proc/{child}").exists():
            return
        if "Z" in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]:
            return
        time.sleep(0.1)
    pytest.fail("the child outlives its parent")
