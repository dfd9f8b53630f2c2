"""Files of strangers are read in a child process: what it does wrong ends it, not the build.

What is bounded: address space, wall-clock time, size of written files, core dumps; on Linux
(x86-64, ARM64) also sockets, new programs and tracing, which the kernel refuses. The child gets
no inherited descriptors but its pipes, and of the environment only what libraries need. It keeps
the rights of its user on files: it could read or write what that user can. Run the worker as a
user of its own, in a container, where that matters.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fusion.imaging.errors import CaseError
from fusion.imaging.io.guard_codec import decode
from fusion.imaging.io.limits import LIMITS, Limits
from fusion.imaging.parallel import KEEP_MEMORY
from fusion.imaging.volume import Picture, Volume

MEMORY_BYTES = 8 * 1024**3
SECONDS = 300.0
_START_SECONDS = 120.0
_ANSWER_BYTES = 256 * 1024**2
_LENGTH = struct.Struct("<Q")
_KEPT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
_KEPT_FAMILIES = ("LC_", "MALLOC_", "NUMBA_", "OMP_", "OPENBLAS_", "MKL_", "PYTHON")


class Guard:
    """One child process that serves many calls; a new one takes over where it fails.

    Works inside daemonic processes (Celery's prefork pool): it is a plain subprocess.

    Args:
        memory_bytes: address space of the child above what its imports take.
        seconds: wall-clock limit of one call.
        preload: modules to import before the memory is bounded.
    """

    def __init__(
        self,
        *,
        memory_bytes: int = MEMORY_BYTES,
        seconds: float = SECONDS,
        preload: tuple[str, ...] = ("fusion.imaging.io",),
    ) -> None:
        self.memory_bytes, self.seconds, self.preload = memory_bytes, seconds, preload
        #: What the running child says of its bounds.
        self.bounds: dict[str, Any] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._served = 0
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What `function(*args, **kwargs)` returns, run in the child.

        Args:
            function: of a module of ours, by its name there; not of `__main__`.
            args: anything that can be pickled; kwargs likewise.

        Returns:
            plain data, arrays, `Volume`, `Picture`, `LabelSet`, and lists or dicts of these.

        Raises:
            CaseError: what the function raised; size_limit for too much time or memory;
                unreadable where the child crashed or failed in another way.
            OSError: the disk, not the case, is at fault.
        """
        name = f"{function.__module__}:{function.__qualname__}"
        request = pickle.dumps((name, args, kwargs))
        answer = self._ask(request)
        if answer is None or "memory" in answer:
            used = self._served > 1
            self.close()
            # What an earlier case left behind may be to blame: the outcome must not depend on it.
            answer = self._ask(request) if used else answer
        return self._result(answer)

    def read_image(
        self, path: Path | str, limits: Limits = LIMITS, **options: Any
    ) -> Volume | Picture:
        """`fusion.imaging.io.read_image`, in the child."""
        from fusion.imaging.io import read_image  # it builds on the modules beside this one

        image: Volume | Picture = self.call(read_image, Path(path), limits, **options)
        return image

    def close(self) -> None:
        """End the child; the next call starts another."""
        child, self._child = self._child, None
        if child is None:
            return
        for end in (self._requests, self._answers, self._arrays):
            with contextlib.suppress(OSError):
                os.close(end)
        if self._owner != os.getpid():
            return  # a fork's copy: the child is another process's
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def stop(self) -> None:
        """End the child for good, from any thread; a call that waits for it raises."""
        self._stopped = True
        child = self._child
        if child is not None and self._owner == os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    def _result(self, answer: dict[str, Any] | None) -> Any:
        if answer is None:
            raise CaseError("unreadable", f"the reading process ended: {self._ending}")
        if "value" in answer:
            return decode(answer["value"], self._arrays, _ANSWER)
        if "case" in answer:
            code, message = (str(part) for part in answer["case"])
            raise CaseError(code, message)
        if "memory" in answer:
            self.close()
            gib = self.memory_bytes / 1024**3
            raise CaseError("size_limit", f"reading needs more than {gib:.3g} GiB of memory")
        if "os" in answer:
            number, message = answer["os"]
            raise OSError(int(number), str(message))
        raise CaseError("unreadable", f"the reader failed: {answer.get('error', answer)}")

    def _ask(self, request: bytes) -> dict[str, Any] | None:
        """The child's answer; None when it ended without one."""
        if self._child is None or self._owner != os.getpid():
            self._start()
        self._served += 1
        if self._stopped:
            self.close()
            raise CaseError("cancelled", "the reading process was stopped")
        try:
            deadline = time.monotonic() + self.seconds
            with contextlib.suppress(BrokenPipeError):
                _write_all(self._requests, _LENGTH.pack(len(request)) + request)
            return self._answer(deadline)
        except TimeoutError:
            self.close()
            raise CaseError(
                "size_limit", f"reading takes longer than {self.seconds:.3g} s"
            ) from None
        except BaseException:
            self.close()
            raise

    def _answer(self, deadline: float) -> dict[str, Any] | None:
        head = self._read(_LENGTH.size, deadline)
        length = _LENGTH.unpack(head)[0] if head is not None else 0
        if length > _ANSWER_BYTES:
            raise CaseError("size_limit", f"the reading process answered with {length} bytes")
        content = self._read(length, deadline) if head is not None else None
        if content is None:
            status = self._child.wait() if self._child else 0
            self._ending = _ending(status)
            self.close()
            return None
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise CaseError("unreadable", "the reading process answered nonsense") from error
        return answer if isinstance(answer, dict) else {"error": "nonsense"}

    def _read(self, count: int, deadline: float) -> bytes | None:
        out = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while len(out) < count:
                if not selector.select(max(deadline - time.monotonic(), 0)):
                    raise TimeoutError
                block = os.read(self._answers, min(count - len(out), 1 << 20))
                if not block:
                    return None
                out += block
        return bytes(out)

    def _start(self) -> None:
        self.close()
        theirs_in, self._requests = os.pipe()
        self._answers, theirs_out = os.pipe()
        self._arrays = _nameless_file()
        passed = (theirs_in, theirs_out, self._arrays)
        code = "from fusion.imaging.io.guard_child import main; main()"
        bounds = (self.memory_bytes, self.seconds, *self.preload)
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-c", code, *map(str, (*passed, *bounds))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=passed,
                env=_environment(),
                start_new_session=True,
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._owner, self._served = os.getpid(), 0
        answer = self._answer(time.monotonic() + _START_SECONDS)
        if answer is None or "value" not in answer:
            self.close()
            raise RuntimeError(f"the reading process does not start: {answer or self._ending}")
        self.bounds = answer["value"]


#: What may come back is bounded like what may be read, with room for several layers.
_ANSWER = Limits(voxels=8 * LIMITS.voxels, size_bytes=4 * LIMITS.size_bytes)


def _nameless_file() -> int:
    """A file without a name, in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("arrays")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write_all(end: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(end, left) :]


def _environment() -> dict[str, str]:
    """No credentials: what libraries need to be found and to run as here."""
    kept = {k: v for k, v in os.environ.items() if k in _KEPT or k.startswith(_KEPT_FAMILIES)}
    return KEEP_MEMORY | kept | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
