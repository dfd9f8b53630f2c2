"""A short run of the fuzzer over every reader: the long ones are for `scripts/fuzz_readers.py`."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.conftest import ROOT

READERS = 15
INPUTS = 60


def test_damaged_files_of_every_kind_are_read_or_refused():
    script = [sys.executable, "scripts/fuzz_readers.py", "--inputs", str(INPUTS), "--seed", "3"]
    done = subprocess.run(
        script, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.findall(r"^(\w+): (\d+) inputs, (\d+) read", done.stdout, re.MULTILINE)
    assert len(counts) == READERS
    for name, inputs, read in counts:
        assert int(inputs) == INPUTS, name
        assert 0 < int(read) < INPUTS, f"{name}: either nothing is damaged or everything"
