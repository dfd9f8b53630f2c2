"""Where a baseline runs, and the settings that make it repeatable there."""

from __future__ import annotations

import fcntl
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

_FREE_BYTES = 1 << 30  # the smoke tier needs less; the rest is room for the CUDA context
#: cuBLAS and cuDNN, which take memory beside torch's pool, and the CPU's allocator.
_NO_MEMORY = ("STATUS_ALLOC_FAILED", "can't allocate memory")
_PLANE_INPUT, _SOLID_INPUT = 4, 5  # axes of a batch


def pick(wanted: str) -> torch.device:
    """`auto` is the GPU with most free memory, or the CPU when none has 1 GiB free.

    Only the GPUs that CUDA_VISIBLE_DEVICES shows are seen.

    Raises:
        ValueError: cuda is asked for and there is none, or the name is unknown.
    """
    return _ranked(wanted)[0]


def _ranked(wanted: str) -> list[torch.device]:
    """Devices to try, best first."""
    if wanted == "cpu":
        return [torch.device("cpu")]
    if wanted not in {"auto", "cuda"}:
        raise ValueError(f"device: found {wanted!r}, expected auto, cpu or cuda")
    if not torch.cuda.is_available():
        if wanted == "cuda":
            raise ValueError("device: found 'cuda', expected 'auto' or 'cpu': torch sees no GPU")
        return [torch.device("cpu")]
    free = [torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())]
    return ranked_by(free, wanted)


def ranked_by(free: list[int], wanted: str) -> list[torch.device]:
    """GPUs by their free bytes, the emptiest first; `auto` takes the CPU where none has room."""
    order = sorted(range(len(free)), key=lambda i: (-free[i], i))
    if wanted == "auto" and free[order[0]] < _FREE_BYTES:
        return [torch.device("cpu")]
    return [torch.device("cuda", i) for i in order if wanted == "cuda" or free[i] >= _FREE_BYTES]


@contextmanager
def held(wanted: str, folder: Path | None = None) -> Iterator[torch.device]:
    """The emptiest device that no other baseline on this host holds; a GPU serves one at a time.

    Where all GPUs are held it waits for the emptiest.
    """
    devices = _ranked(wanted)
    if devices[0].type == "cpu":
        yield devices[0]
        return
    names = [_uuid(device) for device in devices]
    chosen, lock = first_free(names, folder or Path(tempfile.gettempdir()))
    with lock, torch.cuda.device(devices[chosen]):  # what torch asks of "the" GPU is asked of it
        yield devices[chosen]


def first_free(names: Sequence[str], folder: Path) -> tuple[int, IO[bytes]]:
    """The first of `names` that nobody on this host holds, and its lock: an open file.

    Waits for the first one where all are held. The system frees a lock when its holder ends,
    however it ends.
    """
    paths = [folder / f"imagingx-gpu-{name}.lock" for name in names]
    for number, path in enumerate(paths):
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        else:
            return number, file
    file = paths[0].open("ab")
    fcntl.flock(file, fcntl.LOCK_EX)
    return 0, file


def _uuid(device: torch.device) -> str:
    """The same for one GPU in every process, whatever CUDA_VISIBLE_DEVICES makes its number."""
    return str(torch.cuda.get_device_properties(device).uuid)


def name_of(device: torch.device) -> str:
    """What a person calls the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of everything that moves the numbers."""
    found = {name: version(name) for name in ("torch", "monai", "numpy")}
    cuda = {"cuda": torch.version.cuda} if torch.version.cuda else {}
    return {"python": platform.python_version(), **found, **cuda}


def is_out_of_memory(error: RuntimeError) -> bool:
    """Memory ended, of a GPU or of this machine; only torch's own pool has a class for it."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(words in said for words in _NO_MEMORY)


def thread_count(wanted: int) -> int:
    """0: all cores that this process may use."""
    if wanted:
        return wanted
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_format(images: Tensor) -> torch.memory_format:
    """Channels last: what convolutions are fastest with."""
    if images.ndim == _PLANE_INPUT:
        return torch.channels_last
    return torch.channels_last_3d if images.ndim == _SOLID_INPUT else torch.contiguous_format


def settled(net: nn.Module, place: torch.device, dims: int) -> nn.Module:
    """The network on its device, channels last."""
    form = torch.channels_last if dims == _PLANE_INPUT - 2 else torch.channels_last_3d
    return net.to(place).to(memory_format=form)


@dataclass
class Precision:
    """Mixed precision where it is safe: on a GPU, bf16 or else fp16 with scaled gradients."""

    place: torch.device
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self) -> None:
        self.scaler = torch.amp.GradScaler(self.place.type, enabled=self.dtype == torch.float16)

    @property
    def dtype(self) -> torch.dtype:
        """What convolutions compute in."""
        if self.place.type != "cuda":
            return torch.float32
        with torch.cuda.device(self.place):
            # GPUs before Ampere only emulate bf16, slower than they compute float32.
            is_native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if is_native else torch.float16

    def cast(self) -> Any:
        """Where a network runs."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.place.type, dtype=self.dtype)

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimiser: torch.optim.Optimizer) -> None:
        self.scaler.step(optimiser)
        self.scaler.update()


@contextmanager
def repeatable(seed: int, threads: int, place: torch.device) -> Iterator[None]:
    """Fixed seed and threads, deterministic kernels; the process gets its own back after.

    A GPU has no such kernel for some steps of volumes (pooling backwards): it warns there.
    """
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
    # Of no other GPU: asking one for its state takes memory there from whoever has it.
    with torch.random.fork_rng([place] if place.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(mode=True, warn_only=place.type == "cuda")
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1])
