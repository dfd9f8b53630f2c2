"""Voxels that nobody annotated, beside read_bundle.py and masked.py; torch is optional.

This file stands alone and is part of every bundle with such voxels (tools/ignoring.py). Public
domain: CC0-1.0.

    import sys; sys.path.insert(0, "my-bundle/tools")
    from ignoring import IgnoringCases, counted, ignored_of
    from masked import masked_dice, masked_loss
    from read_bundle import Bundle

    bundle = Bundle("my-bundle")
    data = IgnoringCases(bundle, "train")       # items of torch, with `ignored`
    loss = counted(masked_loss, logits, label, annotated, ignored).mean()
    dice = counted(masked_dice, guess, label, annotated, ignored)

A label map holds one value more than there are concepts: there nobody looked, or nobody could
tell. It is neither background nor a concept, and no loss and no metric counts it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def ignore_value(bundle: Any) -> int:
    """The value of label maps where nobody annotated."""
    return int(bundle.manifest["plan"]["ignore"])


def ignored_of(bundle: Any, case: dict[str, Any]) -> np.ndarray | None:
    """Bool on the image's grid; None where the case has no label map in the bundle."""
    label = bundle.label(case)
    return None if label is None else label == ignore_value(bundle)


def counted(loss: Callable[..., Any], guess: Any, label: Any, annotated: Any, ignored: Any) -> Any:
    """`loss(guess, label, annotated)` of each case over the voxels that count, stacked: (N, ...).

    Cases without such a voxel are left out; a loss is the mean of the rest.

    Args:
        loss: masked_loss or masked_dice of masked.py.
        guess: (N, 1 + K, ...) of a loss, (N, ...) of a Dice.
        label: (N, ...). annotated: bool (N, K). ignored: bool (N, ...).
    """
    import torch

    found = []
    for n, counts in enumerate(~ignored):
        if counts.any():
            flat = guess[n : n + 1][..., counts]
            known = label[n : n + 1][:, counts]
            found.append(loss(flat, known, annotated[n : n + 1]).squeeze(0))
    if not found:
        raise ValueError(f"none of the {len(label)} cases has a voxel that was annotated")
    return torch.stack(found)


class IgnoringCases:
    """A map-style data set: the items of `bundle.torch()`, with bool `ignored` beside `label`.

    `label` is 0 where it is ignored, so that it can index classes.
    """

    def __init__(self, bundle: Any, split: str | None = None, fold: str | None = None) -> None:
        self.items, self.value = bundle.torch(split, fold), ignore_value(bundle)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item: dict[str, Any] = self.items[index]
        if (label := item.get("label")) is None:
            return item
        ignored = label == self.value
        return item | {"label": label.masked_fill(ignored, 0), "ignored": ignored}
