"""Tables that come with a dataset: read once, found by the case that a row speaks of."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from fusion.cases import FoundCase, with_split
from fusion.imaging.errors import CaseError
from fusion.imaging.io import LIMITS
from fusion.source import CrossId, SourceDescription, SplitFrom, Table

Row = Mapping[str, str]
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".xlsx", ".json", ".jsonl", ".ndjson"})
MAX_BYTES = 1 << 30
_NOBODY = "subject not stated"  # the one subject of all cases whose subject is blank


@dataclass(frozen=True)
class Sheet:
    """One table: its columns, and rows whose cells are text without space around it."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    encoding: str = "utf-8"


def version_of(path: Path) -> tuple[int, int]:
    """Changes when the file does."""
    try:
        stat = path.stat()
    except OSError as missing:
        raise CaseError("unreadable", f"{path.name}: {missing.strerror}") from missing
    return stat.st_size, stat.st_mtime_ns


def rows_of(root: Path, table: Table, case: FoundCase) -> tuple[Row, ...]:
    """The rows that speak of `case`, in order; read once for all cases.

    Raises:
        CaseError: unreadable, when a table cannot be read or lacks the key column.
    """
    return _index(root, table).get(key_of(table, case), ())


def key_of(table: Table, case: FoundCase) -> str:
    """How the table names this case."""
    filled = table.match.format(**{"name": case.name, **dict(case.fields)})
    return _normal(table.pattern, filled)


def _normal(pattern: str, text: str) -> str:
    if pattern and (match := re.fullmatch(pattern, text)):
        return str(match[1] if match.re.groups else match[0])
    return text


def cross_ids_of(root: Path, rules: Sequence[CrossId], case: FoundCase) -> list[str]:
    """`scheme:value` of each official id that the rules can tell of a case."""
    found = []
    for rule in rules:
        texts: Sequence[str]
        if rule.table:
            need_columns(root, rule, [rule.key, rule.column])
            texts = [row[rule.column] for row in rows_of(root, rule, case)]
        else:
            texts = [case.subject or "", case.name]
        for text in texts:
            match = re.search(rule.cut, text)
            value = (match[1 if match.re.groups else 0] or "") if match and rule.cut else ""
            value = value if rule.cut else text
            if value.strip():
                found.append(f"{rule.scheme}:{value.strip()}")
                break
    return found


def sheet(path: Path, table: Table) -> Sheet:
    """One table.

    Raises:
        CaseError: unreadable or size_limit.
    """
    return _read(path, tuple(table.header), table.sheet, table.records, version_of(path))


def _index(root: Path, table: Table) -> Mapping[str, tuple[Row, ...]]:
    paths = tuple(root / name for name in table.table)
    how = (tuple(table.header), table.sheet, table.records)
    return _indexed(paths, table.key, table.pattern, how, tuple(version_of(p) for p in paths))


@lru_cache(maxsize=8)
def _indexed(
    paths: tuple[Path, ...],
    key: str,
    pattern: str,
    how: tuple[tuple[str, ...], str, str],
    versions: tuple[tuple[int, int], ...],
) -> Mapping[str, tuple[Row, ...]]:
    found: dict[str, list[Row]] = {}
    for path, version in zip(paths, versions, strict=True):
        one = _read(path, *how, version)
        _need(path, one, [key])
        for row in one.rows:
            found.setdefault(_normal(pattern, row[key]), []).append(row)
    return {name: tuple(rows) for name, rows in found.items()}


def need_columns(root: Path, table: Table, columns: Iterable[str]) -> None:
    """Every table of the rule has these columns.

    Raises:
        CaseError: unreadable, naming those that it has.
    """
    for name in table.table:
        _need(root / name, sheet(root / name, table), columns)


def _need(path: Path, one: Sheet, columns: Iterable[str]) -> None:
    if lack := [c for c in columns if c not in one.columns]:
        raise CaseError(
            "unreadable", f"{path.name}: no column {lack}; it has {list(one.columns)[:40]}"
        )


@lru_cache(maxsize=8)
def _read(
    path: Path, header: tuple[str, ...], sheet_name: str, records: str, _: tuple[int, int]
) -> Sheet:
    LIMITS.check_file(path)
    if (size := path.stat().st_size) > MAX_BYTES:
        raise CaseError("size_limit", f"{path.name}: {size} bytes, limit {MAX_BYTES} of a table")
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        known = ", ".join(sorted(TABLE_SUFFIXES))
        raise CaseError("unreadable", f"{path.name}: {suffix!r} is no table; known: {known}")
    if suffix == ".xlsx":
        return _of_lines(path, _workbook(path, sheet_name), header, "utf-8")
    text, encoding = _text(path)
    if suffix in {".json", ".jsonl", ".ndjson"}:
        return replace(_of_json(path, text, suffix, records), encoding=encoding)
    try:
        lines = list(_split(text, suffix))
    except csv.Error as error:
        raise CaseError("unreadable", f"{path.name}: {error}") from error
    return _of_lines(path, lines, header, encoding)


def _text(path: Path) -> tuple[str, str]:
    data = path.read_bytes()
    for encoding in (
        ("utf-8-sig", "utf-16") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig",)
    ):
        try:
            return data.decode(encoding), encoding.removesuffix("-sig")
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1"), "latin-1"


def _split(text: str, suffix: str) -> Iterator[list[str]]:
    first = text.partition("\n")[0]
    bare = re.sub(r'"[^"]*"', "", first)
    delimiter = "\t" if suffix == ".tsv" else max(",;\t|", key=bare.count)
    if bare.count(delimiter) == 0 and suffix == ".txt":
        return (line.split() for line in text.splitlines())
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)


def _of_lines(
    path: Path, lines: Iterable[Sequence[str]], header: tuple[str, ...], encoding: str
) -> Sheet:
    cells = [[cell.strip() for cell in line] for line in lines]
    cells = [line for line in cells if any(line)]
    columns = header or tuple(cells.pop(0) if cells else ())
    if twice := sorted({c for c in columns if c and columns.count(c) > 1}):
        raise CaseError("unreadable", f"{path.name}: column {twice[0]!r} is there twice")
    rows = []
    for number, line in enumerate(cells, 1 if header else 2):
        if len(line) > len(columns) and any(line[len(columns) :]):
            raise CaseError(
                "unreadable",
                f"{path.name}: row {number} has {len(line)} cells, expected {len(columns)}",
            )
        padded = [*line, *[""] * (len(columns) - len(line))]
        rows.append(dict(zip(columns, padded, strict=False)))
    return Sheet(columns, tuple(rows), encoding)


def _workbook(path: Path, name: str) -> list[list[str]]:
    import openpyxl

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(one.file_size for one in archive.infolist())
        is_small = size < MAX_BYTES
        book = openpyxl.load_workbook(path, read_only=True, data_only=True) if is_small else None
    except Exception as error:
        # openpyxl answers damaged workbooks with whatever its parsers raise.
        raise CaseError("unreadable", f"{path.name}: no workbook: {error}") from error
    if book is None:
        raise CaseError("size_limit", f"{path.name}: unpacks to {size} bytes, limit {MAX_BYTES}")
    if name and name not in book.sheetnames:
        raise CaseError("unreadable", f"{path.name}: no sheet {name!r}; it has {book.sheetnames}")
    page = book[name] if name else book.worksheets[0]
    try:
        rows = [[_cell(value) for value in row] for row in page.iter_rows(values_only=True)]
    except Exception as error:
        raise CaseError("unreadable", f"{path.name}: no sheet can be read: {error}") from error
    finally:
        book.close()
    return rows


def _cell(value: Any) -> str:
    """A value as the text that a .csv would hold."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _of_json(path: Path, text: str, suffix: str, records: str) -> Sheet:
    try:
        if suffix == ".json":
            data = json.loads(text)
        else:
            data = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise CaseError("unreadable", f"{path.name}: no JSON: {error}") from error
    for step in filter(None, records.split(".")):
        if not isinstance(data, dict) or step not in data:
            raise CaseError("unreadable", f"{path.name}: no records at {records!r}")
        data = data[step]
    if isinstance(data, dict):
        data = [
            {"key": key, **(one if isinstance(one, dict) else {"value": one})}
            for key, one in data.items()
        ]
    if not isinstance(data, list):
        raise CaseError("unreadable", f"{path.name}: {type(data).__name__}, expected a list")
    rows = [_flat(one) if isinstance(one, dict) else {"value": _cell(one)} for one in data]
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return Sheet(columns, tuple({c: row.get(c, "") for c in columns} for row in rows))


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested keys joined by a dot; a list of words joined by "|"."""
    out: dict[str, str] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            out[prefix + name] = "|".join(_cell(v) for v in value if not isinstance(v, dict | list))
        else:
            out[prefix + name] = _cell(value).strip()
    return out


def look_up(
    description: SourceDescription, root: Path, found: Sequence[FoundCase]
) -> tuple[list[FoundCase], list[dict[str, str]]]:
    """The cases with the subjects and splits that tables state, and what was noticed.

    Raises:
        CaseError: unreadable, when a table cannot be read or lacks a column.
    """
    cases, findings = list(found), list(_encodings(description, root))
    findings += _unused(description, root, cases)
    if (rule := description.cases.subject_column) is not None:
        need_columns(root, rule, [rule.column])
        subjects = [_one_cell(root, rule, rule.column, case) for case in cases]
        cases = [replace(c, subject=s or _NOBODY) for c, s in zip(cases, subjects, strict=True)]
        if unknown := subjects.count(""):
            detail = f"{unknown} cases have no {rule.column} in {', '.join(rule.table)}"
            findings.append({"code": "subjects_unknown", "detail": f"{detail}; they are one group"})
    if (part := description.cases.split_from) is not None:
        if part.column:
            need_columns(root, part, [part.column])
        lists = dict(_listed(root, part))
        cases = [with_split(c, c.split or _split_of(root, part, lists, c)) for c in cases]
    return cases, findings


def _unused(
    description: SourceDescription, root: Path, cases: Sequence[FoundCase]
) -> Iterator[dict[str, str]]:
    """Rows that speak of no case, per table."""
    told = set()
    for rule in (description.classes, description.cases.subject_column):
        if rule is None or not rule.table or tuple(rule.table) in told:
            continue
        told.add(tuple(rule.table))
        keys = _index(root, rule)
        if lost := len(keys.keys() - {key_of(rule, case) for case in cases}):
            # Names of people whose images are elsewhere do not belong in a bundle: counts only.
            detail = f"{', '.join(rule.table)}: {lost} of {len(keys)} names have no image here"
            yield {"code": "table_rows_unused", "detail": detail}


def _split_of(root: Path, part: SplitFrom, lists: Mapping[str, str], case: FoundCase) -> str | None:
    if part.lists:
        return lists.get(key_of(part, case))
    if part.field:
        return part.values.get(dict(case.fields)[part.field])
    return part.values.get(_one_cell(root, part, part.column, case))


def _listed(root: Path, part: SplitFrom) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for file, split in part.lists.items():
        text = _text(root / file)[0] if (root / file).is_file() else None
        if text is None:
            raise CaseError("unreadable", f"{file}: no such list")
        for line in text.splitlines():
            if not (name := _normal(part.pattern, line.strip())):
                continue
            if seen.setdefault(name, split) != split:
                raise CaseError("unreadable", f"{file}: {name} is in {seen[name]} and in {split}")
            yield name, split


def _one_cell(root: Path, table: Table, column: str, case: FoundCase) -> str:
    """The case's cell; rows that say different things are a contradiction."""
    said = {row[column] for row in rows_of(root, table, case)} - {""}
    if len(said) > 1:
        raise CaseError(
            "label_ambiguous",
            f"{', '.join(table.table)}: {case.name} has {column} {' and '.join(sorted(said))}",
        )
    return said.pop() if said else ""


def _encodings(description: SourceDescription, root: Path) -> Iterator[dict[str, str]]:
    rules = [description.cases.subject_column, description.cases.split_from, description.classes]
    names = {name: rule for rule in rules if rule for name in rule.table}
    for name, rule in names.items():
        if (one := sheet(root / name, rule)).encoding not in {"utf-8", "utf-16"}:
            detail = f"{name}: read as {one.encoding}, which cannot be proven"
            yield {"code": "table_encoding", "detail": detail}
