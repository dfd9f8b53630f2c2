"""Files become cases; what is missing is said, never dropped."""

from __future__ import annotations

from fusion.cases import find_cases
from fusion.source import SourceDescription
from fusion.splits import assign, leave_one_source_out


def described(**changes) -> SourceDescription:
    data = {
        "name": "made",
        "modality": "OP",
        "family": "Fundus photography",
        "dimension": "2D",
        "cases": {"image": "images/{name}.png", "subject": "{name}"},
        "layers": [{"path": "masks/{name}*.png", "kind": "mask", "concept": "lesion"}],
    }
    return SourceDescription.model_validate(data | changes)


def test_a_label_without_image_and_an_image_without_label_are_named():
    cases = find_cases(described(), ["images/a.png", "masks/b.png"])

    assert {c.name: c.code for c in cases} == {"a": "label_missing", "b": "image_missing"}


def test_both_eyes_of_one_child_share_a_subject():
    eyes = described(
        cases={
            "image": "i/{child}{eye}.jpg",
            "fields": {"child": r"\d+", "eye": "[LR]"},
            "subject": "{child}",
        },
        layers=[{"path": "m/{child}{eye}.jpg", "kind": "mask", "concept": "lesion"}],
    )

    cases = find_cases(eyes, ["i/01L.jpg", "i/01R.jpg", "m/01L.jpg", "m/01R.jpg"])

    assert [(c.name, c.subject) for c in cases] == [("01_L", "01"), ("01_R", "01")]


def test_a_range_of_label_values_is_written_out_and_doubles_are_refused():
    layer = described(
        layers=[{"path": "m/{name}.png", "kind": "label_map", "values": {"1-3,7": "lesion"}}]
    ).layers[0]

    assert sorted(layer.table()) == [1, 2, 3, 7]


def case(number: int, group: str, split: str | None = None, source: str = "s") -> dict:
    return {
        "id": f"{source}{number}",
        "group": group,
        "source": source,
        "official_split": split,
        "present": {"lesion": 1},
        "classes": None,
    }


def test_no_group_lies_in_two_splits_and_the_shares_are_kept():
    cases = [case(i, f"g{i // 2}") for i in range(100)]

    split, _, _ = assign(cases, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=1)

    assert all(split[f"s{i}"] == split[f"s{i + 1}"] for i in range(0, 100, 2))
    assert list(split.values()).count("train") == 70


def test_official_test_data_win_over_their_subject_s_training_cases():
    cases = [case(0, "g"), case(1, "g", "test"), *(case(i, f"h{i}") for i in range(2, 9))]

    split, _, dropped = assign(cases, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=1)

    assert split["s1"] == "test"
    assert dropped == {"s0"}


def test_labels_made_by_a_model_are_never_test_even_where_they_join_a_test_group():
    pseudo = [case(i, f"p{i}", source="m") for i in range(20)]
    joined = [case(0, "g", "test"), case(99, "g", source="m")]

    split, _, dropped = assign(
        [*pseudo, *joined],
        {"train": 0.7, "val": 0.1, "test": 0.2},
        seed=1,
        train_only=frozenset({"m"}),
    )

    assert {split[c["id"]] for c in [*pseudo, joined[1]]} == {"train"}
    assert dropped == {"s0"}


def test_a_source_of_two_groups_goes_to_train_and_is_listed():
    split, notes, _ = assign(
        [case(0, "a"), case(1, "b")], {"train": 0.7, "val": 0.1, "test": 0.2}, seed=1
    )

    assert set(split.values()) == {"train"}
    assert [note["code"] for note in notes] == ["small_stratum"]


def test_each_source_is_left_out_once():
    cases = [case(0, "a", source="x"), case(1, "b", source="y")]

    split = leave_one_source_out(cases, ["x", "y"])

    assert split == {
        "x0": {"fold0": "test", "fold1": "train"},
        "y1": {"fold0": "train", "fold1": "test"},
    }
