"""Normalisation as metadata: how a trainer should scale each image, fitted on training cases.

Voxels are never normalised in a bundle. CT: one clip and z-score for all, over the labelled
foreground of the training cases. Other volumes: a clip and z-score of their own. Pictures: a
division by the largest value of their depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion.bundle.content import split_id, split_names
from fusion.imaging.intensity import pooled, strided, z_score
from fusion.imaging.volume import Array, Picture, Volume

SAMPLE = 4096  # values of a CT that stand for its foreground
_BODY_HU = -500
Row = Mapping[str, Any]


def norm_facts(image: Volume | Picture, *others: Volume | Picture) -> dict[str, Any]:
    """What one case can say before the splits are known; goes to case.json as `norm`.

    A case of several channels has one entry per channel, each by its own intensities.
    """
    if others:
        each = [_own(one) for one in (image, *others)]
        return {"method": "per_channel", "params": each, "fitted_on": "case"}
    if isinstance(image, Volume) and image.unit == "hu":
        return {"method": "clip_z_score", "params": None, "fitted_on": "train"}
    return _own(image)


def _own(image: Volume | Picture) -> dict[str, Any]:
    deepest = {1: 255, 8: 255, 16: 65_535}.get(image.bits) if isinstance(image, Picture) else None
    if deepest is not None:
        return {"method": "divide", "params": {"by": deepest}, "fitted_on": "nothing"}
    return {"method": "z_score", "params": z_score(image.array), "fitted_on": "case"}


def foreground_sample(image: Volume, label: Volume | Picture | None) -> Array:
    """At most SAMPLE values of a CT: under a label where there is one, else in the body."""
    inside: npt.NDArray[np.bool_] = (
        label.array > 0 if label is not None and label.array.any() else image.array > _BODY_HU
    )
    values = image.array[inside] if inside.any() else image.array.ravel()
    return np.sort(strided(values, SAMPLE))


def fit_norms(cases: Sequence[Row], sample_of: Callable[[Row], Array]) -> dict[str, dict[str, Any]]:
    """Case id -> normalisation, complete: CT numbers come from training cases alone.

    With several folds `params` holds one set per fold.
    """
    pending = [case for case in cases if (case["norm"] or {}).get("fitted_on") == "train"]
    done = {case["id"]: dict(case["norm"]) for case in cases if case["norm"]}
    if not pending:
        return done
    by_fold = {}
    for fold in sorted({fold for case in cases for fold in split_names(case)}):
        train = [case for case in pending if split_names(case).get(fold) == "train"]
        by_fold[fold] = pooled([sample_of(case) for case in train]) if train else None
    params = by_fold["holdout"] if list(by_fold) == ["holdout"] else by_fold
    for case in pending:
        done[case["id"]] |= {"params": params, "split_id": split_id(cases)}
    return done
