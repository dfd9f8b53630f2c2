"""The child's side of `guard`: takes on its bounds, then answers one call after another."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pickle
import platform
import resource
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fusion.imaging.errors import CaseError
from fusion.imaging.io.guard_codec import encode

#: Seconds by which the kernel's own alarm follows the parent's limit.
_LATE = 30.0
_LENGTH = struct.Struct("<Q")
_SMALL_FILES = 16 * 1024**3

# seccomp (linux/filter.h, linux/seccomp.h): the syscalls that open sockets and start programs.
_SYSCALLS = {
    "x86_64": (0xC000003E, (41, 59, 101, 310, 311, 322, 425)),
    "aarch64": (0xC00000B7, (198, 221, 117, 270, 271, 281, 425)),
}
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # errno EPERM


def main() -> None:
    """Serve until the parent closes its end."""
    asked, answered, arrays = (int(text) for text in sys.argv[1:4])
    memory, seconds = int(sys.argv[4]), float(sys.argv[5])
    reply = os.fdopen(answered, "wb")
    with os.fdopen(asked, "rb") as requests:
        try:
            for module in sys.argv[6:]:
                importlib.import_module(module)
            bounds = take_on_bounds(memory)
        except Exception as error:  # noqa: BLE001 - told to the parent, who raises it
            _send(reply, {"failed": f"{type(error).__name__}: {error}"})
            return
        _send(reply, {"value": bounds})
        while len(head := requests.read(_LENGTH.size)) == _LENGTH.size:
            # The parent is trusted: only what comes back is not.
            name, args, kwargs = pickle.loads(requests.read(*_LENGTH.unpack(head)))  # noqa: S301
            signal.setitimer(signal.ITIMER_REAL, seconds + _LATE)
            _send(reply, _answer(name, args, kwargs, arrays))
            signal.setitimer(signal.ITIMER_REAL, 0)


def _send(reply: Any, message: dict[str, Any]) -> None:
    content = json.dumps(message).encode()
    reply.write(_LENGTH.pack(len(content)) + content)
    reply.flush()


def _answer(name: str, args: Any, kwargs: Any, arrays: int) -> dict[str, Any]:
    try:
        return {"value": encode(_function(name)(*args, **kwargs), arrays)}
    except CaseError as error:
        return {"case": [error.code, error.message]}
    except MemoryError:
        return {"memory": True}
    except OSError as error:
        return {"os": [error.errno or 0, error.strerror or str(error)]}
    except RecursionError:
        return {"error": "RecursionError: nested too deeply"}
    except Exception as error:  # noqa: BLE001 - a case must not end the build
        return {"error": f"{type(error).__name__}: {error}"[:2000]}


def _function(name: str) -> Callable[..., Any]:
    module, _, qualified = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in qualified.split("."):
        found = getattr(found, part)
    function: Callable[..., Any] = found
    return function


def take_on_bounds(memory: int) -> dict[str, Any]:
    """Bound this process for good; says what holds, since not every system offers all.

    Args:
        memory: bytes of address space above what the imports took.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_FSIZE, _SMALL_FILES)
    held: dict[str, Any] = {"memory_bytes": None, "no_network_no_programs": _refuse_syscalls()}
    statm = Path("/proc/self/statm")
    if statm.is_file():
        now = int(statm.read_text().split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, now + memory)
        held["memory_bytes"] = memory
    return held


def _lower(which: int, limit: int) -> None:
    hard = resource.getrlimit(which)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(which, (limit, limit))


class _Instruction(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("true", ctypes.c_uint8),
        ("false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("steps", ctypes.POINTER(_Instruction))]


def _refuse_syscalls() -> bool:
    """Refuse socket, execve, ptrace and their like from here on; False where that cannot be."""
    if sys.platform != "linux" or platform.machine() not in _SYSCALLS:
        return False
    architecture, refused = _SYSCALLS[platform.machine()]
    # Numbers from 0x40000000 are the same calls under another name (x32).
    checks = [(_AT_LEAST, 0x40000000), *((_EQUAL, number) for number in refused)]
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _ALLOW)]
    steps.append((_LOAD, 0, 0, 0))
    steps += [(test, len(checks) - at, 0, value) for at, (test, value) in enumerate(checks)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    block = (_Instruction * len(steps))(*(_Instruction(*step) for step in steps))
    program = _Program(len(steps), block)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    # PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP with SECCOMP_MODE_FILTER.
    done = prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.byref(program), 0, 0) == 0
    return bool(done)
