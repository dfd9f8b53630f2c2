"""What the steps of the wizard share: reading a form into a recipe.

A step's `apply` gives the changed recipe and what was typed wrong, its `context` what its page
shows beside the draft; `typed` is the form as it came when something in it was wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping
from typing import Any

from django.http import QueryDict

from fusion.errors import Problem
from fusion.recipe import Splits, Target
from fusion.recipe_draft import (
    Checked,
    Draft,
    DraftSource,
)

Data = dict[str, Any]
Typed = Mapping[str, Any]
Applied = tuple[Data, list[Problem]]


def changed(draft: Draft) -> Data:
    return copy.deepcopy(dict(draft.data))


def part(data: Data, key: str) -> MutableMapping[str, Any]:
    """A mapping of a recipe that can be written to."""
    if not isinstance(data.get(key), dict):
        data[key] = {}
    held: MutableMapping[str, Any] = data[key]
    return held


def put(held: MutableMapping[str, Any], key: str, value: Any, default: Any) -> None:
    """What is the default is not written down."""
    if value == default:
        held.pop(key, None)
    else:
        held[key] = value


def wrong_value(path: str, found: str, expected: str, nearest: str = "") -> Problem:
    hint = f"; nearest: {nearest!r}" if nearest else ""
    return Problem(path, found, expected, f"{path}: found {found!r}, expected {expected}{hint}")


def number(form: QueryDict, name: str, path: str, wrong: list[Problem]) -> float | None:
    text = form.get(name, "").strip().replace(",", ".")
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        wrong.append(wrong_value(path, text, "a number"))
        return None


def one_of(form: QueryDict, name: str, allowed: Mapping[str, Any] | tuple[str, ...],
            now: Any, wrong: list[Problem]) -> Any:  # fmt: skip
    value = form.get(name)
    if value is None:
        return now
    if value not in allowed:
        wrong.append(wrong_value(name, value, f"one of {', '.join(allowed)}"))
        return now
    return value


def invalid(data: Data, key: str, model: type[Target | Splits], wrong: list[Problem]) -> None:
    """What the recipe would refuse of this part."""
    try:
        model.model_validate(data.get(key, {}))
    except ValueError as error:
        for row in error.errors():  # type: ignore[attr-defined] # of pydantic
            path = ".".join(map(str, (key, *row["loc"])))
            found = str(row["input"])[:80]
            wrong.append(Problem(path, found, row["msg"], f"{path}: {row['msg']}"))


def asks(form: QueryDict, name: str) -> bool:
    """The form has this part: browsers send nothing of a box that is not ticked."""
    return name in form.getlist("has")


def name_of(source: DraftSource, facts: Mapping[str, Mapping[str, Any]]) -> str:
    own = source.description.name if source.description else ""
    return own or facts.get(source.dataset, {}).get("name") or source.dataset or source.id


def gates(found: Checked, *codes: str) -> list[Any]:
    return [gate for gate in found.gates if gate.code in codes]
