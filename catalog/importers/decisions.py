"""The review queue and its answers: `links.csv`, one line an entry that a person decided or must.

Decisions: `same` and `part` (of the record `slug`), `new`, `reject` (with the reason), `open`.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from catalog.importers.entry import ImportSourceError
from catalog.importers.link import Decision, Link

FILE = Path(__file__).resolve().parent / "links.csv"
COLUMNS = ("source", "ref", "name", "decision", "slug", "score", "reason")


def read_decisions(path: Path = FILE) -> dict[tuple[str, str], Link]:
    """Every line by source and ref.

    Raises:
        ImportSourceError: a decision that is none of the five, or one without the slug it needs.
    """
    if not path.is_file():
        return {}
    found: dict[tuple[str, str], Link] = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            where = f"{path.name}:{number}"
            if row["decision"] not in get_args(Decision):
                expected = ", ".join(get_args(Decision))
                message = f"decision: found {row['decision']!r}, expected one of {expected}"
                raise ImportSourceError(f"{where}: {message}")
            if row["decision"] in {"same", "part"} and not row["slug"]:
                raise ImportSourceError(f"{where}: slug: found nothing, expected a record's slug")
            found[row["source"], row["ref"]] = Link(
                source=row["source"],
                ref=row["ref"],
                name=row["name"],
                decision=row["decision"],  # type: ignore[arg-type]
                slug=row["slug"] or None,
                score=float(row["score"] or 0),
                reason=row["reason"],
            )
    return found


def write_decisions(links: Iterable[Link], path: Path = FILE) -> None:
    """All lines in order of source and ref."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in sorted(links, key=lambda row: (row.source, row.ref)):
        score = f"{row.score:g}"
        writer.writerow(
            [row.source, row.ref, row.name, row.decision, row.slug or "", score, row.reason]
        )
    partial = path.with_suffix(".partial")
    partial.write_text(out.getvalue(), "utf-8")
    os.replace(partial, path)  # noqa: PTH105
