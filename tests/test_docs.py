"""What the documents list is what the code has."""

from __future__ import annotations

import re

from portal.settings.env import VARIABLES
from tests.conftest import ROOT

ROW = re.compile(
    r"^\| `(?P<name>[A-Z0-9_]+)` \| (?P<default>.+?) \| (?P<meaning>.+) \|$", re.MULTILINE
)


def test_every_variable_is_documented_with_its_default_and_meaning():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")

    documented = {
        row["name"]: (
            "" if row["default"] == "empty" else row["default"].strip("`"),
            row["meaning"],
        )
        for row in ROW.finditer(page)
    }

    assert documented == {v.name: (v.default, v.meaning) for v in VARIABLES.values()}


def test_every_test_variable_is_documented():
    read = re.findall(r"IMAGINGX_[A-Z_]+", (ROOT / "tests" / "conftest.py").read_text())
    page = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")

    assert read
    assert [name for name in read if f"`{name}`" not in page] == []


def test_every_test_that_guards_an_oddity_is_there():
    page = (ROOT / "docs" / "quirks.md").read_text(encoding="utf-8")
    named = re.findall(r"`(?:(tests/[\w/]+\.py)::)?(test_\w+)`", page)

    assert len(named) > 25
    for file, name in named:
        path = ROOT / (file or "tests/fusion/test_quirks.py")
        assert f"def {name}(" in path.read_text(encoding="utf-8"), name
