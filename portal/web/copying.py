"""A request as text that a person can run elsewhere. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from urllib.parse import urlencode

Params = Iterable[tuple[str, str]]

_PYTHON = """\
import json
from urllib.parse import urlencode
from urllib.request import urlopen

address = {address}
params = [{params}]

with urlopen(address + "?" + urlencode(params)) as answer:
    found = json.load(answer)
for one in found[{rows}]:
    print(one["slug"], "-", one["name"])
"""


def as_curl(address: str, params: Params) -> str:
    """A shell command that writes the JSON to standard output."""
    question = urlencode(list(params))
    return f"curl {shlex.quote(f'{address}?{question}' if question else address)}"


def as_python(address: str, params: Params, rows: str) -> str:
    """A program for plain Python that lists the datasets in `rows` of the answer."""
    pairs = [f"\n    ({_literal(name)}, {_literal(value)})," for name, value in params]
    listed = "".join(pairs) + ("\n" if pairs else "")
    return _PYTHON.format(address=_literal(address), params=listed, rows=_literal(rows))


def _literal(text: str) -> str:
    """A string literal in double quotes: what JSON escapes, Python reads the same."""
    return json.dumps(text, ensure_ascii=False)
