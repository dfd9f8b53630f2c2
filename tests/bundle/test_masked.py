"""The reference loss and metrics: nobody is trained or judged on what nobody looked for."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from django.conf import settings

from fusion.bundle.masked import masked_bce, masked_dice, masked_loss

LABEL = torch.tensor([[[0, 1, 2, 0], [1, 1, 2, 2]]])


def gradient(
    logits: torch.Tensor, label: torch.Tensor, annotated: list[list[bool]]
) -> torch.Tensor:
    logits = logits.clone().requires_grad_()
    masked_loss(logits, label, torch.tensor(annotated)).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    return logits.grad


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(1, 3, 2, 4, generator=torch.Generator().manual_seed(1))


def test_an_unannotated_concept_and_the_background_get_no_gradient(logits):
    partial = torch.where(LABEL == 2, 0, LABEL)
    grad = gradient(logits, partial, [[True, False]])

    assert torch.count_nonzero(grad[:, 0]) == 0
    assert torch.count_nonzero(grad[:, 2]) == 0
    assert torch.count_nonzero(grad[:, 1]) == 3  # the labelled voxels


def test_voxels_without_a_label_do_not_count_where_annotation_is_partial(logits):
    partial = torch.where(LABEL == 2, 0, LABEL)
    grad = gradient(logits, partial, [[True, False]])

    assert torch.count_nonzero(grad[:, :, LABEL[0] != 1]) == 0


def test_whole_annotation_trains_background_and_every_concept(logits):
    grad = gradient(logits, LABEL, [[True, True]])

    assert all(torch.count_nonzero(grad[:, channel]) == 8 for channel in range(3))


def test_a_case_without_annotation_gives_zero(logits):
    grad = gradient(logits, torch.zeros_like(LABEL), [[False, False]])

    assert torch.count_nonzero(grad) == 0


def test_each_case_of_a_batch_has_its_own_annotation(logits):
    both = torch.cat([logits, logits])
    labels = torch.cat([LABEL, torch.where(LABEL == 1, 0, LABEL)])
    grad = gradient(both, labels, [[True, True], [False, True]])

    assert torch.count_nonzero(grad[0]) == 24
    assert torch.count_nonzero(grad[1, :2]) == 0
    assert torch.count_nonzero(grad[1, 2]) == 3


def test_a_perfect_answer_costs_less_than_a_wrong_one():
    right = torch.nn.functional.one_hot(LABEL, 3).movedim(-1, 1) * 20.0
    wrong = right.flip(1)
    whole = torch.tensor([[True, True]])

    assert masked_loss(right, LABEL, whole) < 0.01
    assert masked_loss(wrong, LABEL, whole) > 5


def test_unknown_classes_do_not_count():
    logits = torch.zeros(2, 2, requires_grad=True)
    loss = masked_bce(logits, torch.tensor([[1, -1], [0, -1]], dtype=torch.int8))
    loss.backward()

    assert loss.item() == pytest.approx(math.log(2))
    assert torch.count_nonzero(logits.grad[:, 1]) == 0
    assert torch.count_nonzero(logits.grad[:, 0]) == 2


def test_dice_is_nan_where_nobody_looked():
    guess = torch.where(LABEL == 1, 2, LABEL)

    dice = masked_dice(guess, LABEL, torch.tensor([[False, True]]))
    assert math.isnan(dice[0, 0])
    assert dice[0, 1] == pytest.approx(2 * 3 / (6 + 3))


def test_the_reader_inside_a_bundle_needs_neither_django_nor_this_package(built_once, tmp_path):
    tools = built_once["3D"] / "tools"
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(tools)!r})\n"
        "from read_bundle import Bundle\n"
        f"bundle = Bundle({str(built_once['3D'])!r})\n"
        "item = bundle.torch('train')[0]\n"
        "print(tuple(item['image'].shape), item['annotated'].tolist(), len(bundle.check()))\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('django', 'fusion')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines() == ["(1, 7, 9, 5) [True, True] 0", "[]"]


def test_the_guide_s_own_example_runs_as_it_stands(built_once, tmp_path):
    guide = (settings.BASE_DIR / "docs" / "bundles.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "my-bundle").symlink_to(built_once["3D"])
    code = block + "print(len(data), image.shape, label.shape, affine.shape, looked_for)"
    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout == "4 (7, 9, 5) (7, 9, 5) (4, 4) [ True  True]\n"


def test_the_reader_finds_a_damaged_member_and_says_what_is_in_a_bundle(bundle):
    tool = bundle / "tools" / "read_bundle.py"

    def ask() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(tool), "--check"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert "cases: test 2, train 4, val 2" in (done := ask()).stdout
    assert done.returncode == 0
    shard: Path = next((bundle / "shards").glob("val-*.tar"))
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    assert "found SHA-256" in (done := ask()).stdout
    assert done.returncode == 1
