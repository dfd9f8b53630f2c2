from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest

from fusion.baseline import FOLDER, Tier, run_baseline
from fusion.baseline.results import FILE, read_results
from fusion.errors import CancelledError
from tests.baseline.made import LEARNING, QUICK, Work, disc, holdout, plan


def run(plan_data, work, tier=QUICK, **more):
    return run_baseline(plan_data, work.root, device="cpu", threads=1, tier=tier, **more)


def records(work):
    return [arm.record for arm in read_results(work.root / FOLDER / FILE)]


def figure(result, source, metric="dice", concept="disc", arm="fused"):
    return next(
        row
        for row in result["matrix"]
        if (row["arm"], row["source"], row["metric"], row["concept"])
        == (arm, source, metric, concept)
    )


def dice(result, source, concept="disc"):
    return figure(result, source, concept=concept)["value"]


@pytest.mark.parametrize("kind", ["picture", "volume"])
def test_a_learnable_pattern_is_learnt_in_every_source(tmp_path: Path, kind: str):
    result = run(plan("a", "b"), holdout(Work(tmp_path), kind), tier=LEARNING)

    assert dice(result, "a") > 0.8
    assert dice(result, "b") > 0.8
    assert result["verdict"] == "inconclusive"
    assert "not whether fusing helps" in result["reason"]
    row = figure(result, "a")
    assert (row["n_cases"], row["n_empty_excluded"], row["ci"]) == (3, 0, "unreliable")
    json.dumps(result, allow_nan=False)


def test_volumes_are_learnt_within_the_steps_of_a_smoke_run(tmp_path: Path):
    work, rng = Work(tmp_path), np.random.default_rng(0)
    for split in ["train"] * 8 + ["val"] * 2 + ["test"] * 3:
        far = np.indices((48, 48, 48)) - rng.integers(16, 32, 3).reshape(3, 1, 1, 1)
        ball = (far**2).sum(0) < rng.integers(6, 12) ** 2
        image = rng.normal(100, 20, ball.shape) + 80 * ball
        work.stored("a", split, image.astype(np.int16), ball, np.eye(4))

    result = run(plan("a"), work, Tier(steps=80))

    assert result["training"]["dimensions"] == 3
    assert dice(result, "a") > 0.75


def test_labels_of_another_image_are_not_learnt(tmp_path: Path):
    work = Work(tmp_path)
    for split in ["train"] * 10 + ["test"] * 4:
        other = disc(1000 + len(work.cases), (60, 48))[1]
        work.picture("a", split, label=other)

    assert dice(run(plan("a"), work, LEARNING), "a") < 0.5


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tmp_path: Path):
    work = holdout(Work(tmp_path))

    first = run(plan("a", "b"), work)
    weights = (work.root / FOLDER / "weights.safetensors").read_bytes()
    kept = read_results(work.root / FOLDER / FILE)
    other = run(plan("a", "b", seed=8), work)
    again = run(plan("a", "b"), work)  # from the start: another job's folder is cleared

    assert first == again
    assert (work.root / FOLDER / "weights.safetensors").read_bytes() == weights
    assert read_results(work.root / FOLDER / FILE) == kept
    assert first["arms"][0]["last_loss"] != other["arms"][0]["last_loss"]


def test_what_the_numbers_depend_on_is_recorded(tmp_path: Path):
    work, seen = holdout(Work(tmp_path)), []

    result = run(plan("a", "b"), work, progress=lambda done, total: seen.append((done, total)))

    training = result["training"]
    assert set(training["versions"]) >= {"python", "torch", "monai", "numpy"}
    assert (result["seed"], training["device"], training["threads"]) == (7, "cpu", 1)
    assert training["steps"] == 10
    done = [done for done, _ in seen]
    assert done == list(range(1, len(done) + 1))
    assert seen[-1] == (len(done), len(work.cases) + (10 + 8) + 2 * (10 + 7))


def test_a_left_out_source_is_never_trained_on(tmp_path: Path):
    work = Work(tmp_path)
    for i, source in enumerate("abc"):
        for _ in range(4):
            split = {f"fold{k}": "test" if k == i else "train" for k in range(3)}
            work.picture(source, split)

    result = run(plan("a", "b", "c", protocol="loso"), work)

    arms = {arm.arm: arm for arm in records(work)}
    assert list(arms) == [f"{kind}:{source}" for kind in ("without", "single") for source in "abc"]
    for source in "abc":
        for kind, learnt in (("without", set("abc") - {source}), ("single", {source})):
            arm = arms[f"{kind}:{source}"]
            assert {case.split("__")[0] for case in arm.train_cases} == learnt
            assert {case.split("__")[0] for case in arm.test_cases} == set("abc") - learnt
        assert figure(result, source, arm=f"without:{source}")["n_cases"] == 4


def test_a_fold_that_trains_on_its_own_source_is_refused(tmp_path: Path):
    work = Work(tmp_path)
    work.picture("a", {"fold0": "test", "fold1": "train"})
    work.picture("a", {"fold0": "train", "fold1": "train"})

    with pytest.raises(ValueError, match="fold0 trains on a__"):
        run(plan("a", "b", protocol="loso"), work)


def test_one_source_alone_has_nothing_to_be_left_out_of(tmp_path: Path):
    work = Work(tmp_path)
    work.picture("a", {"fold0": "test"})

    result = run(plan("a", protocol="loso"), work)

    assert result["arms"][0]["state"] == "failed"
    assert figure(result, "a", arm="without:a")["reason"].endswith("no training case")


def test_a_group_on_both_sides_fails_the_arm(tmp_path: Path):
    work = Work(tmp_path)
    work.picture("a", "train", group="g:one")
    work.picture("a", "test", group="g:one")

    arm = run(plan("a"), work)["arms"][0]

    assert (arm["state"], arm["reason"]) == ("failed", "group g:one is in training and in test")


def test_a_source_without_test_case_is_listed_with_the_reason(tmp_path: Path):
    work = holdout(Work(tmp_path))
    work.picture("c", "train")

    row = figure(run(plan("a", "b", "c"), work), "c")

    assert (row["value"], row["n_cases"], row["reason"]) == (None, 0, "no test case")


def test_a_concept_is_scored_only_where_it_is_annotated(tmp_path: Path):
    work = Work(tmp_path)
    for split in ["train"] * 6 + ["test"] * 2:
        work.picture("a", split)
        work.picture("b", split, annotated=["other"])

    result = run(plan("a", "b", concepts=[{"id": "disc"}, {"id": "other"}]), work, LEARNING)

    assert dice(result, "a") > 0.6
    row = figure(result, "b")
    assert (row["value"], row["reason"]) == (None, "not annotated in any test case")


def test_a_loss_that_is_not_a_number_fails_the_arm(tmp_path: Path):
    result = run(plan("a", "b"), holdout(Work(tmp_path)), tier=Tier(learning_rate_2d=float("inf")))

    assert result["arms"][0]["reason"] == "loss is nan at step 2"
    row = figure(result, "a")
    assert (row["value"], row["reason"]) == (None, "arm failed: seed 7: loss is nan at step 2")


def test_a_stop_is_obeyed_between_steps_and_torch_keeps_its_settings(tmp_path: Path):
    import torch

    work, calls, threads = holdout(Work(tmp_path)), [], torch.get_num_threads()

    def check() -> None:
        calls.append(1)
        if len(calls) == 25:
            raise CancelledError

    with pytest.raises(CancelledError):
        run(plan("a", "b"), work, check=check)
    assert len(calls) == 25
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_time_limit_fails_the_arm(tmp_path: Path):
    work = holdout(Work(tmp_path))

    result = run_baseline(plan("a", "b"), work.root, device="cpu", tier=Tier(seconds=0.0))

    assert {arm["reason"] for arm in result["arms"]} == {"timeout: 1 of 200 steps"}


def test_a_busy_machine_cuts_no_network_short(tmp_path: Path):
    work = Work(tmp_path)
    for split in ("train", "train", "test"):
        work.picture("a", split)
    tier = dataclasses.replace(QUICK, seconds=4.0)

    result = run(plan("a"), work, tier, check=lambda: time.sleep(0.4))  # others had the processor

    (arm,) = result["arms"]
    assert (arm["state"], arm["reason"], arm["steps"]) == ("done", "", 16)


def test_no_case_and_an_unknown_device_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match="found 0 cases"):
        run(plan("a"), Work(tmp_path))
    with pytest.raises(ValueError, match="device: found 'tpu'"):
        run_baseline(plan("a", "b"), holdout(Work(tmp_path)).root, device="tpu")


def test_a_class_is_learnt_and_one_class_alone_has_no_auroc(tmp_path: Path):
    work = Work(tmp_path)
    for split in ["train"] * 16 + ["val"] * 4 + ["test"] * 8:
        has = len(work.cases) % 2
        work.picture("a", split, label=None, classes={"disc": has})
        _dim(work, has)
    for split in ("train", "test", "test"):
        work.picture("b", split, label=None, classes={"disc": 1})
    work.picture("b", "test", label=None, classes={"disc": -1})

    result = run(plan("a", "b", task="classification"), work, LEARNING)

    assert figure(result, "a", "auroc")["value"] > 0.9
    assert figure(result, "a", "balanced_accuracy")["value"] > 0.8
    one = figure(result, "b", "auroc")
    assert (one["value"], one["reason"]) == (None, "one class only")
    assert figure(result, "b", "brier")["n_cases"] == 2


def test_chances_of_two_classes_that_exclude_each_other_sum_to_one_in_small_volumes(
    tmp_path: Path,
):
    work, affine = Work(tmp_path), np.diag([2.0, 2.0, 2.0, 1.0])
    for split in ["train"] * 10 + ["val"] * 2 + ["test"] * 6:
        number = len(work.cases)
        image = np.random.default_rng(number).integers(0, 60, (24, 24, 20)).astype(np.int16)
        image[6:14, 8:18, 4:12] += 200 * (number % 2)
        work.stored("a", split, image, None, affine, annotated=["disc", "none"],
                    classes={"disc": number % 2, "none": 1 - number % 2})  # fmt: skip
    told = plan("a", task="classification", concepts=[{"id": "disc"}, {"id": "none"}])

    result = run(told, work, Tier(steps=30, volume_edge=24))

    assert result["training"]["dimensions"] == 3
    (arm,) = read_results(work.root / FOLDER / FILE)
    assert arm.record.state == "done"
    for row in arm.cases:
        assert sum(row.probability.values()) == pytest.approx(1)


def _dim(work: Work, has: int) -> None:
    """Take the disc out of the last picture unless it has one."""
    if not has:
        from PIL import Image

        path = work.root / "cases" / work.cases[-1]["id"] / "image.png"
        noise = np.random.default_rng(len(work.cases)).integers(0, 60, (60, 48))
        Image.fromarray(noise.astype(np.uint8)).save(path)
