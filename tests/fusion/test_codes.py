"""Codes are what scripts act on and pages explain: each has a meaning, and something raises it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from fusion.codes import EXCLUSIONS, FAILURES, FINDINGS, MEANINGS

ERRORS = {"CaseError", "BuildError", "BundleError"}
FILES = [
    path
    for folder in ("fusion", "workers")
    for path in (Path(settings.BASE_DIR) / folder).rglob("*.py")
    if path.name != "codes.py"
]


def raised(tree: ast.AST) -> Iterator[str]:
    """Codes that stand in an error, or under `code` in a row of data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant):
                yield str(first.value)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                is_code = isinstance(key, ast.Constant) and key.value == "code"
                if is_code and isinstance(value, ast.Constant):
                    yield str(value.value)


def test_every_code_that_is_raised_has_a_meaning():
    found = {code for path in FILES for code in raised(ast.parse(path.read_text("utf-8")))}

    assert len(found) > 40
    assert found - set(MEANINGS) == set()


def test_every_code_with_a_meaning_can_occur():
    words = {
        node.value
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    made = {f"overlap_{certainty}" for certainty in ("certain", "likely", "possible")}

    assert set(MEANINGS) - words - made == set()


def test_a_code_means_one_thing():
    assert len(MEANINGS) == len(EXCLUSIONS) + len(FINDINGS) + len(FAILURES)
