"""The examples of docs/client.md, run in their order against a live portal."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from imagingx.cli import main
from portal.api.errors import CODE_OF
from tests.conftest import ROOT
from tests.factories import make_bundle

PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def bundle_with_manifest():
    case = {"id": "a-1", "source": "a", "split": "train", "shape": [2, 3], "annotated": [],
            "files": [], "classes": None}  # fmt: skip
    return make_bundle({"manifest.json": json.dumps({"cases": [case]}).encode()})


@pytest.fixture
def there(portal, monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGINGX_URL", portal.url)
    monkeypatch.chdir(tmp_path)
    bundle_with_manifest()


@pytest.mark.usefixtures("there")
def test_the_python_examples_run(capsys):
    names: dict[str, object] = {}
    examples = blocks("python")
    for example in examples:
        exec(example, names)  # noqa: S102 - our own page

    told = capsys.readouterr().out
    assert len(examples) >= 5
    assert "first-fundus because of" in told
    assert "query_invalid" in told
    assert "cancelled" in told
    names["portal"].close()


@pytest.mark.usefixtures("there")
def test_the_commands_run():
    lines = [line for block in blocks("console") for line in block.splitlines()]

    assert len(lines) >= 8
    for line in lines:
        program, *words = shlex.split(line.removeprefix("$ "))
        assert (program, main(words)) == ("imagingx", 0), line


def test_every_code_of_an_error_is_documented():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")

    assert [code for code in CODE_OF.values() if f"`{code}`" not in page] == []
