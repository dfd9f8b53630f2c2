"""Values between processes: JSON, with arrays as raw bytes beside it. Nothing is unpickled."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from fusion.imaging.errors import CaseError
from fusion.imaging.io.labelset import Code, LabelSet
from fusion.imaging.io.limits import Limits
from fusion.imaging.volume import Array, Grid, Picture, Volume

_KIND = "__kind__"
_ITEM_BYTES = 8


def encode(value: Any, arrays: int) -> Any:
    """Plain JSON for `value`; its arrays go one after another into the file `arrays`."""
    os.ftruncate(arrays, 0)
    os.lseek(arrays, 0, os.SEEK_SET)
    return _encode(value, arrays)


def _encode(value: Any, file: int) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        return _write(value, file)
    if isinstance(value, dict):
        return {
            _KIND: "dict",
            "items": [[_encode(k, file), _encode(v, file)] for k, v in value.items()],
        }
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "code" if isinstance(value, Code) else "tuple"
        return {_KIND: kind, "items": [_encode(one, file) for one in value]}
    for kind, (type_, fields) in _OBJECTS.items():
        if type(value) is type_:
            return {_KIND: kind} | {f: _encode(getattr(value, f), file) for f in fields}
    raise TypeError(f"{type(value).__name__} does not go between processes")


_OBJECTS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "grid": (Grid, ("shape", "affine")),
    "volume": (Volume, ("array", "grid", "geometry", "unit", "flags")),
    "picture": (Picture, ("array", "bits", "flags")),
    "labelset": (LabelSet, ("layers", "names", "codes", "notes")),
}


def _write(array: Array, file: int) -> dict[str, Any]:
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    plain = array if order == "F" else np.ascontiguousarray(array)
    at = os.lseek(file, 0, os.SEEK_CUR)
    left = _bytes_of(plain, order)
    while left:
        left = left[os.write(file, left) :]
    return {
        _KIND: "array",
        "shape": array.shape,
        "dtype": array.dtype.str,
        "order": order,
        "at": at,
    }


def _bytes_of(array: Array, order: str) -> memoryview:
    """The array's memory as it lies, to be read or written."""
    flat: Any = (array.T if order == "F" else array).reshape(-1).view(np.uint8)
    return memoryview(flat)


def decode(message: Any, arrays: int, limits: Limits) -> Any:
    """What `encode` was given.

    Raises:
        CaseError: unreadable; the message is not one of ours, or its arrays are not there.
    """
    try:
        return _decode(message, arrays, limits)
    except (KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        raise CaseError("unreadable", f"the reading process answered nonsense: {error}") from error


def _decode(message: Any, file: int, limits: Limits) -> Any:
    if not isinstance(message, dict):
        return message
    kind = message[_KIND]
    if kind == "array":
        return _read(message, file, limits)
    if kind in _OBJECTS:
        type_, fields = _OBJECTS[kind]
        return type_(**{field: _decode(message[field], file, limits) for field in fields})
    items = [
        [_decode(part, file, limits) for part in one]
        if kind == "dict"
        else _decode(one, file, limits)
        for one in message["items"]
    ]
    if kind == "code":
        return Code(*(str(part) for part in items))
    makers: dict[str, Callable[..., Any]] = {"dict": dict, "list": list, "tuple": tuple}
    return makers[kind](items)


def _read(message: dict[str, Any], file: int, limits: Limits) -> Array:
    dtype, shape = np.dtype(str(message["dtype"])), tuple(int(n) for n in message["shape"])
    if dtype.kind not in "buif" or dtype.itemsize > _ITEM_BYTES:
        raise ValueError(f"arrays of {dtype}")
    size = limits.check_shape("answer", shape, dtype.itemsize, rows=len(shape)) if shape else 1
    at = int(message["at"])
    if at < 0 or at + size > os.fstat(file).st_size:
        raise ValueError(f"{size} bytes at {at}, past the end")
    order: Any = "F" if message["order"] == "F" else "C"
    array: Array = np.empty(shape, dtype, order=order)
    left = _bytes_of(array, order)
    while left:
        count = os.preadv(file, [left], at)
        if count == 0:
            raise ValueError("arrays end early")
        left, at = left[count:], at + count
    return array
