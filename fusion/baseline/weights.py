"""A trained network as files: safetensors, and JSON that says how to feed it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from fusion.baseline.classify import dense_net
from fusion.baseline.detect import retina_net
from fusion.baseline.grid import Canvas, Stack
from fusion.baseline.segment import unet
from fusion.imaging.intensity import pooled, strided

WEIGHTS, NETWORK = "weights.safetensors", "network.json"
SCHEMA = "imaging-x/network/1"
_NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "segmentation": unet,
    "classification": dense_net,
    "detection": retina_net,
}
_SAMPLE = 4096  # values of a case that stand for its foreground
_BODY = -0.5  # thousands of HU: above it lies the body


class Windowed(nn.Module):
    """A network behind the clip and z-score of its own training cases (CT in thousands of HU)."""

    window: Tensor

    def __init__(self, net: nn.Module, window: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("window", torch.tensor(window, dtype=torch.float32))

    def forward(self, images: Tensor) -> Any:
        low, high, mean, std = self.window
        return self.net((images.clamp(low, high) - mean) / std)


def window_of(stacks: Sequence[Stack]) -> list[float]:
    """low, high, mean and std over the labelled voxels of cases, each case counting alike."""
    samples = []
    for stack in stacks:
        values = stack.images[:, 0].astype(np.float32)
        inside = values > _BODY
        if stack.labels is not None:
            inside = (stack.labels > 0) & (stack.labels != stack.ignore)
        samples.append(strided(values[inside] if inside.any() else values.ravel(), _SAMPLE))
    found = pooled(samples)
    return [found[key] for key in ("low", "high", "mean", "std")]


def build(task: str, design: Mapping[str, Any], window: Sequence[float] | None) -> nn.Module:
    """A network with fresh weights."""
    net = _NETWORKS[task](**design)
    return Windowed(net, window) if window else net


@dataclass(frozen=True)
class Design:
    """What a network is, and how an image is brought before it. Goes to network.json.

    Attributes:
        target: profile and spacing of the bundle.
        unit: hu, or whatever else the images hold.
        exclusive: the classes' probabilities sum to 1.
    """

    task: str
    concepts: Sequence[str]
    network: Mapping[str, Any]
    window: Sequence[float] | None
    canvas: Canvas
    target: Mapping[str, Any]
    unit: str
    channels: Sequence[str]
    exclusive: bool
    facts: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {"schema": SCHEMA, **fields, "canvas": self.canvas.as_dict()}


def save(folder: Path, net: nn.Module, design: Design) -> None:
    """Write both files; equal weights give equal bytes."""
    state = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    _write(folder / WEIGHTS, safetensors.torch.save(dict(sorted(state.items()))))
    text = json.dumps(design.as_dict(), indent=2, sort_keys=True)
    _write(folder / NETWORK, f"{text}\n".encode())


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read(folder: Path) -> tuple[nn.Module, Design]:
    """What `save` wrote.

    Raises:
        ValueError: no weights there, or of another kind.
    """
    path = folder / NETWORK
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder.name}: found no {NETWORK} and {WEIGHTS}")
    data = json.loads(path.read_text(encoding="utf-8"))
    if (schema := data.pop("schema", None)) != SCHEMA:
        raise ValueError(f"{NETWORK}: found schema {schema!r}, expected {SCHEMA!r}")
    design = Design(**data | {"canvas": Canvas.from_dict(data["canvas"])})
    net = build(design.task, design.network, design.window)
    net.load_state_dict(safetensors.torch.load((folder / WEIGHTS).read_bytes()))
    return net.eval(), design
