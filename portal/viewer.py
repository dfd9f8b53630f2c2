"""Looking at a bundle's cases: what may be asked for, and the slices drawn. Pages and API share it.

An image is decoded once and kept while others look at it, within IMAGINGX_VIEWER_MB.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, cast

import numpy as np
from django.conf import settings
from django.core.files.storage import storages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response

from fusion.bundle.boxes import decode_boxes
from fusion.bundle.cases import CaseIndex, CaseRow, Part, read_cases
from fusion.bundle.errors import BundleError
from fusion.bundle.pixels import decode
from fusion.imaging.errors import CaseError
from fusion.models import Bundle
from fusion.report.slices import DRAWING, OVERLAYS, PLANES, Look, Scene, draw_slice, scene

MANIFEST = "manifest.json"
INDEXES_KEPT = 4
SIDES = (32, 1536)
SIDE = 512
#: What the address of one slice may say, and that of a page with all planes.
SLICE_PARAMS = ("plane", "index", "channel", "window", "level", "width", "overlay", "opacity",
                "hide", "size", "v")  # fmt: skip
PAGE_PARAMS = ("plane", *PLANES, "channel", "window", "level", "width", "overlay", "opacity",
               "hide")  # fmt: skip
CUSTOM = "level and width"  # the name of a window of one's own
YEAR = 365 * 24 * 3600


class LookError(ValueError):
    """A parameter that cannot be used; `errors` are rows of path, found, expected, message."""

    def __init__(self, path: str, found: str, expected: str) -> None:
        found = found[:80]
        message = f"{path}: found {found!r}, expected {expected}"
        super().__init__(message)
        self.errors = [{"path": path, "found": found, "expected": expected, "message": message}]


class NotShownError(ValueError):
    """The image of a case cannot be shown here; the message says why."""


@dataclass(frozen=True)
class View:
    """One case as it is asked for: which slice of each plane, and how they are drawn."""

    case: CaseRow
    scene: Scene
    channel: int
    plane: str
    places: Mapping[str, int]
    window: str
    look: Look

    def png(self) -> bytes:
        """The slice of `plane`."""
        return draw_slice(self.scene.plane(self.plane, self.places[self.plane]), self.look)

    @property
    def level_width(self) -> tuple[float, float]:
        return (self.look.low + self.look.high) / 2, self.look.high - self.look.low

    def params(self, **changes: Any) -> dict[str, str]:
        """The parameters that ask for this view again, with changes; None leaves one out."""
        level, width = self.level_width
        own = {"level": f"{level:.6g}", "width": f"{width:.6g}"}
        hidden = ",".join(str(value) for value in sorted(self.look.hidden))
        return {
            name: str(value)
            for name, value in {
                "plane": self.plane,
                **self.places,
                "channel": self.channel or None,
                **(own if self.window == CUSTOM else {"window": self.window}),
                "overlay": self.look.overlay,
                "opacity": round(100 * self.look.opacity),
                "hide": hidden or None,
                **changes,
            }.items()
            if value is not None and name != "picture"
        }

    def slice_params(self, plane: str, side: int, version: str) -> dict[str, str]:
        """The parameters of the picture of one plane."""
        dropped = dict.fromkeys(PLANES)
        place = self.places[plane]
        return self.params(**dropped, plane=plane, index=place, size=side, v=version)


def case_index(bundle: Bundle) -> CaseIndex:
    """The cases of a bundle.

    Raises:
        Http404: it has no manifest.
    """
    return _index(bundle.pk, _manifest_sha256(bundle))


def version_of(bundle: Bundle) -> str:
    """What stands in an address as `v`, so that its picture never changes."""
    return f"{_manifest_sha256(bundle)[:12]}.{DRAWING}"


def find_case(index: CaseIndex, case_id: str) -> CaseRow:
    """Raises Http404 for a case that is not in the bundle."""
    if case_id not in index.cases:
        raise Http404(f"{case_id[:80]}: no case of this bundle")
    return index.cases[case_id]


def open_view(
    bundle: Bundle, case_id: str, params: Mapping[str, str], known: Collection[str]
) -> View:
    """The view that `params` ask for; what they leave out is chosen by the case.

    Raises:
        LookError: a parameter cannot be used.
        NotShownError: the image is not in the bundle, too large, or cannot be read.
        Http404: no such case.
    """
    for name, value in params.items():
        if name not in known:
            raise LookError(name, value, f"no such parameter, but {', '.join(known)}")
    index = case_index(bundle)
    case = find_case(index, case_id)
    channel = _whole(params, "channel", 0, range(max(1, len(case.images))))
    opened = open_scene(bundle, index, case, channel)
    plane = _choice(params, "plane", opened.planes)
    places = {
        name: _whole(params, name, opened.middle[name], range(opened.slices(name)))
        for name in opened.planes
    }
    if "index" in params:
        places[plane] = _whole(params, "index", 0, range(opened.slices(plane)))
    window, low, high = _window(params, opened)
    overlay = _choice(params, "overlay", OVERLAYS)
    opaque = 100 if overlay == "outline" else 40
    look = Look(
        low,
        high,
        overlay,
        _whole(params, "opacity", opaque, range(101)) / 100,
        _hidden(params, len(index.concepts) + (case.ignored is not None)),
        _whole(params, "size", SIDE, range(SIDES[0], SIDES[1] + 1)),
    )
    return View(case, opened, channel, plane, places, window, look)


def open_scene(bundle: Bundle, index: CaseIndex, case: CaseRow, channel: int) -> Scene:
    """The decoded image of a case with its label map or its boxes.

    Raises:
        NotShownError: it is not in the bundle, too large, or cannot be read.
    """
    if not case.images:
        raise NotShownError("its image may not be passed on: a rebuild from the sources gives it")
    limit = settings.VIEWER_BYTES
    planes = 1 if index.is_3d else case.channels
    expected = case.voxels * planes * np.dtype(case.dtype).itemsize
    if expected > limit:
        raise NotShownError(
            f"its image unpacks to {expected / 1e6:,.0f} MB; the viewer opens {limit / 1e6:,.0f} MB"
        )
    image = case.images[channel]

    def make() -> Scene:
        pixels = decode(image.member, _read(bundle, image))
        label = None
        if case.label is not None:
            label = decode(case.label.member, _read(bundle, case.label)).array
        boxes = []
        if case.boxes is not None:
            value_of = {concept: v for v, (concept, _) in enumerate(index.concepts, 1)}
            found = decode_boxes(case.boxes.member, _read(bundle, case.boxes))
            boxes = [(value_of[box.concept], box.corners) for box in found]
        placed = case.spacing_mm is not None
        return scene(
            pixels.array, label, pixels.affine, unit=case.unit, is_placed=placed, boxes=boxes
        )

    try:
        return _scenes.get(f"{bundle.pk}/{image.member}/{image.sha256}", limit, make)
    except (BundleError, CaseError) as error:
        raise NotShownError(str(error)) from error


def picture(
    request: HttpRequest, bundle: Bundle, case_id: str, params: Mapping[str, str]
) -> HttpResponseBase:
    """One slice as an answer with its tag; 304 where the client has it. Errors as `open_view`."""
    asked = repr((version_of(bundle), case_id, sorted(params.items())))
    etag = f'"{hashlib.sha256(asked.encode()).hexdigest()[:32]}"'
    known = get_conditional_response(request, etag=etag)
    if known is not None:
        return known
    png = open_view(bundle, case_id, params, SLICE_PARAMS).png()
    response = HttpResponse(png, content_type="image/png")
    response["ETag"] = etag
    lasts = params.get("v") == version_of(bundle)
    response["Cache-Control"] = f"private, max-age={YEAR}, immutable" if lasts else "no-cache"
    return response


class _Scenes:
    """Decoded images, those used last, within a limit of bytes; one is decoded at a time."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Scene] = OrderedDict()
        self._lock, self._decoding = Lock(), Lock()

    def get(self, key: str, limit: int, make: Callable[[], Scene]) -> Scene:
        found = self._find(key)
        if found is not None:
            return found
        with self._decoding:
            found = self._find(key)
            if found is not None:
                return found
            self._make_room(limit)
            made = make()
            with self._lock:
                self._kept[key] = made
            self._make_room(limit)
            return made

    def _find(self, key: str) -> Scene | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _make_room(self, limit: int) -> None:
        """Forget the images used longest ago; the last one stays."""
        with self._lock:
            while len(self._kept) > 1 and sum(s.size_bytes for s in self._kept.values()) > limit:
                self._kept.popitem(last=False)


_scenes = _Scenes()


@lru_cache(maxsize=INDEXES_KEPT)
def _index(bundle_id: str, sha256: str) -> CaseIndex:  # noqa: ARG001 - part of the key
    with storages["bundles"].open(f"{bundle_id}/{MANIFEST}") as opened:
        return read_cases(opened.read())


def _manifest_sha256(bundle: Bundle) -> str:
    for file in bundle.files:
        if file["path"] == MANIFEST:
            return str(file["sha256"])
    raise Http404(f"{MANIFEST}: no file of bundle {bundle.pk[:12]}")


def _read(bundle: Bundle, part: Part) -> bytes:
    with storages["bundles"].open(f"{bundle.pk}/{part.path}") as opened:
        if remote := getattr(opened, "obj", None):  # an S3 file would fetch the whole shard
            span = f"bytes={part.offset}-{part.offset + part.size_bytes - 1}"
            return cast("bytes", remote.get(Range=span)["Body"].read())
        opened.seek(part.offset)
        return cast("bytes", opened.read(part.size_bytes))


def _choice(params: Mapping[str, str], name: str, allowed: Collection[str]) -> str:
    value = params.get(name, next(iter(allowed)))
    if value not in allowed:
        raise LookError(name, value, f"one of {', '.join(allowed)}")
    return value


def _whole(params: Mapping[str, str], name: str, default: int, allowed: range) -> int:
    value = params.get(name)
    if value is None:
        return default
    if value.isascii() and value.isdigit() and len(value) < 10 and int(value) in allowed:  # noqa: PLR2004
        return int(value)
    raise LookError(name, value, f"a whole number from {allowed.start} to {allowed.stop - 1}")


def _window(params: Mapping[str, str], opened: Scene) -> tuple[str, float, float]:
    if "level" in params or "width" in params:
        level, width = (_number(params, name) for name in ("level", "width"))
        if width <= 0:
            raise LookError("width", params["width"], "a number above 0")
        return CUSTOM, level - width / 2, level + width / 2
    window = _choice(params, "window", opened.windows)
    return window, *opened.windows[window]


def _number(params: Mapping[str, str], name: str) -> float:
    """A finite number; level and width are given together."""
    try:
        value = float(params[name])
    except (KeyError, ValueError):
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e12:  # noqa: PLR2004
        raise LookError(name, params.get(name, ""), "a number; level and width go together")
    return value


def _hidden(params: Mapping[str, str], largest: int) -> frozenset[int]:
    words = [word for word in params.get("hide", "").split(",") if word]
    expected = f"label values from 1 to {largest}, separated by commas"
    for word in words:
        if not (word.isascii() and word.isdigit() and len(word) < 6 and 1 <= int(word) <= largest):  # noqa: PLR2004
            raise LookError("hide", params["hide"], expected)
    return frozenset(int(word) for word in words)
