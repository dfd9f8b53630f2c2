"""A BIDS derivative dataset of volumes: one subject per group.

Label maps are `dseg` files, which BIDS knows for any image. An image gets the suffix of its MR
sequence where that is known; BIDS has no suffix for other images (CT, MR of unknown sequence), so
those are listed in .bidsignore. Each case's sidecar says what was looked for.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from typing import Any

from fusion.bundle.content import IGNORE
from fusion.bundle.manifest import (
    CasePart,
    DetectionManifest,
    Manifest,
    SourcePart,
    ignore_of,
    ignored_in,
)
from fusion.bundle.text import json_bytes
from fusion.bundle.views.view import Placed, View, folds_of, images_of, label_of, suffix_of

VERSION = "1.10.0"
SPACE = "desc-fused"
#: Names of sequences, folded -> BIDS suffix.
_SUFFIXES = {
    "t1": "T1w", "t1w": "T1w", "t1c": "T1w", "t1ce": "T1w", "t1gd": "T1w", "t2": "T2w",
    "t2w": "T2w", "flair": "FLAIR", "t2flair": "FLAIR", "pd": "PDw", "pdw": "PDw",
    "t2star": "T2starw", "t2*": "T2starw",
}  # fmt: skip


def view(manifest: Manifest) -> View:
    """The view, or why BIDS cannot hold these images."""
    if manifest.plan.dimension != "3D":
        return View({"omitted": "BIDS has no place for photographs and radiographs"})
    if isinstance(manifest, DetectionManifest):
        return View({"omitted": "BIDS has no place for boxes"})
    cases = [case for case in manifest.cases if images_of(case)]
    if not cases:
        return View({"omitted": "no case is in this bundle's files"})
    by_subject: dict[str, list[CasePart]] = defaultdict(list)
    for case in cases:
        by_subject[subject_of(case)].append(case)
    files = _top_files(manifest, by_subject)
    placed: list[Placed] = []
    ignored: set[str] = set()
    for subject, rows in sorted(by_subject.items()):
        for number, case in enumerate(rows, start=1):
            stem = f"{subject}/anat/{subject}_run-{number:02d}"
            placed += _case(manifest, case, stem, files, ignored)
    if ignored:
        files[".bidsignore"] = "".join(
            f"*_{s}.nii.gz\n*_{s}.json\n" for s in sorted(ignored)
        ).encode()
    facts = {"folder": "", "subjects": len(by_subject), "outside_bids": sorted(ignored)}
    return View(facts, files, tuple(placed))


def subject_of(case: CasePart) -> str:
    """`sub-<12 hex>` of the case's group: its own digits where it has that form."""
    match = re.fullmatch(r"g:([0-9a-f]{12})", case.group)
    return "sub-" + (match[1] if match else hashlib.sha256(case.group.encode()).hexdigest()[:12])


def _case(
    manifest: Manifest, case: CasePart, stem: str, files: dict[str, bytes], ignored: set[str]
) -> list[Placed]:
    source = next(one for one in manifest.sources if one.id == case.source)
    placed = []
    used: set[str] = set()
    for number, row in enumerate(images_of(case)):
        sequence = _sequence(manifest, source, number)
        suffix, is_known = _suffix(sequence, source)
        name = _free(f"{stem}{_entities(sequence)}_{SPACE}_{suffix}", used)
        placed.append(Placed(name + suffix_of(row), row))
        files[f"{name}.json"] = json_bytes(_sidecar(case, source))
        if not is_known:
            ignored.add(suffix)
    if label := label_of(case):
        name = f"{stem}_{SPACE}_dseg"
        placed.append(Placed(name + suffix_of(label), label))
        facts = _sidecar(case, source) | {
            "Manual": source.annotation == "manual",
            "Annotated": case.annotated,
            "NotAnnotated": [c for c in manifest.plan.concepts if c not in case.annotated],
        }
        if ignore_of(manifest) is not None:
            facts["IgnoredVoxels"] = ignored_in(case)
        files[f"{name}.json"] = json_bytes(facts)
    return placed


def _free(name: str, used: set[str]) -> str:
    stem, _, suffix = name.rpartition("_")
    number = 1
    while name in used:
        number += 1
        name = f"{stem}{number}_{suffix}"
    used.add(name)
    return name


def _sequence(manifest: Manifest, source: SourcePart, number: int) -> str:
    """The channel's name, else the source's sequence, folded."""
    named = [*manifest.plan.channels, *[""] * (number + 1)][number] or source.sequence
    return re.sub(r"[^a-z0-9*]", "", named.lower())


def _entities(sequence: str) -> str:
    """Contrast agent as BIDS says it: T1 with and without are two files."""
    return "_ce-contrast" if sequence in {"t1c", "t1ce", "t1gd"} else ""


def _suffix(sequence: str, source: SourcePart) -> tuple[str, bool]:
    """Suffix of an image, and whether BIDS knows it."""
    if source.modality == "MR" and sequence in _SUFFIXES:
        return _SUFFIXES[sequence], True
    return re.sub(r"[^A-Za-z0-9]", "", f"{sequence}{source.modality}") or "image", False


def _sidecar(case: CasePart, source: SourcePart) -> dict[str, Any]:
    return {
        "Description": f"case {case.id} of {source.name}",
        "Sources": [f"bids:{source.id}:{case.origin.image.path}"] if _address(source) else [],
        "SpatialReference": "orig",
        "SkullStripped": "skull_stripped" in case.flags,
        "Unit": case.unit,
        "Licence": source.licence,
    }


def _address(source: SourcePart) -> str:
    doi = (
        source.doi
        if source.doi.startswith("http") or not source.doi
        else f"https://doi.org/{source.doi}"
    )
    return doi or source.url


def _top_files(manifest: Manifest, by_subject: dict[str, list[CasePart]]) -> dict[str, bytes]:
    sources = [
        {"URL": _address(source), "Version": source.version or "unknown"}
        for source in manifest.sources
        if _address(source)
    ]
    description = {
        "Name": manifest.title,
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "License": "per source, see the bundle's LICENSES folder",
        "HowToAcknowledge": "Cite every source: " + " ".join(manifest.citations),
        "GeneratedBy": [{"Name": "Imaging-X Portal", "Version": manifest.builder.version}],
        "SourceDatasets": sources,
        "DatasetLinks": {s.id: _address(s) for s in manifest.sources if _address(s)},
    }
    rows = [_participant(subject, cases) for subject, cases in sorted(by_subject.items())]
    table = ["participant_id\tsources\tsplit\tcases", *("\t".join(row) for row in rows)]
    labels = [f"{v}\t{c}" for v, c in enumerate(manifest.plan.concepts, start=1)]
    if (ignore := ignore_of(manifest)) is not None:
        labels.append(f"{ignore}\t{IGNORE}")
    columns = {
        "sources": {"Description": "sources that the cases of this group come from"},
        "split": {"Description": "split of the group, or fold:split"},
        "cases": {"Description": "case ids of the bundle, in order of run"},
    }
    readme = (
        f"{manifest.title}\n\nA view of bundle {manifest.bundle_id}. One subject is one group of "
        "the bundle: everything that must stay in one split.\nA concept under NotAnnotated in a "
        "dseg sidecar is unknown in that case, not absent.\nSkullStripped is false where no source "
        "says that it was done.\n"
    )
    return {
        "dataset_description.json": json_bytes(description),
        "README": readme.encode(),
        "participants.tsv": ("\n".join(table) + "\n").encode(),
        "participants.json": json_bytes(columns),
        f"{SPACE}_dseg.tsv": ("\n".join(["index\tname", *labels]) + "\n").encode(),
    }


def _participant(subject: str, cases: list[CasePart]) -> list[str]:
    splits = sorted(
        {
            split if fold == "holdout" else f"{fold}:{split}"
            for case in cases
            for fold, split in folds_of(case).items()
        }
    )
    sources = sorted({case.source for case in cases})
    return [subject, ",".join(sources), ",".join(splits), ",".join(case.id for case in cases)]
