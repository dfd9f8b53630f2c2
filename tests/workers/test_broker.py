"""The embedded broker: messages come whole, once, and in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kombu import Connection

WRITER = """
import sys
from kombu import Connection
folder = sys.argv[1]
options = {"data_folder_in": folder, "data_folder_out": folder}
with Connection("fs://x", transport="workers.broker:Transport", transport_options=options) as c:
    queue = c.SimpleQueue("cpu")
    for number in range(int(sys.argv[2])):
        queue.put({"n": number, "padding": "x" * 5000})
"""
COUNT = 300


def connect(folder: Path) -> Connection:
    options = {
        "data_folder_in": str(folder),
        "data_folder_out": str(folder),
        "polling_interval": 0.001,
    }
    return Connection("fs://x", transport="workers.broker:Transport", transport_options=options)


def test_messages_written_while_they_are_read_arrive_whole_and_in_order(tmp_path: Path):
    with connect(tmp_path) as connection:
        queue = connection.SimpleQueue("cpu")
        writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, str(COUNT)])
        got = []
        while len(got) < COUNT:
            message = queue.get(timeout=30)
            got.append(message.payload["n"])
            message.ack()
        assert writer.wait(timeout=30) == 0

    assert got == list(range(COUNT))
    assert list(tmp_path.iterdir()) == []


def test_a_queue_gives_only_its_own_messages(tmp_path: Path):
    with connect(tmp_path) as connection:
        cpu, gpu = connection.SimpleQueue("cpu"), connection.SimpleQueue("gpu")
        gpu.put({"n": 1})
        cpu.put({"n": 2})

        assert cpu.get(timeout=5).payload == {"n": 2}
        assert gpu.get(timeout=5).payload == {"n": 1}


def test_a_message_given_back_is_delivered_again(tmp_path: Path):
    with connect(tmp_path) as connection:
        queue = connection.SimpleQueue("cpu")
        queue.put({"n": 1})
        queue.get(timeout=5).requeue()

        assert queue.get(timeout=5).payload == {"n": 1}


FULL_DISK = """
import errno, resource, sys
from kombu import Connection
folder = sys.argv[1]
options = {"data_folder_in": folder, "data_folder_out": folder}
with Connection("fs://x", transport="workers.broker:Transport", transport_options=options) as c:
    queue = c.SimpleQueue("cpu")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        queue.put({"padding": "x" * 5000})
    except Exception as error:
        sys.exit(0 if "File too large" in repr(error) else repr(error))
sys.exit("the message was written")
"""


def test_a_message_that_the_disk_cannot_hold_leaves_nothing_behind(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
