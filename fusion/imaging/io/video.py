"""Videos and moving GIFs through PyAV: frames as pictures, the same ones every time.

`read_image` takes a .gif through Pillow, which keeps a grey one grey.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from fusion.imaging.errors import CaseError
from fusion.imaging.io.limits import LIMITS, Limits, pick
from fusion.imaging.volume import Array, Picture

VIDEO_SUFFIXES = frozenset(
    {".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"}
)
# The container is told by its first bytes and nothing else is tried: among FFmpeg's formats are
# playlists, which would open other files and addresses.
_MARKS = (
    (0, b"GIF8", "gif"),
    (8, b"AVI ", "avi"),
    (4, b"ftyp", "mov"),
    (4, b"moov", "mov"),
    (4, b"mdat", "mov"),
    (4, b"wide", "mov"),
    (4, b"free", "mov"),
    (4, b"skip", "mov"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"\x00\x00\x01\xba", "mpeg"),
    (0, b"\x30\x26\xb2\x75", "asf"),
)
_GREY = {"gray": "gray", "gray8": "gray"}
_COLOUR_BYTES = 3


@dataclass(frozen=True)
class VideoFacts:
    """What a video holds, counted by decoding it.

    Args:
        frames: how many.
        fps: as declared; None where it is not.
        size: rows, columns.
        timestamps: seconds from the start of the stream; None for a frame without one.
    """

    frames: int
    fps: float | None
    size: tuple[int, int]
    timestamps: tuple[float | None, ...]


def video_facts(path: Path | str, limits: Limits = LIMITS) -> VideoFacts:
    """Facts about the first video stream."""
    path = Path(path)
    times: list[float | None] = []
    with _stream(path, limits) as (container, stream):
        size = (int(stream.codec_context.height), int(stream.codec_context.width))
        fps = float(stream.average_rate) if stream.average_rate else None
        times.extend(
            None if frame.time is None else round(float(frame.time), 6)
            for frame in _decoded(container, stream, path.name, limits)
        )
    if not times:
        raise CaseError("unreadable", f"{path.name}: no frame")
    return VideoFacts(len(times), fps, size, tuple(times))


def read_frames(path: Path | str, limits: Limits = LIMITS) -> Iterator[Picture]:
    """Every frame in order of presentation."""
    path = Path(path)
    with _stream(path, limits) as (container, stream):
        for frame in _decoded(container, stream, path.name, limits):
            yield _picture(frame)


def read_frame(path: Path | str, index: int, limits: Limits = LIMITS) -> Picture:
    """Frame `index`, found by decoding from the start, so that no seek table can mislead.

    Raises:
        CaseError: unreadable; the message names how many frames there are.
    """
    path = Path(path)
    count = 0
    with _stream(path, limits) as (container, stream):
        for frame in _decoded(container, stream, path.name, limits):
            if count == index:
                return _picture(frame)
            count += 1
    pick(path.name, count, index, along="frames")
    raise CaseError("unreadable", f"{path.name}: no frame {index}")


def read_video(path: Path, limits: Limits = LIMITS, *, channel: int | None = None) -> Picture:
    """One frame as a picture: `channel`, or the only one."""
    if channel is None:
        pick(path.name, video_facts(path, limits).frames, None, along="frames")
    return read_frame(path, channel or 0, limits)


@contextmanager
def _stream(path: Path, limits: Limits) -> Iterator[tuple[Any, Any]]:
    limits.check_file(path)
    with path.open("rb") as file:
        first = file.read(16)
        form = next((f for at, mark, f in _MARKS if first[at : at + len(mark)] == mark), None)
        if form is None:
            raise CaseError("unreadable", f"{path.name}: starts with {first[:8]!r}, not a video")
        file.seek(0)
        try:
            with av.open(file, format=form, metadata_errors="ignore") as container:
                yield container, _first(container, path.name)
        except CaseError:
            raise
        except MemoryError as error:
            raise CaseError("size_limit", f"{path.name}: more memory than there is") from error
        except Exception as error:  # FFmpeg's errors come as many types
            raise CaseError("unreadable", f"{path.name}: {error}") from error


def _first(container: Any, name: str) -> Any:
    if not container.streams.video:
        raise CaseError("unreadable", f"{name}: no video stream")
    return container.streams.video[0]


def _decoded(container: Any, stream: Any, name: str, limits: Limits) -> Iterator[Any]:
    context = stream.codec_context
    _check(name, context.height, context.width, limits)
    stream.thread_type, context.thread_count = "NONE", 1
    for count, frame in enumerate(container.decode(stream), 1):
        limits.check_frames(name, count, 1)
        _check(name, frame.height, frame.width, limits)
        yield frame


def _check(name: str, rows: int, columns: int, limits: Limits) -> None:
    limits.check_shape(name, (int(rows), int(columns), _COLOUR_BYTES), 1)


def _picture(frame: Any) -> Picture:
    form = _GREY.get(frame.format.name, "rgb24")
    array: Array = frame.to_ndarray(format=form)
    return Picture(np.ascontiguousarray(array))
