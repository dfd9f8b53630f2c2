"""Loss and metrics for partly annotated data, as a bundle's contract asks for; needs torch.

This file stands alone and is part of every bundle (tools/masked.py). Public domain: CC0-1.0.

A concept counts only in cases where somebody looked for it. Where all concepts were looked for,
the rest of the voxels are background and are trained as such; where one was not, nobody knows
what the unlabelled voxels are, and background is not trained there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def masked_loss(logits: Tensor, label: Tensor, annotated: Tensor) -> Tensor:
    """Dice + cross-entropy over the concepts that were looked for.

    A concept that was not looked for is taken out of the softmax of its case, and voxels without
    a label do not count there: they may be background or that very concept.

    Args:
        logits: float (N, 1 + K, ...), channel 0 is background.
        label: integer (N, ...).
        annotated: bool (N, K).

    Returns:
        A scalar. Its gradient is 0 in channels of concepts that were not looked for in any case.
    """
    n, channels = logits.shape[:2]
    is_whole = annotated.all(dim=1, keepdim=True)
    in_play = torch.cat([is_whole, annotated], dim=1)
    shape = (n, channels, *[1] * (label.ndim - 1))
    # Background keeps its place in the softmax, or one lonely concept would have nothing to learn;
    # where it is not trained it is held fixed.
    background = torch.where(
        is_whole.view(n, *[1] * (label.ndim)), logits[:, :1], logits[:, :1].detach()
    )
    logits = torch.cat([background, logits[:, 1:]], dim=1)
    allowed = torch.cat([torch.ones_like(is_whole), annotated], dim=1).view(shape)
    log_p = logits.masked_fill(~allowed, -torch.inf).log_softmax(dim=1)
    known = (label > 0) | is_whole.view(n, *[1] * (label.ndim - 1))
    target = torch.where(known, label, torch.zeros_like(label)).long()
    picked = -log_p.gather(1, target.unsqueeze(1)).squeeze(1)
    entropy = torch.where(known, picked, torch.zeros_like(picked)).sum() / known.sum().clamp(min=1)
    inside = known.unsqueeze(1)
    guess = (log_p.exp() * inside).reshape(n, channels, -1)
    hot = functional.one_hot(target, channels).movedim(-1, 1) * inside
    truth = hot.reshape(n, channels, -1).to(guess.dtype)
    dice = (2 * (guess * truth).sum(-1) + 1) / (guess.sum(-1) + truth.sum(-1) + 1)
    keep = in_play.to(dice.dtype)
    return entropy + ((1 - dice) * keep).sum() / keep.sum().clamp(min=1)


def masked_bce(logits: Tensor, classes: Tensor) -> Tensor:
    """Binary cross-entropy of image labels (N, K): 1 present, 0 absent; -1 does not count."""
    keep = (classes >= 0).to(logits.dtype)
    truth = classes.clamp(min=0).to(logits.dtype)
    loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (loss * keep).sum() / keep.sum().clamp(min=1)


def masked_dice(guess: Tensor, label: Tensor, annotated: Tensor) -> Tensor:
    """Dice (N, K) of two label maps (N, ...); nan where a concept was not looked for.

    nan, too, where it is in neither map: such a case says nothing and is counted apart.
    """
    k = annotated.shape[1]
    values = torch.arange(1, k + 1, device=label.device).view(1, k, *[1] * (label.ndim - 1))
    a = (guess.unsqueeze(1) == values).flatten(2)
    b = (label.unsqueeze(1) == values).flatten(2)
    dice = 2 * (a & b).sum(-1) / (a.sum(-1) + b.sum(-1))
    return torch.where(annotated, dice, torch.full_like(dice, torch.nan))
