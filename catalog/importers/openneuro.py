"""OpenNeuro: one entry a dataset with MR or PET; recordings without images are no entries.

`size_gb` is in 2^30 bytes, rounded to 0.01 (so the upstream script computes it). The column `tasks`
names what subjects did in the scanner, not what the data are for, and is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from catalog.importers.cells import (
    Facts,
    exact_number,
    find,
    ordered,
    parse_doi,
    parse_year,
    plain_name,
    read_csv,
    split,
)
from catalog.importers.entry import Entry
from catalog.record import Count, Link

SOURCE = "openneuro"
BYTES_OF_A_GB = 1024**3
SMALLEST_GB = 0.1  # below this the rounding is more than a twentieth of the size
# Older accessions came from OpenfMRI under other terms.
FIRST_CC0_ACCESSION = 1_000
NO_NAMES = frozenset({"", "todo: name of the dataset", "unnamed dataset", "test", "test1"})

Row = Mapping[str, str]

# BIDS suffix -> modality, detail, dimension.
KINDS: Mapping[str, tuple[str | None, str | None, str | None]] = MappingProxyType(
    {
        "mri": ("MR", None, None),
        "mri_functional": ("MR", "MR: functional", "4D"),
        "mri_structural": ("MR", "MR: structural", "3D"),
        "mri_diffusion": ("MR", "MR: diffusion", None),
        "mri_perfusion": ("MR", "MR: perfusion", None),
        "mrs": ("MR", "MR: spectroscopy", None),
        "pet": ("PET", None, None),
        "pet_static": ("PET", "PET: static", "3D"),
        "pet_dynamic": ("PET", "PET: dynamic", "4D"),
        "eeg": ("EEG", None, None),
        "ieeg": ("EEG", "EEG: intracranial", None),
        "meg": ("MEG", None, None),
        "nirs": (None, None, None),
        "beh": (None, None, None),
    }
)
IMAGES = frozenset({"MR", "PET"})
HEALTHY = frozenset({"healthy", "control", "controls", "healthy control", "healthy volunteers"})
ANIMALS = frozenset(
    {"mouse", "mice b6/129p", "rat", "monkey", "macaque", "canine", "sheep", "pigeon", "bat"}
    | {"baboon", "non-human primates"}
)
PHANTOMS = frozenset({"3d printed phantom", "synthetic fibre"})
COLUMNS = (
    "accession_number", "dataset_name", "dataset_url", "made_public", "num_subjects", "modalities",
    "dx_status", "species", "size_gb",
)  # fmt: skip


def entries(folder: Path) -> Iterator[Entry]:
    """Every dataset of `openneuro_metadata/metadata_imaging.csv` that holds images.

    Raises:
        ImportSourceError: the table is missing or not as expected.
    """
    path = folder / "openneuro_metadata" / "metadata_imaging.csv"
    for row in read_csv(path, COLUMNS):
        if (entry := parse_dataset(row)) is not None:
            yield entry


def parse_dataset(row: Row) -> Entry | None:
    """One dataset; None for recordings (EEG, MEG) and behaviour without images."""
    kinds = split(row["modalities"].casefold(), ",")
    known = [KINDS[kind] for kind in kinds if kind in KINDS]
    found = {modality for modality, _, _ in known if modality}
    if not found & IMAGES:
        return None
    ref = row["accession_number"]
    facts = Facts(SOURCE)
    facts.state("year", parse_year(row["made_public"]), row["made_public"])
    facts.state("modalities", ordered("modality", found), row["modalities"])
    details = sorted({detail for _, detail, _ in known if detail})
    facts.state("modality_details", details)
    facts.state("anatomies", anatomies(row))
    _state_diseases(facts, row["dx_status"])
    planes = {plane for _, _, plane in known if plane}
    facts.state("dimensions", ordered("dimension", planes), row["modalities"])
    facts.state("size_bytes", size_bytes(row["size_gb"]), f"{row['size_gb']} GB")
    if is_cc0(ref):
        facts.state("licence", "CC0-1.0")
    facts.state("access", "open")
    facts.state("publisher", "OpenNeuro")
    doi = parse_doi(row["dataset_url"])
    if doi and doi.startswith(f"10.18112/openneuro.{ref}"):
        facts.state("doi", doi)
    number = exact_number(row["num_subjects"])
    return Entry(
        source=SOURCE,
        ref=ref,
        name=name_of(row),
        links=(Link(url=f"https://openneuro.org/datasets/{ref}", source=SOURCE),),
        facts=facts.claims,
        counts=(Count(number=number, unit="subject", source=SOURCE),) if number else (),
    )


def name_of(row: Row) -> str:
    """The dataset's name; its accession number where the name is left over from a template."""
    name = plain_name(row["dataset_name"])
    return row["accession_number"] if name.casefold() in NO_NAMES else name


def anatomies(row: Row) -> list[str]:
    """Brain, unless the name or the species says that another part or a phantom was scanned."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", row["dataset_name"]).casefold().replace("_", " ")
    species = row["species"].casefold()
    found = {"Brain"}
    if species in PHANTOMS or re.search(r"(?<!human )phantoms?$|phantom3d", name):
        found = {"Phantom"}
    elif re.search(r"\bspinal ?cord\b|\bspine\b", name):
        found = {"Spine", "Brain"} if re.search(r"\bbrain\b|corticospinal", name) else {"Spine"}
    elif re.search(r"\blarynx\b", name):
        found = {"Head and neck"}
    if species in ANIMALS:
        found.add("Animal model")
    return ordered("anatomy", found)


def _state_diseases(facts: Facts, text: str) -> None:
    words = [word for word in split(text, ",;/") if word.casefold() != "and"]
    extra = re.compile(r"^and |\s*\((?:hc|patient only)\)$", re.IGNORECASE)
    plain = [extra.sub("", word) for word in words]
    sick = [word for word in plain if word.casefold() not in HEALTHY]
    found = find("disease", (re.sub(r" with .*$", "", word) for word in sick))
    facts.state("diseases", found, text)
    if plain and not sick:
        facts.state_none("diseases", text)


def size_bytes(size_gb: str) -> int | None:
    """Bytes; None where the rounded number says too little."""
    size = float(size_gb) if re.fullmatch(r"\d+(\.\d+)?", size_gb) else 0.0
    return round(size * BYTES_OF_A_GB) if size >= SMALLEST_GB else None


def is_cc0(accession: str) -> bool:
    """Whether OpenNeuro's own rule holds for an accession number."""
    number = accession.removeprefix("ds")
    return number.isdigit() and int(number) >= FIRST_CC0_ACCESSION
