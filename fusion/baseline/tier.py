"""How much a baseline may cost. One tier so far: smoke."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tier:
    """Limits of one tier.

    Attributes:
        cases: at most so many cases are read.
        steps: optimiser steps of an arm when there is one arm; see `steps_of`.
        fewest_steps: no arm gets fewer.
        edges: working sizes in pixels, smallest first; each a multiple of 8.
        picture_edges: the same for pictures.
        seconds: an arm that is not done after so long fails.
    """

    name: str = "smoke"
    cases: int = 200
    steps: int = 200
    fewest_steps: int = 80
    batch: int = 8
    validations: int = 4
    edges: tuple[int, ...] = (64, 96)
    picture_edges: tuple[int, ...] = (64, 128)
    learning_rate: float = 3e-3
    seconds: float = 600.0

    def steps_of(self, arms: int) -> int:
        """Steps of each of `arms` arms: equal, and twice one arm's budget for all together."""
        return min(self.steps, max(self.fewest_steps, 2 * self.steps // max(arms, 1)))


SMOKE = Tier()
