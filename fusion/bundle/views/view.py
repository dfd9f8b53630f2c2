"""What a view is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fusion.bundle.manifest import CasePart, FilePart, Manifest
from fusion.bundle.names import IMAGE_ROLE

Change = Callable[[str, bytes], bytes]  # member name and its bytes -> other bytes


@dataclass(frozen=True)
class Placed:
    """One pixel file of a view: a member of a shard, as it is or changed on the way."""

    path: str
    row: FilePart
    change: Change | None = None


@dataclass(frozen=True)
class View:
    """`files` are small and stand in the bundle, too; `whole` are files of the bundle as they are.

    `facts` say what the view holds, or why there is none (`omitted`).
    """

    facts: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    pixels: tuple[Placed, ...] = ()
    whole: tuple[str, ...] = ()

    @property
    def omitted(self) -> str:
        return str(self.facts.get("omitted") or "")


Make = Callable[[Manifest], View]


def images_of(case: CasePart) -> list[FilePart]:
    """Image files of a case, one per channel or sequence, in the manifest's order."""
    return [row for row in case.files if IMAGE_ROLE.fullmatch(row.role)]


def label_of(case: CasePart) -> FilePart | None:
    """The label map on the image's grid."""
    return next((row for row in case.files if row.role == "label"), None)


def suffix_of(row: FilePart) -> str:
    """`.nii.gz` or `.png`: what follows case and role in a member's name."""
    return "." + row.member.split(".", 2)[2]


def folds_of(case: CasePart) -> dict[str, str]:
    """Fold -> split; a holdout has the one fold `holdout`."""
    return dict(case.split) if isinstance(case.split, dict) else {"holdout": case.split}
