"""Groups stay whole, official test data stay test, and chance plays no part."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.bundle.gate import find_leaks
from fusion.splits import Assignment, Rules, holdout, kfold, leave_one_source_out

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


def case(number: int, group: str, split: str | None = None, source: str = "s", **changes) -> dict:
    name = f"{source}{number}"
    return {
        "id": name,
        "group": group,
        "source": source,
        "official_split": split,
        "present": {"lesion": 1},
        "classes": None,
        "t1": name,
        "origin": {"image": {"sha256": name}},
    } | changes


@st.composite
def collections(draw) -> list[dict]:
    """Cases of three sources in groups that may span sources and official splits."""
    count = draw(st.integers(1, 60))
    return [
        case(
            n,
            f"g{draw(st.integers(0, max(1, count // 2)))}",
            draw(st.sampled_from([None, None, None, "train", "val", "test"])),
            draw(st.sampled_from("abc")),
            present={c: draw(st.integers(0, 1)) for c in ("liver", "spleen")},
        )
        for n in range(count)
    ]


def protocols(cases: list[dict], rules: Rules, seed: int = 1) -> dict[str, Assignment]:
    return {
        "holdout": holdout(cases, SHARES, seed, rules),
        "kfold": kfold(cases, seed, rules),
        "loso": leave_one_source_out(cases, ["a", "b", "c"], rules),
    }


RULES = [Rules(), Rules(official_val=True), Rules(frozenset({"a"}))]


@settings(max_examples=60, deadline=None)
@given(collections(), st.sampled_from(RULES))
def test_no_group_crosses_splits_in_any_protocol(cases, rules):
    for name, found in protocols(cases, rules).items():
        kept = [c | {"split": found.split[c["id"]]} for c in cases if c["id"] not in found.dropped]
        assert find_leaks(kept) == [], name
        assert set(found.split) == {c["id"] for c in cases}


@settings(max_examples=60, deadline=None)
@given(collections(), st.sampled_from(RULES))
def test_official_test_data_are_never_learnt_from_nor_anything_of_their_group(cases, rules):
    protected = {c["group"] for c in cases if c["official_split"] == "test"}
    for name, found in protocols(cases, rules).items():
        for c in cases:
            if c["group"] not in protected or c["id"] in found.dropped:
                continue
            split = found.split[c["id"]]
            splits = {split} if isinstance(split, str) else set(split.values())
            if name != "loso" and c["source"] in rules.train_only:
                continue  # its official test cases were dropped instead
            if name == "loso" or not any(
                m["source"] in rules.train_only for m in cases if m["group"] == c["group"]
            ):
                assert splits <= {"test"}, (name, c)
            else:
                assert c["official_split"] != "test"


@settings(max_examples=60, deadline=None)
@given(collections(), st.sampled_from(RULES), st.randoms())
def test_the_order_of_cases_does_not_matter(cases, rules, random):
    shuffled = list(cases)
    random.shuffle(shuffled)

    for one, two in zip(
        protocols(cases, rules).values(), protocols(shuffled, rules).values(), strict=True
    ):
        assert one.split == two.split
        assert one.dropped == two.dropped


@settings(max_examples=60, deadline=None)
@given(collections(), st.integers(0, 5))
def test_kfold_tests_every_free_case_in_exactly_one_fold(cases, seed):
    found = kfold(cases, seed)

    settled = {c["group"] for c in cases if c["official_split"] in ("val", "test")}
    for c in cases:
        counts = Counter(found.split[c["id"]].values())
        if c["group"] not in settled:
            assert counts == {"test": 1, "train": 4}


def test_kfold_folds_are_of_one_size_even_when_every_stratum_is_small():
    cases = [case(n, f"g{n}", present={f"c{n}": 1}) for n in range(50)]

    found = kfold(cases, 1)

    held = Counter(f for s in found.split.values() for f, part in s.items() if part == "test")
    assert sorted(held.values()) == [10] * 5


def test_the_shares_are_kept_weighted_by_cases():
    cases = [case(i, f"g{i // 2}") for i in range(100)]
    large = [case(i, "whale") for i in range(100, 140)]

    split = holdout(cases, SHARES, seed=1).split
    with_whale = Counter(holdout([*cases, *large], SHARES, seed=1).split.values())

    assert Counter(split.values())["train"] == 70
    assert abs(with_whale["train"] - 98) <= 4


def test_settled_groups_count_for_the_shares_of_their_stratum():
    official = [case(n, f"t{n}", "test") for n in range(20)]
    free = [case(n, f"g{n}") for n in range(20, 100)]

    counts = Counter(holdout([*official, *free], SHARES, seed=1).split.values())

    assert counts == {"train": 70, "val": 10, "test": 20}


def test_official_test_data_win_over_their_subject_s_training_cases():
    cases = [case(0, "g"), case(1, "g", "test"), *(case(i, f"h{i}") for i in range(2, 9))]

    found = holdout(cases, SHARES, seed=1)

    assert found.split["s1"] == "test"
    assert found.dropped == {"s0"}


@pytest.mark.parametrize(("asked", "expected"), [(False, "train"), (True, "val")])
def test_official_val_is_val_only_if_asked(asked, expected):
    cases = [case(n, f"v{n}", "val") for n in range(30)]
    cases += [case(n, f"g{n}") for n in range(30, 60)]

    found = holdout(cases, SHARES, 1, Rules(official_val=asked))

    assert {found.split[f"s{n}"] for n in range(30)} == {expected}


def test_labels_made_by_a_model_are_never_test_even_where_they_join_a_test_group():
    pseudo = [case(i, f"p{i}", source="m") for i in range(20)]
    joined = [case(0, "g", "test"), case(99, "g", source="m")]
    rules = Rules(train_only=frozenset({"m"}))

    found = holdout([*pseudo, *joined], SHARES, 1, rules)

    assert {found.split[c["id"]] for c in [*pseudo, joined[1]]} == {"train"}
    assert found.dropped == {"s0"}
    folds = kfold([*pseudo, *joined], 1, rules)
    assert all(set(folds.split[c["id"]].values()) == {"train"} for c in pseudo)


def test_a_source_of_two_groups_goes_to_train_and_is_listed():
    found = holdout([case(0, "a"), case(1, "b")], SHARES, seed=1)

    assert set(found.split.values()) == {"train"}
    assert [note["code"] for note in found.notes] == ["small_stratum"]


def test_each_source_is_left_out_once():
    cases = [case(0, "a", source="x"), case(1, "b", source="y")]

    found = leave_one_source_out(cases, ["x", "y"])

    assert found.split == {
        "x0": {"fold0": "test", "fold1": "train"},
        "y1": {"fold0": "train", "fold1": "test"},
    }


def test_a_person_of_two_sources_is_not_learnt_from_where_the_other_source_is_left_out():
    cases = [case(0, "g", source="x"), case(1, "g", source="y"), case(2, "h", source="z")]

    found = leave_one_source_out(cases, ["x", "y", "z"])

    assert found.split["x0"] == {"fold0": "test", "fold2": "train"}
    assert found.split["y1"] == {"fold1": "test", "fold2": "train"}
    assert [note["code"] for note in found.notes] == ["fold_partial"]
