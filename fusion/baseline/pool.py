"""Training inputs of an arm, drawn so that a large source does not drown a small one.

What a step draws follows from the seed and the step's number alone: a training that goes on after
a stop draws what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion.baseline.cases import Case, source_weights
from fusion.baseline.grid import Stack

Ints = npt.NDArray[np.intp]
_ON_STRUCTURE = 0.8  # of the patches are centred on a labelled voxel
_MOST_PLANES = 32  # of one volume, where nothing is labelled


@dataclass(frozen=True)
class Window:
    """One input: a patch of a plane or volume of a case."""

    case: Case
    plane: int
    where: tuple[slice, ...]

    @property
    def within(self) -> tuple[Any, ...]:
        """Of a plane with any number of channels before its axes."""
        return (Ellipsis, *self.where)


@dataclass(frozen=True)
class Pool:
    """Cases to draw from; `patch` pixels along each axis."""

    cases: Sequence[Case]
    stacks: Mapping[str, Stack]
    patch: int
    seed: int
    concepts: Sequence[str] = ()

    @cached_property
    def _weights(self) -> list[float]:
        return source_weights(self.cases)

    @cached_property
    def _places(self) -> dict[str, list[Places]]:
        return {case.id: self._places_of(case) for case in self.cases}

    def ready(self) -> Pool:
        """The same, with the places of structures looked up before the first step."""
        _ = self._places
        return self

    def draw(self, step: int, size: int) -> list[Window]:
        """`size` windows, with replacement."""
        rng = np.random.default_rng([self.seed, step])
        picked = rng.choice(len(self.cases), size=size, p=self._weights)
        return [self._window(self.cases[i], rng) for i in picked]

    def images(self, windows: Sequence[Window]) -> npt.NDArray[np.float32]:
        """Inputs (B, C, patch, ...)."""
        cut = [self.stacks[w.case.id].images[w.plane][w.within] for w in windows]
        return np.stack(cut).astype(np.float32)

    def _window(self, case: Case, rng: np.random.Generator) -> Window:
        images = self.stacks[case.id].images
        shape = images.shape[2:]
        places = self._places[case.id]
        if places and rng.random() < _ON_STRUCTURE:
            plane, centre = places[rng.integers(len(places))].pick(rng)
        else:
            plane = int(rng.choice(spread(np.arange(len(images)), _MOST_PLANES)))
            centre = tuple(int(rng.integers(n)) for n in shape)
        starts = [
            min(max(at - self.patch // 2, 0), max(n - self.patch, 0))
            for at, n in zip(centre, shape, strict=True)
        ]
        return Window(case, plane, tuple(slice(start, start + self.patch) for start in starts))

    def _places_of(self, case: Case) -> list[Places]:
        labels = self.stacks[case.id].labels
        if labels is None:
            return []
        shown = [int(v) for v in np.unique(labels) if 0 < v <= len(self.concepts)]
        values = [v for v in shown if self.concepts[v - 1] in case.annotated]
        return [Places.of(labels, value) for value in values]


@dataclass(frozen=True)
class Places:
    """Some voxels (M, 1 + axes) of one structure, plane by plane; `starts` of each plane."""

    voxels: Ints
    starts: Ints

    @classmethod
    def of(cls, labels: npt.NDArray[np.uint16], value: int, most: int = 8192) -> Places:
        """At most about `most` voxels, from every plane that holds the structure."""
        found = np.argwhere(labels == value)
        planes, first, counts = np.unique(found[:, 0], return_index=True, return_counts=True)
        quota = max(1, most // len(planes))
        kept = [
            found[at + spread(np.arange(n), quota)] for at, n in zip(first, counts, strict=True)
        ]
        ends = np.cumsum([len(one) for one in kept])
        return cls(np.concatenate(kept), np.concatenate([[0], ends]))

    def pick(self, rng: np.random.Generator) -> tuple[int, tuple[int, ...]]:
        """Any plane, and in it any voxel."""
        plane = int(rng.integers(len(self.starts) - 1))
        row = self.voxels[rng.integers(self.starts[plane], self.starts[plane + 1])]
        return int(row[0]), tuple(int(at) for at in row[1:])


def spread(indices: Ints, most: int) -> Ints:
    """At most `most` of `indices`, at even distances."""
    if len(indices) <= most:
        return indices
    return indices[np.linspace(0, len(indices) - 1, most).round().astype(np.intp)]


def annotated_mask(cases: Sequence[Case], concepts: Sequence[str]) -> npt.NDArray[np.bool_]:
    """(B, K): True where somebody looked for the concept."""
    return np.array([[concept in case.annotated for concept in concepts] for case in cases])
