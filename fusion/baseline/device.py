"""Where a baseline runs, and the settings that make it repeatable there."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch

_FREE_BYTES = 1 << 30  # the smoke tier needs less; the rest is room for the CUDA context


def pick(wanted: str) -> torch.device:
    """`auto` is the GPU with most free memory, or the CPU when none has 1 GiB free.

    Raises:
        ValueError: cuda is asked for and there is none, or the name is unknown.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if wanted not in {"auto", "cuda"}:
        raise ValueError(f"device: found {wanted!r}, expected auto, cpu or cuda")
    if not torch.cuda.is_available():
        if wanted == "cuda":
            raise ValueError("device: found 'cuda', expected 'auto' or 'cpu': torch sees no GPU")
        return torch.device("cpu")
    free = [torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())]
    best = max(range(len(free)), key=free.__getitem__)
    if wanted == "auto" and free[best] < _FREE_BYTES:
        return torch.device("cpu")
    return torch.device("cuda", best)


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


def thread_count(wanted: int) -> int:
    """0: all cores that this process may use."""
    if wanted:
        return wanted
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def repeatable(seed: int, threads: int) -> Iterator[None]:
    """Fixed seed and threads, deterministic kernels; the process gets its own back after."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(mode=True)
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1])
