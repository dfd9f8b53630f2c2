"""What somebody proposes to correct: a value for one field of a record, and how it is known. Pure.

An accepted correction is one more line of curation in the record, above all others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from catalog import vocab
from catalog.claims import CURATION, line_of
from catalog.faults import Fault, FaultsError, closest
from catalog.licences import LICENCES, from_text
from catalog.record import CLAIMED, COUNTED, DatasetRecord, Link
from catalog.search.facets import unknown_value

FIELDS = (*CLAIMED, "counts", "links")
FACET_OF: Mapping[str, str] = MappingProxyType(
    {"modalities": "modality", "anatomies": "anatomy", "tasks": "task", "diseases": "disease",
     "dimensions": "dimension"}
)  # fmt: skip
LICENCES_OF = frozenset({"licence", "licence_labels"})
LARGEST = 20_000  # characters of a value as JSON
PARTED: Mapping[str, str] = MappingProxyType(
    {"counts": "number, unit, what and split", "links": "url and kind"}
)


class CorrectionError(FaultsError):
    """Something of a proposed correction that cannot be used."""


def check_field(field: str) -> None:
    """Raises CorrectionError for a field that no correction can be about."""
    if field not in FIELDS:
        fault = Fault("field", field, f"one of {', '.join(FIELDS)}", closest(field, FIELDS))
        raise CorrectionError([fault])


def canonical(field: str, value: Any) -> Any:
    """The value as a record file holds it: terms by their names, synonyms replaced; null: unknown.

    A count is `{number, unit, what, split}`, a link `{url, kind}`.

    Raises:
        CorrectionError: no such field, or a value that it cannot hold, with the nearest valid one.
    """
    check_field(field)
    _check_size(value)
    if field in FACET_OF and isinstance(value, list):
        value = _terms(FACET_OF[field], value)
    elif field in LICENCES_OF and isinstance(value, str):
        value = _licence(value)
    if field in PARTED and not isinstance(value, dict):
        raise CorrectionError([Fault("value", str(value), f"an object with {PARTED[field]}")])
    item = _item(field, line_of(field, value))
    if field == "counts":
        return {key: getattr(item, key) for key in COUNTED}
    if field == "links":
        return {"url": item.url, "kind": item.kind}
    return item.model_dump(mode="json")["value"]


def _check_size(value: Any) -> None:
    text = json.dumps(value)
    if value == "" or len(text) > LARGEST or "\\u0000" in text:
        found = "nothing" if value == "" else f"{len(text)} characters"
        expected = f"a value of at most {LARGEST} printable characters, or null for unknown"
        raise CorrectionError([Fault("value", found, expected)])


def _terms(facet: str, values: list[Any]) -> list[str]:
    found = [(str(text), vocab.resolve(facet, str(text))) for text in values]
    faults = [unknown_value(facet, text) for text, term in found if term is None]
    if faults:
        raise CorrectionError(
            Fault("value", one.found, f"a term of the {facet} vocabulary", one.nearest)
            for one in faults
        )
    return list(dict.fromkeys(term.name for _, term in found if term is not None))


def _licence(text: str) -> str:
    if (known := from_text(text)) is not None:
        return known.id
    expected = "an SPDX id, or a LicenseRef that the catalog knows"
    raise CorrectionError([Fault("value", text, expected, closest(text, tuple(LICENCES)))])


def _item(field: str, line: Mapping[str, Any]) -> Any:
    """One claim, count or link by the rules of record files."""
    row = {"slug": "x", "name": "x", "sources": [{"id": CURATION}], field: [line]}
    try:
        return getattr(DatasetRecord.model_validate(row), field)[0]
    except ValidationError as error:
        raise CorrectionError(_fault(one) for one in error.errors(include_url=False)) from error


def _fault(error: Any) -> Fault:
    steps = [str(step) for step in error["loc"][2:] if step != "value"]
    expected = str(error["msg"]).removeprefix("Value error, ")
    return Fault(".".join(["value", *steps]), str(error["input"]), expected)


def with_line(record: DatasetRecord, field: str, line: Mapping[str, Any]) -> DatasetRecord:
    """The record with `line` above the others of its field; once, though it be there already.

    Raises:
        CorrectionError: a line that record files may no longer hold.
    """
    item = _item(field, line)
    return record.model_copy(update={field: [item, *_others(record, field, item)]})


def without_line(record: DatasetRecord, field: str, line: Mapping[str, Any]) -> DatasetRecord:
    """The record without `line`; the same if it is not there."""
    return record.model_copy(update={field: _others(record, field, _item(field, line))})


def _others(record: DatasetRecord, field: str, item: Any) -> list[Any]:
    def same(one: Any) -> bool:
        return one.url == item.url if isinstance(item, Link) else bool(one == item)

    return [one for one in getattr(record, field) if not same(one)]
