"""Publisher's own bytes, for sources that may be passed on but not adapted."""

from __future__ import annotations

import re
from pathlib import Path

from fusion.bundle.content import Content, Row, ships_original
from fusion.bundle.pixels import words_beside
from fusion.bundle.shards import Item, Sample

ORIGINALS = "original"  # prefix of their shards
_SUFFIX = re.compile(r"\.(nii\.gz|nii|png|jpe?g)$", re.IGNORECASE)


def read_originals(content: Content) -> tuple[list[str], list[Sample]]:
    """Why some originals stay out, and a sample per case with those that go in.

    A file goes in when it is one image file whose words can be read and that holds none beside its
    pixels: its bytes cannot be cleaned, because they may not be changed.
    """
    withheld: list[str] = []
    samples = []
    for case in content.cases:
        source = content.source_of(case)
        items = [
            item
            for role, row in _originals(case)
            if ships_original(source, "labels" if "label" in role else "images")
            and (item := _item(content, case, role, row, withheld)) is not None
        ]
        if items:
            samples.append(Sample(str(case["id"]), tuple(items)))
    return withheld, samples


def _originals(case: Row) -> list[tuple[str, Row]]:
    origin = case["origin"]
    images = [origin["image"], *origin.get("channels", [])]
    return [
        (f"original_{kind}_{number}" if number else f"original_{kind}", row)
        for kind, rows in (("image", images), ("label", origin.get("labels", [])))
        for number, row in enumerate(rows)
    ]


def _item(content: Content, case: Row, role: str, row: Row, withheld: list[str]) -> Item | None:
    path = Path(content.roots.get(str(case["source"]), Path())) / str(row["path"])
    match = _SUFFIX.search(path.name)
    if match is None or not path.is_file():
        withheld.append(f"{case['id']}: {role}: its format cannot be searched for words")
        return None
    words = words_beside(path.name, path.read_bytes())
    if words is None:
        withheld.append(f"{case['id']}: {role}: it cannot be searched for words")
        return None
    if words:
        withheld.append(f"phi_found: {case['id']}: {role}: {len(words)} texts beside its pixels")
        return None
    return Item(f"{case['id']}.{role}{match[0].lower()}", path, str(row["sha256"]))
