"""Read and write record files: YAML with a stable key order, errors with file and line.

A claim stands on one line, so that a correction is one added line in a review.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from catalog.record import DatasetRecord

FOLDER = Path(__file__).resolve().parent / "records"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
ONE_LINE = 1_000_000


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
        RecordError: a file is faulty or its slug is not its name.
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
    if problems:
        raise RecordError(problems)
    return records


class _Inline(dict[str, Any]):
    """A mapping that is written on one line."""


class _Dumper(_DUMPER):  # type: ignore[misc, valid-type]
    """Block style outside, one line for each claim."""


_Dumper.add_representer(
    _Inline,
    lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True),
)


def dump_record(record: DatasetRecord) -> str:
    """YAML text with the model's key order; what is null, empty or a default is left out."""
    data = record.model_dump(mode="json", exclude_defaults=True)
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            data[key] = [_Inline(item) for item in value]
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=ONE_LINE)
    return text


@dataclass(frozen=True)
class Written:
    """How many record files were new, changed and the same."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0


def write_folder(records: Iterable[DatasetRecord], folder: Path) -> Written:
    """Write one file per record; other files are left as they are."""
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
    return Written(created, changed, unchanged)
