"""Bounds for files that strangers wrote, held before any memory is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.imaging.errors import CaseError


@dataclass(frozen=True)
class Limits:
    """Largest sizes that a reader accepts."""

    dimension: int = 8_192
    voxels: int = 500_000_000
    size_bytes: int = 2 * 1024**3
    file_bytes: int = 8 * 1024**3
    header_bytes: int = 64 * 1024**2
    frames: int = 200_000

    def check_file(self, path: Path) -> None:
        """The file is there and not larger than `file_bytes`."""
        try:
            found = path.stat().st_size
        except OSError as missing:
            raise CaseError("unreadable", f"{path.name}: {missing.strerror}") from missing
        if found > self.file_bytes:
            raise CaseError("size_limit", f"{path.name}: {found} bytes, limit {self.file_bytes}")

    def check_shape(
        self, name: str, shape: Sequence[int], item_bytes: int, *, rows: int = 0
    ) -> int:
        """Number of payload bytes; refuses shapes that no image has.

        Args:
            name: what is read, for the message.
            shape: sizes per axis.
            item_bytes: bytes per element.
            rows: how many leading axes count items rather than places (a stack of pictures).
        """
        if not shape or min(shape) < 1:
            raise CaseError("unreadable", f"{name}: sizes are {tuple(shape)}, expected >= 1")
        if max(shape[rows:], default=1) > self.dimension:
            raise CaseError("size_limit", f"{name}: {tuple(shape)}, limit {self.dimension} a side")
        voxels = math.prod(shape)
        if voxels > self.voxels or voxels * item_bytes > self.size_bytes:
            raise CaseError(
                "size_limit",
                f"{name}: {voxels} elements of {item_bytes} bytes, limits {self.voxels} elements"
                f" and {self.size_bytes} bytes",
            )
        return voxels * item_bytes

    def check_frames(self, name: str, frames: int, frame_bytes: int) -> int:
        """How many images of one size a file holds; refuses what no file of `file_bytes` holds."""
        if frames < 1:
            raise CaseError("unreadable", f"{name}: {frames} frames, expected >= 1")
        if frames > self.frames or frames * frame_bytes > self.file_bytes:
            raise CaseError(
                "size_limit",
                f"{name}: {frames} frames of {frame_bytes} bytes, limits {self.frames} frames and"
                f" {self.file_bytes} bytes",
            )
        return frames


LIMITS = Limits()


def pick(
    name: str, count: int, channel: int | None, *, along: str = "images along the 4th axis"
) -> int:
    """Which of `count` images is meant; one image needs no choice.

    Raises:
        CaseError: unreadable; several and no choice, or a choice that is not there.
    """
    if channel is None and count != 1:
        raise CaseError("unreadable", f"{name}: {count} {along}, expected one, or a channel")
    taken = channel or 0
    if not 0 <= taken < count:
        raise CaseError("unreadable", f"{name}: no channel {channel}; there are {count} {along}")
    return taken
