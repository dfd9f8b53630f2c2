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
heavy = sorted({{name.split(".")[0] for name in sys.modules}} & {forbidden!r})
sys.exit(f"{module} loads " + ", ".join(heavy) if heavy else 0)
"""


TRAINING = {"torch", "monai"}
IMAGING = {"scipy", "nibabel", "pydicom", "SimpleITK", "numba"}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("fusion.build", TRAINING),
        ("portal.urls", TRAINING | IMAGING),
        ("workers.tasks", TRAINING | IMAGING | {"pyarrow"}),
        ("fusion.baseline", TRAINING | IMAGING),
    ],
)
def test_no_process_loads_a_heavy_library_before_it_is_needed(
    module: str, forbidden: set[str], tmp_path
):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(module=module, forbidden=forbidden)],
        cwd=ROOT,
        env={**os.environ, "IMAGINGX_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
