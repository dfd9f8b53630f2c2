"""Files become cases; what is missing is said, never dropped."""

from __future__ import annotations

from fusion.cases import find_cases
from fusion.source import SourceDescription


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
