"""MedMNIST and MedSegBench: image sets cut to one size from other datasets, an entry each.

Numbers and classes are those of the benchmark's own set, not of the dataset that it was made from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from catalog.importers.cells import (
    MAX_CLASSES,
    Facts,
    addresses,
    links,
    parse_doi,
    read_json,
    split,
    tasks_in,
)
from catalog.importers.entry import Entry, ImportSourceError
from catalog.record import Count, Link, Unit

MEDMNIST = "medmnist"
MEDSEGBENCH = "medsegbench"
SPLITS = ("train", "val", "test")
NO_CLASSES = frozenset({"background", "foreground", "unknown"})
NO_LICENCE = "Does not have copyright information"


def medmnist(folder: Path) -> Iterator[Entry]:
    """Every set of `medmnist/info.json`; its ref is the key there.

    Raises:
        ImportSourceError: the file is missing or not as expected.
    """
    for ref, info in _sets(folder / "medmnist" / "info.json"):
        yield parse_medmnist(ref, info)


def medsegbench(folder: Path) -> Iterator[Entry]:
    """Every set of `medsegbench/info.json`; its ref is the key there.

    Raises:
        ImportSourceError: the file is missing or not as expected.
    """
    for ref, info in _sets(folder / "medsegbench" / "info.json"):
        yield parse_medsegbench(ref, info)


def entries(folder: Path) -> Iterator[Entry]:
    """The sets of both benchmarks."""
    yield from medmnist(folder)
    yield from medsegbench(folder)


def _sets(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise ImportSourceError(f"{path.name}: found {type(found).__name__}, expected an object")
    for ref, info in found.items():
        missing = {"python_class", "task", "n_samples", "license"} - set(info)
        if missing:
            raise ImportSourceError(f"{path.name}: {ref}: expected {', '.join(sorted(missing))}")
        yield ref, info


def parse_medmnist(ref: str, info: Mapping[str, Any]) -> Entry:
    """One set for classification."""
    solid = ref.endswith("3d")
    facts = Facts(MEDMNIST)
    facts.state("tasks", tasks_in(split(info["task"], ",")), info["task"])
    facts.state("dimensions", ["3D" if solid else "2D"])
    facts.state("labelled", True)
    facts.state("classes", classes(info["label"]))
    facts.state_licence(info["license"])
    return Entry(
        source=MEDMNIST,
        ref=ref,
        name=info["python_class"],
        links=tuple(_downloads(MEDMNIST, info["url"])),
        facts=facts.claims,
        counts=tuple(counts(MEDMNIST, info["n_samples"], "volume" if solid else "image")),
    )


def parse_medsegbench(ref: str, info: Mapping[str, Any]) -> Entry:
    """One set for segmentation; the licence is that of the dataset that it was made from."""
    facts = Facts(MEDSEGBENCH)
    facts.state("tasks", ["Segmentation"])
    facts.state("dimensions", ["2D"])
    facts.state("labelled", True)
    facts.state("classes", classes(info["pixel_labels"]))
    if info["license"] != NO_LICENCE:
        facts.state_licence(info["license"])
    return Entry(
        source=MEDSEGBENCH,
        ref=ref,
        name=info["python_class"],
        links=(*_references(info["reference"]), *_downloads(MEDSEGBENCH, info["url_512"])),
        facts=facts.claims,
        counts=tuple(counts(MEDSEGBENCH, info["n_samples"], "image")),
    )


def counts(source: str, samples: Mapping[str, int], unit: Unit) -> Iterator[Count]:
    """The whole, then the parts for training, validation and test; parts by label are left out."""
    parts = {name: samples[name] for name in SPLITS if samples.get(name)}
    if parts:
        yield Count(number=sum(parts.values()), unit=unit, source=source)
    for name, number in parts.items():
        yield Count(number=number, unit=unit, split=name, source=source)


def classes(labels: Mapping[str, str]) -> list[str]:
    """Names of labels; none where they are mere numbers, and no background."""
    names = list(dict.fromkeys(name.strip() for name in labels.values()))
    real = [name for name in names if name.casefold() not in NO_CLASSES and not name.isdigit()]
    return real if len(real) <= MAX_CLASSES else []


def _downloads(source: str, url: str) -> Iterator[Link]:
    page = re.sub(r"/files/.*$", "", url)
    yield Link(url=page, kind="download", source=source)


def _references(text: str) -> Iterator[Link]:
    """Addresses of the original dataset, and its DOIs as addresses."""
    urls = []
    for part in split(text, ", "):
        doi = None if part.startswith("http") else parse_doi(part)
        urls += addresses(part) or ([f"https://doi.org/{doi}"] if doi else [])
        if doi is None and (paper := re.fullmatch(r"arxiv[.:](\d{4}\.\d{4,5})", part.casefold())):
            urls.append(f"https://arxiv.org/abs/{paper[1]}")
    yield from links(MEDSEGBENCH, urls)
