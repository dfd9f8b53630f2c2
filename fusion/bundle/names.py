"""Names that may stand in a bundle: safe on every file system and inside every tar reader."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from fusion.bundle.errors import BundleError

SUMS, BUILD_INFO, REPORT = "SHA256SUMS", "build_info.json", "report"
BASELINE = "baseline"  # a folder with sums of its own
IMAGE_ROLE = re.compile(r"image(_[1-9]\d{0,2})?")
NATIVE_ROLE, NATIVE = "label_native", "native"  # a label map on the grid it came on; its shards
PARTIAL = "-partial"  # shards of samples that lack a file of the others
CASE_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")


def image_roles(count: int) -> list[str]:
    """Roles of a case's images, one per channel: image, image_1, image_2, ..."""
    return ["image", *(f"image_{number}" for number in range(1, count))]


def check_case_id(case_id: str) -> str:
    """Return `case_id`, or refuse it: it becomes part of file names."""
    if not CASE_ID.fullmatch(case_id):
        raise BundleError(
            "name_unsafe",
            f"case id: found {case_id!r}, expected 1 to 80 of A-Z a-z 0-9 _ -",
        )
    return case_id


def is_safe_path(path: str) -> bool:
    """A relative path that stays inside its folder: no `..`, drive, backslash or control."""
    if not path or "\\" in path or _CONTROL.search(path) or _DRIVE.match(path):
        return False
    parts = path.split("/")
    return not PurePosixPath(path).is_absolute() and not {"", ".", ".."} & set(parts)


def check_path(path: str) -> str:
    """Return `path`, or refuse one that could leave its folder."""
    if not is_safe_path(path):
        raise BundleError(
            "name_unsafe",
            f"path: found {path!r}, expected a relative path without '..', drive or backslash",
        )
    return path
