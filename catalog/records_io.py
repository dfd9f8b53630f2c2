"""Read and write record files: YAML with a stable key order, errors with file and line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from catalog.record import DatasetRecord

FOLDER = Path(__file__).resolve().parent / "records"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
LINE_WIDTH = 100


@dataclass(frozen=True)
class Problem:
    """One fault of one record file; `line` counts from 1, 0 when it cannot be told."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return (
            f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"
        )


class RecordError(ValueError):
    """Record files that cannot be used; `problems` lists every fault found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def parse_record(text: str, file: str) -> DatasetRecord:
    """One record from its YAML text.

    Raises:
        RecordError: with the file, line, value and, where there is one, the nearest valid value.
    """
    try:
        data = yaml.load(text, Loader=_LOADER)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"no valid YAML: {error.problem or error.context}"
        raise RecordError([Problem(file, mark.line + 1 if mark else 0, "", message)]) from error
    except yaml.YAMLError as error:
        raise RecordError([Problem(file, 0, "", f"no valid YAML: {error}")]) from error
    if not isinstance(data, dict):
        found = type(data).__name__
        raise RecordError([Problem(file, 1, "", f"found {found}, expected a mapping of fields")])
    try:
        return DatasetRecord.model_validate(data)
    except ValidationError as error:
        raise RecordError(_problems(error, text, file)) from error


def _problems(error: ValidationError, text: str, file: str) -> list[Problem]:
    root = yaml.compose(text, Loader=_LOADER)
    return [
        Problem(
            file,
            _line(root, item["loc"]),
            ".".join(str(step) for step in item["loc"]),
            _message(item),
        )
        for item in error.errors(include_url=False)
    ]


def _message(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        fields = ", ".join(DatasetRecord.model_fields)
        return f"found an unknown key, expected one of {fields}"
    if item["type"] == "value_error":
        return str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "missing":
        return "missing"
    return f"found {item['input']!r}: {item['msg']}"


def _line(node: Any, steps: tuple[int | str, ...]) -> int:
    """The line of the value that a location names, or of the closest part above it."""
    line = int(node.start_mark.line) + 1
    for step in steps:
        if isinstance(node, yaml.MappingNode):
            pairs = [(k, v) for k, v in node.value if k.value == str(step)]
            if not pairs:
                return line
            key, node = pairs[0]
            line = int(key.start_mark.line) + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = int(node.start_mark.line) + 1
        else:
            return line
    return line


def read_folder(folder: Path = FOLDER) -> dict[str, DatasetRecord]:
    """Every record by slug.

    Raises:
        RecordError: a file is faulty, its slug is not its name, or a relation leads nowhere.
    """
    records: dict[str, DatasetRecord] = {}
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            record = parse_record(path.read_text("utf-8"), path.name)
        except RecordError as error:
            problems += error.problems
            continue
        except UnicodeDecodeError as error:
            problems.append(Problem(path.name, 0, "", f"no UTF-8 text: {error.reason}"))
            continue
        if record.slug in records:
            problems.append(Problem(path.name, 1, "slug", f"found {record.slug!r} in two files"))
        elif record.slug != path.stem:
            expected = f"found {record.slug!r}, expected {path.stem!r} as the file is named"
            problems.append(Problem(path.name, 1, "slug", expected))
        records[record.slug] = record
    problems += _dangling(records)
    if problems:
        raise RecordError(problems)
    return records


def _dangling(records: dict[str, DatasetRecord]) -> list[Problem]:
    return [
        Problem(f"{slug}.yaml", 0, "relations", f"found {relation.to!r}, which is no record")
        for slug, record in records.items()
        for relation in record.relations
        if relation.to not in records
    ]


def dump_record(record: DatasetRecord) -> str:
    """YAML text with the model's key order; nulls inside lists are left out."""
    data = {
        key: [_without_nulls(item) for item in value] if isinstance(value, list) else value
        for key, value in record.as_dict().items()
    }
    text: str = yaml.dump(
        data, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=LINE_WIDTH
    )
    return text


def _without_nulls(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    return {key: value for key, value in item.items() if value is not None}


@dataclass(frozen=True)
class Written:
    """How many record files were new, changed, the same, and deleted."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0
    deleted: int = 0


def write_folder(records: list[DatasetRecord], folder: Path, *, source: str) -> Written:
    """Write one file per record; files of `source` alone that are no longer produced go.

    Files that `source` has no part in are left as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    created = changed = unchanged = 0
    for record in records:
        path = folder / f"{record.slug}.yaml"
        text = dump_record(record)
        before = path.read_text("utf-8") if path.exists() else None
        if before == text:
            unchanged += 1
            continue
        created, changed = created + (before is None), changed + (before is not None)
        partial = path.with_suffix(".partial")
        partial.write_text(text, "utf-8")
        os.replace(partial, path)  # noqa: PTH105
    kept = {record.slug for record in records}
    others = [path for path in folder.glob("*.yaml") if path.stem not in kept]
    gone = [path for path in others if _is_of(path, source)]
    for path in gone:
        path.unlink()
    return Written(created, changed, unchanged, len(gone))


def _is_of(path: Path, source: str) -> bool:
    record = parse_record(path.read_text("utf-8"), path.name)
    return any(ref.id == source for ref in record.sources)
