"""Two sources that share people or images, from recipe to bundle; a copy that slipped through."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fusion.build import STAGES, Build, run_stage
from fusion.bundle.read_bundle import Bundle
from fusion.bundle.verify import verify_bundle
from fusion.errors import BuildError
from fusion.imaging.file_hash import file_sha256
from fusion.imaging.io import read_image, write_nifti
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from tests.fusion.made import block, fuse, member, person, recipe, write_source
from tests.fusion.test_real_cases import Silent

FOUR = [f"p{n}" for n in range(4)]


def test_an_id_of_a_table_joins_people_of_two_sources(tmp_path):
    write_source(tmp_path / "first", {f"BraTS21_{n:05d}": person(n) for n in range(4)})
    write_source(tmp_path / "second", {name: person(10 + n) for n, name in enumerate(FOUR)})
    rows = ["Case,BraTS21 ID", "p0,00002", "p1,NA", "p3,00000"]
    (tmp_path / "second" / "mapping.csv").write_text("\n".join(rows))
    known = {"scheme": "BraTS21 ID", "table": "mapping.csv", "key": "Case", "column": "BraTS21 ID"}

    built = fuse(
        recipe(
            member("first", cross_ids=[{"scheme": "BraTS21 ID", "cut": r"BraTS21_(\d+)"}]),
            member("second", cross_ids=[known]),
        ),
        tmp_path,
    )

    group = {name: case["group"] for name, case in built.cases.items()}
    assert group["p0"] == group["BraTS21_00002"]
    assert group["p3"] == group["BraTS21_00000"]
    assert len(set(group.values())) == 6
    assert built.manifest["groups"]["merged_by"]["cross_id"] == 2


@pytest.fixture
def relabelled(tmp_path):
    """The same four people in two sources; the second drew one slice less of each."""
    images = {name: person(n) for n, name in enumerate(FOUR)}
    other = block()
    other[:, :, :6] = 0
    write_source(tmp_path / "first", images)
    write_source(tmp_path / "second", images, dict.fromkeys(FOUR, other))
    return tmp_path


def test_one_image_with_two_labels_keeps_both_when_the_plan_says_so(relabelled):
    data = recipe(member("first"), member("second"), overlap_plan="keep_relabelled")

    built = fuse(data, relabelled)

    assert verify_bundle(relabelled / "bundle").ok
    assert {case["source"] for case in built.cases.values()} == {"first"}
    with Bundle(relabelled / "bundle") as bundle:
        for case in bundle.cases():
            mine, theirs = bundle.label(case), bundle.load(case, "label_second")[0]
            assert not theirs[:, :, :6].any()
            assert mine[:, :, 5].any()
            np.testing.assert_array_equal(theirs[:, :, 8] > 0, block()[:, :, 8] > 0)
    assert "label_conflict" in built.findings()


def test_shared_images_stop_a_build_that_refuses_them(relabelled):
    data = recipe(member("first"), member("second"), overlap_plan="refuse")

    with pytest.raises(BuildError, match="first and second") as caught:
        fuse(data, relabelled)

    assert caught.value.code == "overlap_found"


def test_a_padded_copy_across_splits_of_a_finished_bundle_is_found_by_its_slices(tmp_path):
    write_source(tmp_path / "made", {f"p{n}": person(n) for n in range(8)})
    plan = make_plan(check_recipe(recipe(member("made")), {"made"}))
    build = Build(plan, tmp_path, tmp_path / "work", tmp_path / "bundle")
    before_report = STAGES[: STAGES.index("report")]
    for stage in before_report:
        run_stage(stage, build, Silent())
    rows = [json.loads(p.read_text()) for p in (tmp_path / "work/final/cases").glob("*/case.json")]
    learnt, tested = (next(r for r in rows if r["split"] == s) for s in ("train", "test"))
    put_slices_of(learnt, tested, tmp_path / "work" / "final" / "cases")

    for stage in ("report", "package", "baseline"):
        run_stage(stage, build, Silent())
    with pytest.raises(BuildError, match=r"slices \(T2\) are in") as caught:
        run_stage("verify", build, Silent())

    assert caught.value.code == "verify_failed"
    assert learnt["id"] in str(caught.value)
    assert tested["id"] in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def put_slices_of(learnt, tested, cases):
    """What a build that compared nothing would hold: most slices of one case in another."""
    paths = [cases / row["id"] / "image.nii.gz" for row in (learnt, tested)]
    copied, image = (read_image(path) for path in paths)
    array = image.array.copy()
    array[:, :, 3:] = copied.array[:, :, 3:]
    paths[1].unlink()
    write_nifti(image.with_array(array), paths[1])
    file = next(f for f in tested["files"] if f["role"] == "image")
    file |= {"sha256": file_sha256(paths[1]), "bytes": paths[1].stat().st_size}
    (cases / tested["id"] / "case.json").write_text(json.dumps(tested))
