"""Training that is stopped, runs out of memory or of patience."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fusion.baseline import FOLDER, Tier, run_baseline
from fusion.baseline.cases import arms_of, read_cases
from fusion.baseline.device import first_free, ranked_by
from fusion.baseline.fit import ArmFailedError, Batch, Plan, Room, fit
from fusion.baseline.grid import Canvas
from fusion.baseline.results import FILE, read_results
from fusion.baseline.segment import Predictor
from fusion.baseline.train import CHECKPOINTS
from tests.baseline.made import QUICK, Work, holdout, plan

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
LONG = Tier(steps=60, shared_steps=120, fewest_steps=30, validations=30)
KILLED = f"""
import sys
from pathlib import Path
from fusion.baseline import Tier, run_baseline
from tests.baseline.made import plan
run_baseline(plan("a", "b"), Path(sys.argv[1]), device="cpu", threads=1, tier={LONG!r})
"""


def no_room() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def no_room_for_a_library() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def no_room_in_this_machine() -> torch.Tensor:
    return torch.empty(1 << 50)


class Narrow(nn.Module):
    """A network on a device whose memory ends at more than `most` inputs at once."""

    def __init__(self, most: int, ends: Callable[[], object] | None = None) -> None:
        super().__init__()
        self.most, self.seen, self.ends = most, [], ends or no_room
        self.net = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.most:
            self.ends()
        self.seen.append(len(images))
        return self.net(images)


def easy(steps: int = 3, quality=None, size: int = 8) -> Plan:
    """Learn to copy an image; every input counts alike in the loss."""

    def draw(step: int) -> Batch:
        images = np.random.default_rng(step).normal(size=(size, 1, 8, 8)).astype(np.float32)
        return Batch(images, images, np.ones((size, 1), bool))

    def loss(logits, targets, _):
        return nn.functional.mse_loss(logits, targets)

    return Plan(draw, lambda targets: targets, loss, quality, steps)


def fitted(net: nn.Module, plan: Plan, tier: Tier = QUICK, room: Room | None = None):
    torch.manual_seed(0)
    nn.init.normal_(net.net.weight)
    nn.init.zeros_(net.net.bias)
    return fit(net, plan, tier, lambda _: None, CPU, room)


def test_where_memory_ends_the_batch_goes_in_halves_and_teaches_the_same():
    wide, narrow, room = Narrow(8), Narrow(3), Room([])

    whole, halved = fitted(wide, easy()), fitted(narrow, easy(), room=room)

    assert (set(wide.seen), set(narrow.seen)) == ({8}, {2})
    assert room.notes == [
        "out of memory with 8 training inputs at once at step 1: 4 from then on",
        "out of memory with 4 training inputs at once at step 1: 2 from then on",
    ]
    assert halved.last_loss == pytest.approx(whole.last_loss, rel=1e-5)
    torch.testing.assert_close(narrow.net.weight, wide.net.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ends", [no_room_for_a_library, no_room_in_this_machine])
def test_memory_beside_that_of_torchs_own_pool_ends_in_halves_too(ends):
    net, plan = Narrow(3, ends), easy()
    predictor = Predictor(Canvas(2, None, 8, None, 8, 1), CPU, room := Room([], windows=4))

    fitted(net, plan, room=room)
    found = predictor.logits(net, plan.draw(1).images.astype(np.float16))

    assert (set(net.seen), len(found)) == ({2}, 8)
    assert room.notes[-1] == "out of memory with 4 windows to predict at once: 2 from then on"


def test_another_fault_of_a_network_is_no_lack_of_memory():
    def fault() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        fitted(Narrow(3, fault), easy(), room=(room := Room([])))
    assert room.notes == []


WAITING = """
import os, time
import fusion.imaging.parallel
import torch

def cost(threads):
    torch.set_num_threads(threads)
    begun = time.process_time()
    for _ in range(200):
        image.mul(1.001)
    return time.process_time() - begun

image = torch.rand(1 << 17)
cost(2)  # its threads are made
for task in os.listdir("/proc/self/task"):
    os.sched_setaffinity(int(task), {min(os.sched_getaffinity(0))})
print(cost(2) / cost(1))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux binds threads to a core")
def test_threads_that_wait_for_each_other_on_a_busy_core_use_none_of_its_time():
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}

    command = [sys.executable, "-c", WAITING]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert float(done.stdout) < 8  # 1.3; threads that spin reach 140


class Steep(torch.autograd.Function):
    """Backwards there is room for two inputs; `held` are the graphs that are still in memory."""

    held: weakref.WeakSet = weakref.WeakSet()

    @staticmethod
    def forward(ctx, images):
        ctx.size = len(images)
        ctx.graph = type("Graph", (), {})()
        Steep.held.add(ctx.graph)
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):
        if ctx.size > 2:
            no_room()
        return gradient


def test_what_did_not_fit_is_let_go_before_less_is_tried():
    before = []

    class Net(Narrow):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            before.append(len(Steep.held))
            return Steep.apply(super().forward(images))

    fitted(Net(8), easy(steps=1), room=(room := Room([])))

    assert room.part == 2
    assert before[:3] == [0, 0, 0]  # 8, 4 and the first 2 inputs


def test_a_checkpoint_of_a_gpu_that_scales_nothing_is_gone_on_with_on_one_that_does(
    tmp_path: Path, monkeypatch
):
    from fusion.baseline.device import Precision

    def train(steps: int):
        plan, kept = easy(steps), tmp_path / "kept.pt"
        torch.manual_seed(0)
        return fit(Narrow(8), plan, QUICK, lambda _: None, CPU, Room([]), kept)

    assert train(2).steps == 2
    monkeypatch.setattr(Precision, "dtype", torch.float16)

    assert train(4).steps == 4


def test_where_not_one_input_fits_the_arm_is_trained_on_the_cpu(tmp_path: Path, monkeypatch):
    from fusion.baseline import train

    work, build, made = holdout(Work(tmp_path)), train.weights.build, []

    def small(*arguments) -> nn.Module:
        made.append(build(*arguments))
        if len(made) == 1:  # the first network goes to the device, the second to the CPU
            made[0].register_forward_pre_hook(lambda *_: out_of_memory())
        return made[-1]

    def out_of_memory() -> None:
        raise torch.OutOfMemoryError("tried to allocate 20 MiB")

    class Device:  # torch knows this name for the CPU, and it is not `cpu`
        def __enter__(self) -> torch.device:
            return torch.device("cpu", 0)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(train.weights, "build", small)
    monkeypatch.setattr(train, "held", lambda _: Device())
    run_baseline(plan("a"), work.root, threads=1, tier=QUICK)

    (arm,) = (one.record for one in read_results(work.root / FOLDER / FILE))
    assert (arm.state, len(made)) == ("done", 2)
    assert arm.notes[0].startswith("out of memory with 8 training inputs at once at step 1: 4")
    assert arm.notes[-1] == "out of memory on cpu with one input"


def test_training_ends_when_ten_looks_at_the_val_cases_found_nothing_better():
    qualities = iter([0.1, 0.5, *[0.4] * 98])
    tier = dataclasses.replace(QUICK, validations=100)

    found = fitted(Narrow(8), easy(100, lambda _: next(qualities)), tier)

    assert (found.steps, found.best_step, found.best_quality) == (12, 2, 0.5)


def test_an_arm_whose_time_ends_late_keeps_its_best_weights_and_is_said_to_be_cut():
    tier, looks = dataclasses.replace(QUICK, validations=5), iter([0.1, 0.5, 0.4, 0.3])
    over = iter([False] * 6 + [True])
    plan = dataclasses.replace(easy(10, lambda _: next(looks)), is_over=lambda: next(over))

    found = fitted(Narrow(8), plan, tier)

    assert (found.steps, found.is_cut) == (7, True)
    assert (found.best_step, found.best_quality) == (4, 0.5)
    assert list(looks) == []  # the last step was looked at, too


def test_an_arm_whose_time_ends_before_half_of_its_steps_fails():
    plan = dataclasses.replace(easy(10), is_over=lambda: True)

    with pytest.raises(ArmFailedError, match="timeout: 1 of 10 steps"):
        fitted(Narrow(8), plan)


def test_results_of_an_arm_that_was_cut_are_kept_and_flagged(tmp_path: Path, monkeypatch):
    from fusion.baseline import train

    work, asked = holdout(Work(tmp_path)), itertools.count()
    # The watch is read twice for the deadline of a network, then after each of its steps.
    monkeypatch.setattr(train, "stopwatch", lambda _: lambda: 1e6 * (next(asked) >= 14))
    tier = dataclasses.replace(QUICK, steps=16, fewest_steps=16)

    found = run_baseline(plan("a"), work.root, device="cpu", threads=1, tier=tier)

    (arm,) = found["arms"]
    assert (arm["state"], arm["steps"]) == ("cut", 13)
    assert arm["reason"] == "cut short by the time limit: 13 of 16 steps"
    assert found["matrix"][0]["value"] is not None
    assert (work.root / FOLDER / "weights.safetensors").is_file()
    again = run_baseline(plan("a"), work.root, device="cpu", threads=1, tier=tier)
    assert again == found  # not trained again


def test_a_killed_baseline_goes_on_and_ends_with_the_numbers_of_an_undisturbed_one(tmp_path: Path):
    undisturbed, killed = (holdout(Work(tmp_path / name)) for name in ("one", "two"))
    expected = run_baseline(plan("a", "b"), undisturbed.root, device="cpu", threads=1, tier=LONG)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, str(killed.root)]
    saved = killed.root / FOLDER / CHECKPOINTS

    process = subprocess.Popen(command, env=environment)
    until = time.monotonic() + 300
    while not list(saved.glob("*.pt")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (checkpoint,) = saved.glob("*.pt")
    reached = torch.load(checkpoint, weights_only=True)["state"]["step"]
    assert 0 < reached < 40
    seen: list[int] = []
    found = run_baseline(
        plan("a", "b"), killed.root, device="cpu", threads=1, tier=LONG,
        progress=lambda done, _: seen.append(done),
    )  # fmt: skip

    assert found == expected
    assert reached in np.diff(seen)  # these steps were not taken again
    for name in (FILE, "weights.safetensors", "network.json"):
        ours, theirs = (work.root / FOLDER / name for work in (killed, undisturbed))
        assert ours.read_bytes() == theirs.read_bytes()
    left = [
        sorted(str(path.relative_to(work.root)) for path in (work.root / FOLDER).rglob("*"))
        for work in (killed, undisturbed)
    ]
    assert left[0] == left[1]
    assert not any("checkpoint" in name or name.endswith(".tmp") for name in left[0])


def test_finished_arms_are_not_trained_again(tmp_path: Path):
    work = holdout(Work(tmp_path))
    first = run_baseline(plan("a", "b"), work.root, device="cpu", threads=1, tier=QUICK)
    seen: list[int] = []

    again = run_baseline(
        plan("a", "b"), work.root, device="cpu", threads=1, tier=QUICK,
        progress=lambda done, _: seen.append(done),
    )  # fmt: skip

    assert again == first
    assert len(seen) == len(work.cases) + 3  # one stride per network: nothing was computed


def test_every_fold_is_trained_and_every_case_tested_once(tmp_path: Path):
    work = Work(tmp_path)
    for number in range(9):
        for source in "ab":
            split = {f"fold{k}": "test" if k == number % 3 else "train" for k in range(3)}
            work.picture(source, split)

    arms = arms_of(read_cases(work.root), ["a", "b"], "kfold", seed=1)

    assert [arm.fold for arm in arms] == [f for f in ("fold0", "fold1", "fold2") for _ in range(5)]
    fused = [arm for arm in arms if arm.name == "fused"]
    assert sorted(case.id for arm in fused for case in arm.test) == [c["id"] for c in sorted(
        work.cases, key=lambda case: case["id"])]  # fmt: skip
    for arm in arms:
        assert not arm.objection()
        assert len(arm.val) == {"fused": 2, "single:a": 1, "single:b": 1}.get(arm.name, 1)


def test_a_source_without_val_cases_gives_some_beside_one_that_has_them(tmp_path: Path):
    work = Work(tmp_path)
    for split in ("train", "train", "val", "test"):
        work.picture("official", split)
    for split in ("train",) * 10 + ("test",):
        work.picture("none", split)

    arms = {
        one.name: one for one in arms_of(read_cases(work.root), ["none", "official"], "holdout")
    }

    fused, alone = arms["fused"], arms["single:none"]
    assert sorted(case.source for case in fused.val) == ["none", "none", "official"]
    assert {case.id for case in alone.val} < {case.id for case in fused.val}
    assert not {case.group for case in fused.val} & {case.group for case in fused.train}


def test_seeds_train_networks_of_their_own(tmp_path: Path):
    work = holdout(Work(tmp_path))
    tier = dataclasses.replace(QUICK, steps=4, fewest_steps=4, seeds=2)

    run_baseline(plan("a", "b"), work.root, device="cpu", threads=1, tier=tier)

    records = [arm.record for arm in read_results(work.root / FOLDER / FILE)]
    assert [(r.arm, r.seed) for r in records if r.arm == "fused"] == [("fused", 7), ("fused", 8)]
    losses = {r.last_loss for r in records if r.arm == "fused"}
    assert len(losses) == 2
    assert len(records) == 10
    for arm, twin in (("single:a", "without:b"), ("single:b", "without:a")):
        same = [r for r in records if r.arm in {arm, twin}]
        assert len({(r.seed, r.last_loss) for r in same}) == 2  # learnt alike: trained once


def test_the_emptiest_gpu_is_taken_and_the_cpu_where_none_has_room():
    free = [3 << 30, 9 << 30, 1 << 20]

    assert [device.index for device in ranked_by(free, "auto")] == [1, 0]
    assert [device.index for device in ranked_by(free, "cuda")] == [1, 0, 2]
    assert ranked_by([1 << 20], "auto") == [CPU]


HOLDER = """
import sys
from pathlib import Path
from fusion.baseline.device import first_free
number, lock = first_free(["GPU-1", "GPU-2"], Path(sys.argv[1]))
print(number, flush=True)
sys.stdin.read()
"""


def test_a_gpu_serves_one_baseline_at_a_time_and_is_free_when_its_process_dies(tmp_path: Path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "0\n"

    number, lock = first_free(["GPU-1", "GPU-2"], tmp_path)
    lock.close()
    holder.kill()
    holder.communicate()
    again, lock = first_free(["GPU-1", "GPU-2"], tmp_path)
    lock.close()

    assert (number, again) == (1, 0)
