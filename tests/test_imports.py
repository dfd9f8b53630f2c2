"""Fresh interpreters prove what an import loads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

CODE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
import django
django.setup()
__import__({module!r})
heavy = sorted({{name.split(".")[0] for name in sys.modules}} & {{"torch", "monai"}})
sys.exit(f"{module} loads " + ", ".join(heavy) if heavy else 0)
"""


@pytest.mark.parametrize(
    "module", ["fusion.build", "portal.urls", "workers.tasks", "fusion.baseline"]
)
def test_no_process_loads_torch_before_a_stage_needs_it(module: str, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(module=module)],
        cwd=ROOT,
        env={**os.environ, "IMAGINGX_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
