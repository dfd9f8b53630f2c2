"""What in the files of a source may tell who somebody is: headers, names, tables, faces.

Found is told by place and kind, never by value. Nothing is changed: whoever brings the files
decides. Bundles carry none of the headers, and their cases have other names.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from fusion.imaging.errors import CaseError
from fusion.imaging.io import PICTURE_SUFFIXES, VIDEO_SUFFIXES, read_image, video_facts
from fusion.imaging.io.dicom_header import IDENTIFYING, facts_of, is_dicom, open_dicom, open_image
from fusion.imaging.io.limits import LIMITS
from fusion.imaging.text import rows_of_letters
from fusion.imaging.volume import Picture, Volume

ALERT, WARNING, NOTE = "alert", "warning", "note"  # tells who, may tell who, worth a look
#: code -> how serious it is, and what it says.
FINDINGS: Mapping[str, tuple[str, str]] = MappingProxyType({
    "dicom_identity": (ALERT, "DICOM headers name a person, a place or a day"),
    "burned_in": (ALERT, "the header says that text is burned into the picture"),
    "face_visible": (ALERT, "the header says that a person can be recognised by looking"),
    "picture_place": (ALERT, "pictures say where they were taken"),
    "table_identity": (ALERT, "tables have columns that name people"),
    "name_identity": (ALERT, "names of files or folders look like a person, an address or an id"),
    "dicom_identity_removed": (
        WARNING, "DICOM headers hold such attributes, though they say that identity was removed"
    ),
    "burned_in_possible": (
        WARNING, "pictures of a kind that often has text burned in; the header does not say"
    ),
    "text_seen": (WARNING, "marks like letters stand in a row in pictures: text may be burned in"),
    "face_possible": (WARNING, "images of heads: a face can be rendered unless it was removed"),
    "picture_text": (WARNING, "pictures carry an author, a comment or a serial number"),
    "sidecar_identity": (WARNING, "JSON files have keys that name a person, a place or a day"),
    "name_date": (WARNING, "names of files or folders hold a date"),
    "dicom_private": (NOTE, "private DICOM elements, whose meaning their maker alone knows"),
    "nifti_text": (NOTE, "NIfTI headers hold free text"),
    "name_number": (NOTE, "names of files or folders hold a long number, perhaps of a record"),
})  # fmt: skip
SEVERITIES = (ALERT, WARNING, NOTE)
EXAMPLES, DETAILS = 5, 20
_NIFTI = (".nii", ".hdr", ".img")
_VOLUMES = (*_NIFTI, ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".mnc")
#: DICOM modalities whose pictures often show names and dates.
_TEXT_SHOWN = frozenset({"US", "SC", "XC", "ES", "OT", "XA", "RF", "GM"})
_HEAD_PARTS = re.compile(r"HEAD|BRAIN|SKULL|FACE|NECK|ORBIT|SINUS|JAW|EAR", re.IGNORECASE)
_HEAD_WORDS = frozenset({
    "head", "brain", "skull", "face", "neuro", "anat", "mprage", "flair", "t1w", "t2w", "t1", "t1c",
})  # fmt: skip
_NO_FACE = re.compile(r"defac|noface|no_face|strip|bet\b|_brain\b|mni", re.IGNORECASE)
_EXIF_PLACE = 34853
_EXIF_TEXT = MappingProxyType({
    315: "Artist", 316: "HostComputer", 33432: "Copyright", 37510: "UserComment",
    40091: "XPTitle", 40092: "XPComment", 40093: "XPAuthor", 42032: "CameraOwnerName",
    42033: "BodySerialNumber",
})  # fmt: skip
_COLUMNS = frozenset({
    "patientname", "firstname", "lastname", "surname", "forename", "givenname", "familyname",
    "fullname", "dob", "dateofbirth", "birthdate", "birthday", "mrn", "medicalrecordnumber", "ssn",
    "socialsecuritynumber", "nhsnumber", "address", "street", "phone", "phonenumber", "telephone",
    "email", "zip", "zipcode", "postcode", "accessionnumber", "physician", "referringphysician",
})  # fmt: skip
_KEYS = frozenset(key.lower() for key in IDENTIFYING) | _COLUMNS
_IN_NAMES: tuple[tuple[str, str, re.Pattern[str]], ...] = (
    ("name_identity", "an e-mail address", re.compile(r"[\w.+-]+@[\w-]+\.\w+")),
    ("name_identity", "a name as DICOM writes it", re.compile(r"[A-Za-z]{2,}\^[A-Za-z]{2,}")),
    ("name_identity", "surname, first name", re.compile(r"\b[A-Z][a-z]+, ?[A-Z][a-z]+")),
    ("name_identity", "a social security number", re.compile(r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)")),
    (
        "name_identity", "a word for a person's data",
        re.compile(r"(?<![a-z])(?:patient_?name|mrn|dob|ssn)(?![a-z])", re.IGNORECASE),
    ),
    (
        "name_date", "a date",
        re.compile(
            r"(?<!\d)(?:(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
            r"|(?:0[1-9]|[12]\d|3[01])[-_.](?:0[1-9]|1[0-2])[-_.](?:19|20)\d\d)(?!\d)"
        ),
    ),
    ("name_number", "a long number", re.compile(r"(?<![\d.])\d{8,}(?!\d|\.\d)")),
)  # fmt: skip


def look(folder: Path, path: str) -> dict[str, Any]:
    """One file: whether it can be read, and what in it and its name may tell who somebody is.

    Meant for the guarded child process, to which a stranger's file belongs.

    Returns:
        plain data: path, kind, bytes, `found` [[code, detail]], and code and message of a file
        that cannot be read.
    """
    full, name = folder / path, PurePosixPath(path).name.lower()
    found = list(in_name(path))
    row: dict[str, Any] = {"path": path, "bytes": full.stat().st_size, "kind": "other"}
    try:
        row["kind"] = _look(full, name, path, found)
    except CaseError as error:
        row |= {"kind": "unreadable", "code": error.code, "message": error.message}
    except (OSError, ValueError, RecursionError) as error:
        row |= {"kind": "unreadable", "code": "unreadable", "message": f"{name}: {error}"}
    row["found"] = [list(one) for one in found]
    return row


def unlooked(folder: Path, path: str, error: CaseError) -> dict[str, Any]:
    """The row of a file on which the child itself ended."""
    return {
        "path": path,
        "bytes": (folder / path).stat().st_size,
        "kind": "unreadable",
        "code": error.code,
        "message": error.message,
        "found": [list(one) for one in in_name(path)],
    }


def _look(full: Path, name: str, path: str, found: list[tuple[str, str]]) -> str:
    if full.stat().st_size and (name.endswith(".dcm") or is_dicom(full)):
        found += _in_dicom(full)
        return "DICOM"
    for kind, (endings, reads) in _KINDS.items():
        if name.removesuffix(".gz").endswith(endings):
            found += reads(full, path)
            return kind
    return "other"


def in_name(path: str) -> Iterator[tuple[str, str]]:
    """What the path of a file tells; of a date no long number is made as well. Pure."""
    codes = set()
    for code, what, pattern in _IN_NAMES:
        if pattern.search(path) and not (code == "name_number" and "name_date" in codes):
            codes.add(code)
            yield code, what


def _in_dicom(full: Path) -> Iterator[tuple[str, str]]:
    header = open_dicom(full, LIMITS)
    facts = facts_of(header, full.name)
    code = "dicom_identity_removed" if facts.deidentified else "dicom_identity"
    yield from ((code, keyword) for keyword in facts.identifying)
    if facts.private:
        yield "dicom_private", "private elements"
    if facts.burned_in:
        yield "burned_in", facts.modality
    elif facts.burned_in is None and facts.modality in _TEXT_SHOWN:
        yield "burned_in_possible", facts.modality
    recognisable = str(header.get("RecognizableVisualFeatures") or "").upper()
    part = str(header.get("BodyPartExamined") or "")
    if recognisable == "YES":
        yield "face_visible", part or facts.modality
    elif recognisable != "NO" and _HEAD_PARTS.search(part) and facts.modality in {"CT", "MR", "PT"}:
        yield "face_possible", part
    if header.get("Rows"):
        open_image(full, LIMITS)
        if facts.modality in _TEXT_SHOWN:
            with suppress(CaseError):  # it opens, but is no picture of ours: nothing is said of it
                yield from _in_pixels(read_image(full, channel=0))


def _in_volume(full: Path, path: str) -> Iterator[tuple[str, str]]:
    read_image(full, channel=0)
    if _HEAD_WORDS & set(re.split(r"[^a-z0-9]+", path.lower())) and not _NO_FACE.search(path):
        yield "face_possible", "by the name of the file"
    if not full.name.lower().removesuffix(".gz").endswith(_NIFTI):
        return
    import nibabel as nib

    header: Any = nib.load(full).header
    for key in ("descrip", "db_name", "aux_file", "intent_name"):
        if key in header and bytes(header[key].tobytes()).strip(b"\0 "):
            yield "nifti_text", key
    if getattr(header, "extensions", ()):
        yield "nifti_text", "an extension"


def _in_pixels(image: Volume | Picture) -> Iterator[tuple[str, str]]:
    if isinstance(image, Picture) and (rows := rows_of_letters(image.array)):
        yield "text_seen", "one row" if rows == 1 else "several rows"


def _in_picture(full: Path, _: str) -> Iterator[tuple[str, str]]:
    yield from _in_pixels(read_image(full, channel=0))
    from PIL import Image

    try:
        with Image.open(full) as opened:
            exif, info = opened.getexif(), dict(opened.info)
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return  # a format of another reader
    if _EXIF_PLACE in exif:
        yield "picture_place", "GPS"
    yield from (("picture_text", name) for tag, name in _EXIF_TEXT.items() if exif.get(tag))
    texts = ("comment", "Author", "Comment", "Description", "xmp", "XML:com.adobe.xmp")
    yield from (("picture_text", key) for key in texts if info.get(key))


def _in_video(full: Path, _: str) -> Iterator[tuple[str, str]]:
    video_facts(full)
    yield from ()


def _in_json(full: Path, _: str) -> Iterator[tuple[str, str]]:
    if full.stat().st_size <= LIMITS.header_bytes:
        data = json.loads(full.read_text("utf-8-sig", errors="replace"))
        yield from (("sidecar_identity", key) for key in sorted(set(_keys(data))))


def _keys(data: Any) -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            if re.sub(r"[^a-z]", "", str(key).lower()) in _KEYS and value not in ("", None, []):
                yield str(key)
            yield from _keys(value)
    elif isinstance(data, list):
        for value in data[:1000]:
            yield from _keys(value)


def _in_table(full: Path, _: str) -> Iterator[tuple[str, str]]:
    with full.open(encoding="utf-8-sig", errors="replace") as opened:
        head = opened.readline(1 << 16)
    for column in re.split(r"[,;\t]", head):
        if re.sub(r"[^a-z]", "", column.lower()) in _COLUMNS:
            yield "table_identity", column.strip().strip("\"'")


_KINDS = MappingProxyType({
    "volume": (_VOLUMES, _in_volume),
    "picture": (tuple(PICTURE_SUFFIXES), _in_picture),
    "video": (tuple(VIDEO_SUFFIXES), _in_video),
    "JSON": ((".json",), _in_json),
    "table": ((".csv", ".tsv"), _in_table),
})  # fmt: skip


def report(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What `look` said of all files, together and in order of weight. Pure, plain data."""
    kinds: Counter[str] = Counter()
    details: defaultdict[str, Counter[str]] = defaultdict(Counter)
    files: defaultdict[str, list[str]] = defaultdict(list)
    counts: Counter[str] = Counter()
    unreadable = []
    size = 0
    for row in rows:
        kinds[row["kind"]] += 1
        size += row["bytes"]
        if row.get("code"):
            unreadable.append({key: row[key] for key in ("path", "code", "message")})
        for code, detail in row["found"]:
            details[code][detail] += 1
        for code in {code for code, _ in row["found"]}:
            counts[code] += 1
            if len(files[code]) < EXAMPLES:
                files[code].append(row["path"])
    findings = [
        {
            "code": code,
            "severity": severity,
            "message": message,
            "files": counts[code],
            "details": [list(one) for one in details[code].most_common(DETAILS)],
            "examples": files[code],
        }
        for code, (severity, message) in FINDINGS.items()
        if counts[code]
    ]
    return {
        "files": sum(kinds.values()),
        "bytes": size,
        "kinds": dict(sorted(kinds.items())),
        "findings": sorted(findings, key=lambda one: SEVERITIES.index(str(one["severity"]))),
        "unreadable": unreadable[: 10 * EXAMPLES],
        "unreadable_count": len(unreadable),
        "must_be_accepted": any(one["severity"] != NOTE for one in findings),
    }
