"""Detection: a small RetinaNet over whole pictures; a box hits at IoU >= 0.5 with one not yet hit.

Boxes of files and results run x, y in pixels of the stored picture; those that the network sees run
row, column on the canvas, as its arrays do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from monai.apps.detection.metrics.matching import matching_batch
from monai.apps.detection.networks.retinanet_network import RetinaNet
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.apps.detection.utils.ATSS_matcher import ATSSMatcher
from monai.apps.detection.utils.box_coder import BoxCoder
from monai.apps.detection.utils.box_selector import BoxSelector
from monai.data.box_utils import box_iou
from monai.losses.focal_loss import FocalLoss
from monai.networks.blocks.backbone_fpn_utils import BackboneWithFPN
from monai.networks.nets.resnet import ResNet
from monai.networks.utils import replace_modules
from torch import Tensor, nn

from fusion.baseline.cases import Arm, Case
from fusion.baseline.fit import ArmFailedError, Batch, Plan
from fusion.baseline.grid import Canvas, Shape, Stack, inner_slices
from fusion.baseline.metrics import box_ap
from fusion.baseline.pool import Pool, annotated_mask, spread
from fusion.baseline.results import SURE, BoxScore
from fusion.baseline.segment import Predictor
from fusion.baseline.tier import Tier
from fusion.bundle.boxes import decode_boxes
from fusion.imaging.boxes import Boxes, as_boxes, clipped, filled, volumes

HIT_IOU = 0.5
_STRIDES = (4, 8, 16, 32)  # pixels of the canvas per cell of each level of the pyramid
_SHAPES = ((8, 8), (6, 12), (12, 6))  # pixels of an anchor of the finest level
_GROUPS = 8  # of channels that are normalised together, as in the heads
_MOST_BOXES = 100  # of one picture
_AXES = 2
_SWAP = [1, 0, 3, 2]  # x, y to row, column, and back
_FOCAL = FocalLoss(gamma=2.0, alpha=0.25, reduction="none")
_BOX_LOSS = nn.SmoothL1Loss(beta=1 / 9, reduction="sum")
_CODER = BoxCoder((1.0,) * 2 * _AXES)
_MATCHER = ATSSMatcher(num_candidates=4, center_in_gt=False)
_SELECTOR = BoxSelector(
    score_thresh=0.05,
    topk_candidates_per_level=_MOST_BOXES,
    nms_thresh=0.5,
    detections_per_img=_MOST_BOXES,
)
Masks = dict[str, npt.NDArray[np.bool_]]


class Detected(NamedTuple):
    """Boxes (N, 4) in pixels of a picture, the number of the concept of each, its confidence."""

    boxes: Boxes
    classes: npt.NDArray[np.intp]
    confidence: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Detector:
    """One yes or no per concept and anchor.

    So a case that is not annotated for a concept says nothing about it.
    """

    concepts: Sequence[str]
    canvas: Canvas
    stacks: Mapping[str, Stack]
    cases: Sequence[Case] = ()

    def design(self, tier: Tier) -> dict[str, Any]:
        """Arguments of `retina_net`."""
        return {
            "in_channels": self.canvas.channels,
            "out_channels": len(self.concepts),
            "channels": list(tier.features),
        }

    def plan(self, arm: Arm, tier: Tier, seed: int, predictor: Predictor) -> Plan:
        """What to train on, with which loss, chosen by box AP of the val cases."""
        pool = Pool(arm.train, self.stacks, self.canvas.patch, seed)
        targets = {case.id: self._target(case) for case in arm.train}
        most = max(len(one) for one in targets.values())

        def draw(step: int) -> Batch:
            windows = pool.draw(step, tier.batch)
            rows = np.full((len(windows), most, 1 + 2 * _AXES), -1, np.float32)
            for row, window in zip(rows, windows, strict=True):
                target = targets[window.case.id]
                row[: len(target)] = target
            mask = annotated_mask([window.case for window in windows], self.concepts)
            return Batch(pool.images(windows), rows, mask)

        val = [arm.val[i] for i in spread(np.arange(len(arm.val)), tier.val_cases)]

        def quality(net: nn.Module) -> float:
            return mean_ap([self.outcome(net, case, predictor)["boxes"] for case in val])

        loss = AnchorLoss(self.canvas.patch)
        chosen = quality if val else None
        return Plan(draw, lambda boxes: boxes, loss, chosen, 0, tier.learning_rate_boxes)

    def outcome(self, net: nn.Module, case: Case, predictor: Predictor) -> dict[str, Any]:
        """Of each concept annotated in a case: which boxes hit, and how many there are."""
        found = self.detected(net, self.stacks[case.id], case.shape, predictor)
        return {"boxes": scores(found, self._reference[case.id], self.concepts, case.annotated)}

    def detected(
        self, net: nn.Module, stack: Stack, shape: Shape, predictor: Predictor
    ) -> Detected:
        """Boxes in pixels of a picture of `shape` (rows, columns), the surest first."""
        outputs = torch.from_numpy(predictor.logits(net, stack.images))[0]
        anchors, cells = anchors_of(self.canvas.patch)
        sizes = [n * len(_SHAPES) for n in cells]
        logits, offsets = _halves(outputs)
        placed = _CODER.decode_single(offsets, anchors)
        boxes, confidence, classes = _SELECTOR.select_boxes_per_image(
            list(torch.split(placed, sizes)),
            list(torch.split(logits, sizes)),
            stack.images.shape[-_AXES:],
        )
        start, factor = self._place(stack, shape)
        there = (boxes.numpy().astype(float) - start) / factor
        inside, _ = clipped(there[:, _SWAP], shape[::-1])
        kept = volumes(inside) > 0
        return Detected(inside[kept], classes.numpy()[kept], confidence.numpy().astype(float)[kept])

    def pair(self, net: nn.Module, case: Case, predictor: Predictor) -> tuple[Masks, Masks]:
        """Areas (1, rows, columns) of sure and of true boxes per concept, to be looked at."""
        stack = self.stacks[case.id]
        found = self.detected(net, stack, case.shape, predictor)
        sure = found.confidence >= SURE
        return (
            self._areas(stack, case, found.boxes[sure], found.classes[sure]),
            self._areas(stack, case, *self._reference[case.id][:2]),
        )

    def _areas(
        self, stack: Stack, case: Case, boxes: Boxes, classes: npt.NDArray[np.intp]
    ) -> Masks:
        _, factor = self._place(stack, case.shape)
        rows = boxes * factor[_SWAP]  # before padding
        return {
            concept: filled(((1, row) for row in rows[classes == k]), stack.inner)[None] > 0
            for k, concept in enumerate(self.concepts)
            if concept in case.annotated
        }

    @cached_property
    def _reference(self) -> dict[str, Detected]:
        """The true boxes of each case."""
        return {case.id: reference_of(case, self.concepts) for case in self.cases}

    def _target(self, case: Case) -> npt.NDArray[np.float32]:
        """Rows of class and box on the canvas."""
        start, factor = self._place(self.stacks[case.id], case.shape)
        true = self._reference[case.id]
        placed = true.boxes[:, _SWAP] * factor + start
        return np.concatenate([true.classes[:, None], placed], axis=1).astype(np.float32)

    @staticmethod
    def _place(stack: Stack, shape: Shape) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Where pixel (0, 0) lies on the canvas, and pixels of it per pixel; of both corners."""
        slices = inner_slices(stack.images.shape[-_AXES:], stack.inner)
        start = np.array([one.start for one in slices] * 2, float)
        return start, np.tile(np.array(stack.inner, float) / np.array(shape[:_AXES], float), 2)


def reference_of(case: Case, concepts: Sequence[str]) -> Detected:
    """The boxes of a case's file, of `concepts` that are annotated in it.

    Raises:
        ValueError: the case has no such file.
    """
    if case.boxes is None:
        raise ValueError(f"{case.id}: found no file of boxes, expected one for detection")
    rows = [
        row
        for row in decode_boxes(case.boxes.name, case.boxes.read_bytes())
        if row.concept in case.annotated and row.concept in concepts
    ]
    classes = np.array([concepts.index(row.concept) for row in rows], np.intp)
    return Detected(as_boxes((row.corners for row in rows), _AXES), classes, np.ones(len(rows)))


def scores(
    found: Detected, true: Detected, concepts: Sequence[str], annotated: frozenset[str]
) -> dict[str, BoxScore]:
    """Of each annotated concept; MONAI pairs the surest box with the best one still free."""
    (matches,) = matching_batch(
        lambda one, other: np.asarray(box_iou(one, other)),
        [HIT_IOU],
        [found.boxes],
        [found.classes],
        [found.confidence],
        [true.boxes],
        [true.classes],
        max_detections=_MOST_BOXES,
    )
    result = {}
    for k, concept in enumerate(concepts):
        if concept in annotated:
            one: Mapping[str, Any] = matches.get(k, {"dtScores": [], "dtMatches": [[]]})
            pairs = zip(one["dtScores"], one["dtMatches"][0], strict=True)
            rows = tuple((float(confidence), bool(hit)) for confidence, hit in pairs)
            result[concept] = BoxScore(rows, int((true.classes == k).sum()))
    return result


def mean_ap(cases: Sequence[Mapping[str, BoxScore]]) -> float:
    """Box AP over `cases`, its mean over the concepts that have a box; 0 without any."""
    found = []
    for concept in sorted({concept for case in cases for concept in case}):
        rows = [case[concept] for case in cases if concept in case]
        reference = np.array([row.reference for row in rows], float)
        if reference.any():
            once = np.ones((1, len(rows)))
            found.append(float(box_ap([row.predicted for row in rows], reference, once)[0]))
    return float(np.mean(found)) if found else 0.0


@dataclass(frozen=True)
class AnchorLoss:
    """Focal loss of every anchor's classes and smooth L1 of the boxes of those that match one.

    An anchor is matched by ATSS. Each picture's sum is divided by its matched anchors.
    """

    patch: int

    def __call__(self, outputs: Tensor, targets: Tensor, annotated: Tensor) -> Tensor:
        """Mean over pictures.

        Args:
            outputs: (B, A, K + 4).
            targets: (B, M, 5) of class and box; class -1 is none.
            annotated: (B, K) of bool: class k is learnt only from pictures where it is True.
        """
        return torch.stack([
            self._picture(*one) for one in zip(outputs, targets, annotated, strict=True)
        ]).mean()  # fmt: skip

    def _picture(self, outputs: Tensor, targets: Tensor, annotated: Tensor) -> Tensor:
        if not annotated.any():
            return outputs.new_zeros(())
        logits, offsets = _halves(outputs)
        anchors, cells = anchors_of(self.patch)
        anchors = anchors.to(outputs.device)
        true, hot = targets[targets[:, 0] >= 0], torch.zeros_like(logits)
        value = logits.new_zeros(())
        count = 1
        if len(true):
            _, matched = _MATCHER(true[:, 1:], anchors, cells, len(_SHAPES))
            (at,) = torch.where(matched >= 0)
            mine = true[matched[at]]
            hot[at, mine[:, 0].long()] = 1
            count = max(len(at), 1)
            value = _BOX_LOSS(offsets[at], _CODER.encode_single(mine[:, 1:], anchors[at]))
        value = value + _FOCAL(logits[:, annotated], hot[:, annotated]).sum()
        mean: Tensor = value / count
        return mean


def _halves(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the classes (A, K) and offsets of the box (A, 4)."""
    return outputs[:, : -2 * _AXES], outputs[:, -2 * _AXES :]


@cache
def anchors_of(patch: int) -> tuple[Tensor, list[int]]:
    """Anchors (A, 4) of a square picture, level by level, and the cells of each level."""
    sides = [patch // stride for stride in _STRIDES]
    scales = [stride / _STRIDES[0] for stride in _STRIDES]
    maps = [torch.zeros(1, 1, side, side) for side in sides]
    made = AnchorGeneratorWithAnchorShape(scales, _SHAPES)(torch.zeros(1, 1, patch, patch), maps)
    return made[0], [side**2 for side in sides]


class FlatRetinaNet(nn.Module):
    """MONAI's RetinaNet with all that it says of a picture in one tensor (B, A, K + 4)."""

    def __init__(self, net: RetinaNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        try:
            found = self.net(images)
        except ValueError as error:  # what MONAI's heads raise in training
            raise ArmFailedError(f"the network gives no numbers: {error}") from error
        parts = [self._flat(found[key]) for key in (self.net.cls_key, self.net.box_reg_key)]
        return torch.cat([part.float() for part in parts], dim=2)

    @staticmethod
    def _flat(maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, anchors of a cell * C, H, W) as (B, A, C)."""
        cell = len(_SHAPES)
        return torch.cat([
            one.reshape(len(one), cell, -1, *one.shape[2:]).permute(0, 3, 4, 1, 2).flatten(1, 3)
            for one in maps
        ], dim=1)  # fmt: skip


def retina_net(in_channels: int, out_channels: int, channels: Sequence[int]) -> nn.Module:
    """MONAI's RetinaNet on a small ResNet with a pyramid, normalised in groups of channels.

    Batches are small and mix sources, so that each picture is normalised by itself.
    """
    body = ResNet(
        "basic",
        [1, 1, 1, 1],
        list(channels),
        spatial_dims=_AXES,
        n_input_channels=in_channels,
        conv1_t_stride=2,
        feed_forward=False,
    )
    norms = [(n, one) for n, one in body.named_modules() if isinstance(one, nn.BatchNorm2d)]
    for name, one in norms:
        replace_modules(body, name, nn.GroupNorm(_GROUPS, one.num_features))
    levels = len(_STRIDES) - 1  # the last one is pooled from the one before
    pyramid = BackboneWithFPN(
        body,
        {f"layer{n + 1}": str(n) for n in range(levels)},
        list(channels[:levels]),
        channels[1],
        spatial_dims=_AXES,
    )
    return FlatRetinaNet(RetinaNet(_AXES, out_channels, len(_SHAPES), pyramid))
