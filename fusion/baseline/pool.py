"""Training planes of an arm, drawn so that a large source does not drown a small one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion.baseline.cases import Case, source_weights
from fusion.baseline.planes import Stack

_MOST_PLANES = 32  # of one volume
_EMPTY_SHARE = 4  # one plane without a label for so many with one


@dataclass(frozen=True)
class Pool:
    """Cases to draw from, and their planes that are worth a look."""

    cases: Sequence[Case]
    stacks: Mapping[str, Stack]
    planes: Mapping[str, npt.NDArray[np.intp]]
    rng: np.random.Generator

    def draw(self, size: int) -> list[tuple[Case, int]]:
        """`size` pairs of case and plane, with replacement."""
        picked = self.rng.choice(len(self.cases), size=size, p=source_weights(self.cases))
        cases = [self.cases[i] for i in picked]
        return [(case, int(self.rng.choice(self.planes[case.id]))) for case in cases]

    def images(self, drawn: Sequence[tuple[Case, int]], device: torch.device) -> Tensor:
        """Inputs (B, C, edge, edge) of drawn planes."""
        array = np.stack([self.stacks[case.id].images[plane] for case, plane in drawn])
        return torch.from_numpy(array).to(device, torch.float32)


def labelled_planes(stack: Stack) -> npt.NDArray[np.intp]:
    """Planes that hold a label, and some that hold none; spread evenly."""
    if stack.labels is None:
        return spread(np.arange(len(stack.images)), _MOST_PLANES)
    filled = stack.labels.any(axis=(1, 2))
    full = spread(np.flatnonzero(filled), _MOST_PLANES)
    empty = spread(np.flatnonzero(~filled), max(1, len(full) // _EMPTY_SHARE))
    return np.concatenate([full, empty])


def spread(indices: npt.NDArray[np.intp], most: int) -> npt.NDArray[np.intp]:
    """At most `most` of `indices`, at even distances."""
    if len(indices) <= most:
        return indices
    return indices[np.linspace(0, len(indices) - 1, most).round().astype(np.intp)]


def annotated_mask(cases: Sequence[Case], concepts: Sequence[str], device: torch.device) -> Tensor:
    """(B, K): True where somebody looked for the concept."""
    rows = [[concept in case.annotated for concept in concepts] for case in cases]
    return torch.tensor(rows, device=device)
