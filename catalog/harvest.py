"""The compact table of a harvested source: one line an entry, written and read back without loss.

Columns: ref, name, aliases, links, counts, and for each field that an entry claims its value and,
in `<field>_raw`, the source's own word. Columns that no entry needs are left out.

- A list stands as "a|b", an empty list as "[]", a structured value as JSON.
- "?" is a claim without a value. An empty cell is no claim.
- In `<field>_raw` "=" is the value's own text, and an empty cell says that no word was kept.
- A link stands as "kind address", a count as `16 subject`, with `split="train"`, `what=...` and
  `raw=...` behind it where there are such.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from catalog.claims import Claim, Strict, sources
from catalog.importers.cells import make_claim
from catalog.importers.entry import Entry
from catalog.record import CLAIMED, LISTS, Count, Link
from catalog.records_io import Problem, RecordError

HEAD = ("ref", "name", "aliases", "links", "counts")
RAW = "_raw"
NO_VALUE, EMPTY, SAME = "?", "[]", "="
STRUCTURED = frozenset({"spacing", "citation"})
NUMBERS = frozenset({"year", "size_bytes"})
BOOLEANS = {"true": True, "false": False}
_MORE = r'(?: (?:what|split|raw)="(?:[^"\\]|\\.)*")*'
_COUNT = re.compile(rf"(?P<number>\d+)(?: (?P<unit>[a-z]+)(?=[ ;]|$))?(?P<more>{_MORE})")


@dataclass(frozen=True)
class Changes:
    """Refs by what a new reading of a source makes of them, each in the new table's order."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]
    unchanged: tuple[str, ...]


def compare(before: Iterable[Entry], after: Iterable[Entry]) -> Changes:
    """What differs between two readings of one source."""
    old = {entry.ref: entry for entry in before}
    new = {entry.ref: entry for entry in after}
    both = [ref for ref in new if ref in old]
    return Changes(
        new=tuple(ref for ref in new if ref not in old),
        changed=tuple(ref for ref in both if new[ref] != old[ref]),
        gone=tuple(ref for ref in old if ref not in new),
        unchanged=tuple(ref for ref in both if new[ref] == old[ref]),
    )


def write_table(entries: Iterable[Entry], path: Path) -> int:
    """Write the entries of one source, by ref, and return how many there are.

    Raises:
        ValueError: the file is not named after the entries' source, a ref comes twice, or an entry
            holds what the table has no place for.
    """
    rows = sorted(entries, key=lambda entry: entry.ref)
    text = format_table(rows, path.stem)
    partial = path.with_suffix(".partial")
    partial.write_text(text, "utf-8", newline="")
    os.replace(partial, path)  # noqa: PTH105
    return len(rows)


def format_table(entries: list[Entry], source: str) -> str:
    """The table's text.

    Raises:
        ValueError: as for `write_table`.
    """
    if source not in sources():
        raise ValueError(f"found the table {source!r}, expected one of {', '.join(sources())}")
    refs = [entry.ref for entry in entries]
    for place, ref in enumerate(refs):
        if ref in refs[:place]:
            raise ValueError(f"{ref}: comes twice")
    for entry in entries:
        if entry.source != source:
            raise ValueError(f"{entry.ref}: found source {entry.source!r}, expected {source!r}")
    cells = [cells_of(entry) for entry in entries]
    used = {column for row in cells for column, text in row.items() if text}
    order = [*HEAD, *(column for field in CLAIMED for column in (field, field + RAW))]
    columns = [column for column in order if column in used or column in HEAD[:2]]
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: row.get(column, "") for column in columns} for row in cells)
    text = out.getvalue()
    for entry, again in zip(entries, parse_table(text, f"{source}.csv"), strict=True):
        if entry != again:
            raise ValueError(f"{entry.ref}: a text of it cannot stand in the table as it is")
    return text


def cells_of(entry: Entry) -> dict[str, str]:
    """The cells of an entry by column; those that it does not fill may lack or be empty.

    Raises:
        ValueError: it holds what the table has no place for.
    """
    row = {
        "ref": entry.ref,
        "name": entry.name,
        "aliases": _join(entry.aliases),
        "links": _join(_link_text(entry, link) for link in entry.links),
        "counts": "; ".join(_count_text(entry, count) for count in entry.counts),
    }
    for field, claim in entry.facts.items():
        _plain(entry, field, claim, {"value", "raw"})
        row[field] = _value_text(field, claim.value)
        row[field + RAW] = _raw_text(claim.raw, row[field])
    return row


def _plain(entry: Entry, field: str, item: Strict, kept: set[str]) -> None:
    """Refuse what the table cannot hold, so that nothing is lost silently."""
    if getattr(item, "source", entry.source) != entry.source:
        raise ValueError(f"{entry.ref}: {field}: comes from another source")
    data = item.model_dump(exclude_defaults=True)
    extra = set(data) - kept - {"source"}
    if extra:
        raise ValueError(f"{entry.ref}: {field}: no place for {', '.join(sorted(extra))}")


def _join(texts: Iterable[str]) -> str:
    return "|".join(text.replace("\\", "\\\\").replace("|", "\\|") for text in texts)


def _parts(cell: str) -> list[str]:
    parts = re.findall(r"(?:[^|\\]|\\.)+", cell)
    if "|".join(parts) != cell:
        raise ValueError("expected texts with one | between them")
    return [re.sub(r"\\(.)", r"\1", part) for part in parts]


def _link_text(entry: Entry, link: Link) -> str:
    _plain(entry, "links", link, {"url", "kind"})
    return f"{link.kind} {link.url}"


def _count_text(entry: Entry, count: Count) -> str:
    _plain(entry, "counts", count, {"number", "unit", "what", "split", "raw"})
    more = "".join(
        f" {key}={json.dumps(text, ensure_ascii=False)}"
        for key in ("split", "what", "raw")
        if (text := getattr(count, key)) is not None
    )
    return f"{count.number}{f' {count.unit}' if count.unit else ''}{more}"


def _value_text(field: str, value: Any) -> str:
    if value is None:
        return NO_VALUE
    if field in STRUCTURED:
        data = value.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    if field in LISTS:
        return _join(value) if value else EMPTY
    return str(value).lower() if isinstance(value, bool) else str(value)


def _raw_text(raw: str | None, value: str) -> str:
    if raw is None:
        return ""
    if raw == value:
        return SAME
    return SAME + raw if raw.startswith(SAME) else raw


def read_table(path: Path) -> Iterator[Entry]:
    """Every entry of a table, in its order.

    Raises:
        RecordError: the file is missing, no table of a source, or holds a faulty cell; names file,
            line, column and value of each.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError([Problem(path.name, 0, "", f"cannot be read: {error}")]) from error
    yield from parse_table(text, path.name)


def parse_table(text: str, file: str) -> list[Entry]:
    """The entries of a table's text; `file` names the source.

    Raises:
        RecordError: as for `read_table`.
    """
    source = Path(file).stem
    reader = csv.reader(io.StringIO(text, newline=""))
    columns = next(reader, [])
    known = {*HEAD, *CLAIMED, *(field + RAW for field in CLAIMED)}
    problems = [
        Problem(file, 1, column, "found an unknown column")
        for column in columns
        if column not in known
    ]
    if source not in sources():
        expected = ", ".join(sources())
        problems.append(Problem(file, 0, "", f"found {source!r}, expected one of {expected}"))
    missing = [column for column in HEAD[:2] if column not in columns]
    problems += [Problem(file, 1, column, "missing") for column in missing]
    if problems:
        raise RecordError(problems)
    found: list[Entry] = []
    taken: set[str] = set()
    line = reader.line_num + 1
    for cells in reader:
        if len(cells) != len(columns):
            message = f"found {len(cells)} cells, expected {len(columns)}"
            problems.append(Problem(file, line, "", message))
        else:
            row = dict(zip(columns, cells, strict=True))
            entry = _read_row(row, source, file, line, problems)
            if row["ref"] in taken:
                problems.append(Problem(file, line, "ref", f"found {row['ref']!r} twice"))
            taken.add(row["ref"])
            found += [entry] if entry else []
        line = reader.line_num + 1
    if problems:
        raise RecordError(problems)
    return found


def entry_of(cells: Mapping[str, str], source: str) -> Entry:
    """The entry that cells of `cells_of` stand for.

    Raises:
        RecordError: a cell is faulty.
    """
    problems: list[Problem] = []
    entry = _read_row(cells, source, f"{source}.csv", 0, problems)
    if problems or entry is None:
        raise RecordError(problems)
    return entry


def _read_row(
    row: Mapping[str, str], source: str, file: str, line: int, problems: list[Problem]
) -> Entry | None:
    """The entry of one row; None where a cell is faulty, which is added to the problems."""
    facts: dict[str, Claim[Any]] = {}
    done: dict[str, Any] = {}
    for column in HEAD:
        try:
            done[column] = _read_head(column, row.get(column, ""), source)
        except (ValueError, ValidationError) as error:
            problems.append(Problem(file, line, column, _message(row.get(column, ""), error)))
    for field in CLAIMED:
        cell, raw = row.get(field, ""), row.get(field + RAW, "")
        try:
            if claim := _read_claim(field, cell, raw, source):
                facts[field] = claim
        except (ValueError, ValidationError) as error:
            problems.append(Problem(file, line, field, _message(cell, error)))
    if len(done) < len(HEAD):
        return None
    return Entry(source=source, facts=facts, **done)


def _message(cell: str, error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        reason = str(first["msg"]).removeprefix("Value error, ")
    else:
        reason = str(error)
    return reason if reason.startswith("found ") else f"found {cell!r}: {reason}"


def _read_head(column: str, cell: str, source: str) -> Any:
    if column in {"ref", "name"}:
        if not cell:
            raise ValueError("expected a text")
        return cell
    if column == "links":
        pairs = [part.partition(" ") for part in _parts(cell)]
        rows = [{"kind": kind, "url": url, "source": source} for kind, _, url in pairs]
        return tuple(Link.model_validate(row) for row in rows)
    if column == "counts":
        return tuple(_read_counts(cell, source))
    return tuple(_parts(cell))


def _read_counts(cell: str, source: str) -> Iterator[Count]:
    place = 0
    while place < len(cell):
        match = _COUNT.match(cell, place)
        ends = match and (match.end() == len(cell) or cell.startswith("; ", match.end()))
        if not match or not ends:
            raise ValueError('expected counts such as `16 subject; 3 study split="train"`')
        more = re.findall(r'(what|split|raw)=("(?:[^"\\]|\\.)*")', match["more"])
        words = {key: json.loads(text) for key, text in more}
        data = {"number": int(match["number"]), "unit": match["unit"], "source": source, **words}
        yield Count.model_validate(data)
        place = match.end() + len("; ")


def _read_claim(field: str, cell: str, raw: str, source: str) -> Claim[Any] | None:
    if not cell:
        if raw:
            raise ValueError(f"expected a value or {NO_VALUE!r} beside the raw {raw!r}")
        return None
    word = cell if raw == SAME else raw.removeprefix(SAME) if raw.startswith(SAME) else raw
    return make_claim(field, _read_value(field, cell), source, word)


def _read_value(field: str, cell: str) -> Any:
    if cell == NO_VALUE:
        return None
    if field in LISTS:
        return [] if cell == EMPTY else _parts(cell)
    if field in STRUCTURED:
        return json.loads(cell)
    if field in NUMBERS:
        if not re.fullmatch(r"\d+", cell):
            raise ValueError(f"found {cell!r}, expected a whole number")
        return int(cell)
    if field == "labelled":
        if cell not in BOOLEANS:
            raise ValueError(f"found {cell!r}, expected true or false")
        return BOOLEANS[cell]
    return cell
