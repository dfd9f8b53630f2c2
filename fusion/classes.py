"""The classes of one case, in the plan's concepts: 1 present, 0 absent, -1 uncertain."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fusion.arrays import label_at
from fusion.cases import FoundCase
from fusion.errors import nearest
from fusion.imaging.errors import CaseError
from fusion.source import BACKGROUND, OTHER, ClassLabels, SourceDescription, concepts_in, parts_of
from fusion.tables import need_columns, rows_of

STATES: Mapping[str, int | None] = {"1": 1, "0": 0, "-1": -1, "": None}
States = dict[str, int | None]
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?)-(-?\d+(?:\.\d+)?)|([<>]=?)(-?\d+(?:\.\d+)?)")


def class_of(
    description: SourceDescription, source: Mapping[str, Any], root: Path, case: FoundCase
) -> dict[str, int] | None:
    """State of each of the plan's concepts that was looked for; None without class labels.

    A concept is present when one of the source's classes that mean it is; absent when all are.
    What nobody looked for in this case is left out.

    Raises:
        CaseError: label_missing, label_unmapped, label_ambiguous or label_ignored.
    """
    rule = description.classes
    if rule is None:
        return None
    own = _states(rule, root, case)
    found = {}
    for concept in source["annotated"]:
        states = [s for c, s in own.items() if source["mapping"].get(c) == concept]
        state = rolled_up(states)
        if state is None and not states and rule.is_exclusive:
            state = 0
        if state is not None:
            found[concept] = state
    if not found:
        raise CaseError("label_missing", f"{case.name}: none of its classes is annotated")
    return found


def rolled_up(states: Iterable[int | None]) -> int | None:
    """A concept's state from those of its kinds: present, else uncertain, unknown or absent."""
    seen = list(states)
    if 1 in seen:
        return 1
    if -1 in seen:
        return -1
    return None if None in seen or not seen else 0


def confounded(cases: Iterable[Mapping[str, Any]]) -> list[str]:
    """Concepts of which the cases of one source alone have any, with that source (rule E10).

    Descriptions say what a source may have; this counts what came of its cases.
    """
    having: dict[str, set[str]] = {}
    sources = set()
    for case in cases:
        sources.add(case["source"])
        for concept, state in (case["classes"] or {}).items():
            if state == 1:
                having.setdefault(concept, set()).add(case["source"])
    alone = {c: found for c, found in sorted(having.items()) if len(found) == 1 < len(sources)}
    return [f"{concept} occurs in {source} only" for concept, (source,) in alone.items()]


def _states(rule: ClassLabels, root: Path, case: FoundCase) -> States:
    """State of every concept of the rule, in the source's own concepts."""
    if rule.table:
        wanted = list(rule.columns) or [rule.column]
        need_columns(root, rule, wanted)
        rows = rows_of(root, rule, case)
        if not rows:
            raise CaseError("label_missing", f"{case.name}: {', '.join(rule.table)} has no row")
        if rule.columns:
            cells = [{c: row[c] for c in rule.columns} for row in rows]
            return _of_columns(rule, cells, rule.columns, case.name)
        return _of_words(rule, [row[rule.column] for row in rows], case.name)
    if case.array is not None:
        values = np.ravel(label_at(root, case.array))
        if len(values) == 1:
            return _of_words(rule, [_number(values[0])], case.name)
        if rule.exclusive is None:
            raise CaseError(
                "label_unmapped",
                f"{case.name}: its label has {len(values)} columns: state exclusive: true or false",
            )
        columns = {str(i): rule.values.get(str(i), BACKGROUND) for i in range(len(values))}
        row = {str(i): _number(value) for i, value in enumerate(values)}
        return _of_columns(rule, [row], columns, case.name)
    return _of_words(rule, [dict(case.fields).get(rule.field, "")], case.name)


def _number(value: Any) -> str:
    if isinstance(value, str | bytes):
        return (value if isinstance(value, str) else value.decode("latin-1")).strip()
    return f"{float(value):g}" if float(value) != int(value) else str(int(value))


def _of_words(rule: ClassLabels, cells: list[str], name: str) -> States:
    """Classes that cells name."""
    words = [w.strip() for cell in cells for w in (cell.split(rule.sep) if rule.sep else [cell])]
    words = list(dict.fromkeys(w for w in words if w))
    if not words:
        code = "label_ignored" if "" in rule.ignore_values else "label_missing"
        raise CaseError(code, f"{name}: its class is blank, which is not 'normal'")
    if len(cells) > 1 and not rule.many_rows and len(set(cells)) > 1:
        seen = ", ".join(dict.fromkeys(cells))
        raise CaseError("label_ambiguous", f"{name}: {len(cells)} rows of a table say {seen}")
    named = [mapped(rule, word, name) for word in words if word not in rule.ignore_values]
    if not named:
        raise CaseError("label_ignored", f"{name}: class {words[0]!r} is left out on purpose")
    present = {part for meaning in named for part in parts_of(meaning)}
    if rule.is_exclusive and len(set(named)) > 1:
        raise CaseError("label_ambiguous", f"{name}: {' and '.join(words)}, classes are exclusive")
    others = 0 if rule.is_exclusive or rule.unlisted == "absent" else None
    return {concept: 1 if concept in present else others for concept in rule.concepts()}


def mapped(rule: ClassLabels, word: str, name: str) -> str:
    """The concept that a word of the table means.

    Raises:
        CaseError: label_unmapped, with the words that are known.
    """
    if word in rule.values:
        return rule.values[word]
    exact, ranges = _numbers(tuple(rule.values))
    try:
        number = float(word)
    except ValueError:
        number = float("nan")
    for key in (exact.get(number), *(k for k, low, high in ranges if low <= number <= high)):
        if key is not None:
            return rule.values[key]
    if OTHER in rule.values:
        return rule.values[OTHER]
    known = ", ".join(rule.values)
    hint = nearest(word, rule.values)
    raise CaseError("label_unmapped", f"{name}: class {word!r} is not one of {known}{hint}")


@lru_cache(maxsize=64)
def _numbers(keys: tuple[str, ...]) -> tuple[dict[float, str], list[tuple[str, float, float]]]:
    """Keys that are numbers, and those that are ranges with their ends included."""
    exact: dict[float, str] = {}
    ranges = []
    for key in keys:
        if match := _RANGE.fullmatch(key.replace(" ", "")):
            ranges.append((key, *_ends(match)))
            continue
        try:
            exact[float(key)] = key
        except ValueError:
            continue
    return exact, ranges


def _ends(match: re.Match[str]) -> tuple[float, float]:
    if match[1] is not None:
        return float(match[1]), float(match[2])
    end = float(match[4])
    beyond = float(np.nextafter(end, np.inf if match[3][0] == ">" else -np.inf))
    end = end if "=" in match[3] else beyond
    return (end, np.inf) if match[3][0] == ">" else (-np.inf, end)


def _of_columns(
    rule: ClassLabels, rows: list[dict[str, str]], columns: Mapping[str, str], name: str
) -> States:
    """One column per concept."""
    if len({tuple(row.items()) for row in rows}) > 1 and not rule.many_rows:
        raise CaseError("label_ambiguous", f"{name}: {len(rows)} rows of a table differ")
    by_concept: dict[str, list[int | None]] = {}
    positive = []
    for column, concept in columns.items():
        states = [_state(rule, row[column], f"{name}: {column}") for row in rows]
        state = _voted(states) if rule.majority else 1 if 1 in states else rolled_up(states)
        if state == 1:
            positive.append(column)
        for part in concepts_in([concept]):
            by_concept.setdefault(part, []).append(state)
    if all(state is None for states in by_concept.values() for state in states):
        raise CaseError("label_missing", f"{name}: every class is blank, which is not 'normal'")
    if rule.is_exclusive and len(positive) != 1:
        seen = ", ".join(positive) or "none"
        raise CaseError("label_ambiguous", f"{name}: one class is expected, it has {seen}")
    if rule.is_exclusive:
        mine = parts_of(columns[positive[0]])
        return {c: int(c in mine) for c in by_concept}
    return {concept: rolled_up(states) for concept, states in by_concept.items()}


def _voted(states: Sequence[int | None]) -> int | None:
    """What more than half of the readers say; uncertain where no state has so many."""
    told = Counter(state for state in states if state is not None)
    if not told:
        return None
    state, votes = told.most_common(1)[0]
    return state if 2 * votes > told.total() else -1


def _state(rule: ClassLabels, cell: str, where: str) -> int | None:
    if cell in rule.states:
        return rule.states[cell]
    try:
        number = float(cell)
    except ValueError:
        number = float("nan")
    if rule.threshold is not None and number == number:  # noqa: PLR0124 - not NaN
        return int(number > rule.threshold)
    text = _number(number) if np.isfinite(number) else cell
    if text in rule.states:
        return rule.states[text]
    if text in STATES:
        return STATES[text]
    known = ", ".join(repr(one) for one in {**STATES, **rule.states})
    raise CaseError("label_unmapped", f"{where} is {cell!r}, expected one of {known}")
