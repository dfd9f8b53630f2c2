"""What may be passed on, and in which form: licences decide over every file of a bundle."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fusion.bundle.originals import ORIGINALS
from fusion.bundle.read_bundle import Bundle
from fusion.bundle.verify import verify_bundle
from fusion.errors import BuildError, RecipeError
from fusion.plan import make_plan
from fusion.rebuild import rebuild
from fusion.recipe_check import check_recipe
from tests.fusion.made import Built, brain, fuse, member, recipe, write_nifti, write_source
from tests.fusion.test_real_cases import Silent
from tests.imaging.test_dicom import write_slice

FREE, BY, ND, UNKNOWN = "CC0-1.0", "CC-BY-4.0", "CC-BY-ND-4.0", None


def licensed(name: str, images: str | None, labels: str | None = FREE) -> dict:
    where = f"https://example.org/{name}"
    return member(name, licence={"images": images, "labels": labels}, homepage=where)


def sources(root: Path) -> Path:
    for number, name in enumerate("ab"):
        images = {f"{name}{i}": brain(10 * number + i) for i in range(5)}
        write_source(root / name, images)
    return root


def shared(root: Path, *members: dict, out: str = "bundle", **changes) -> Built:
    return fuse(recipe(*members, build="shareable", **changes), root, root / out)


@pytest.fixture
def partly(tmp_path) -> Built:
    """A free source beside one that may not be passed on."""
    return shared(sources(tmp_path), licensed("a", BY), licensed("b", UNKNOWN))


def packed(bundle: Path) -> set[str]:
    names = set()
    for shard in (bundle / "shards").glob("*.tar"):
        with tarfile.open(shard) as tar:
            names |= set(tar.getnames())
    return names


def test_cases_that_may_not_be_passed_on_are_listed_without_files(partly):
    bundle = partly.build.out
    by_source = {"a": [], "b": []}
    for case in partly.manifest["cases"]:
        by_source[case["source"]].append(case)

    assert verify_bundle(bundle).ok
    assert all(case["files"] and case["recipe_only"] == [] for case in by_source["a"])
    for case in by_source["b"]:
        assert case["files"] == []
        assert case["recipe_only"] == ["image", "label"]
        assert case["t1"]
        assert case["transforms"]
        assert {"path", "sha256", "bytes"} <= set(case["origin"]["image"])
    assert {name[:3] for name in packed(bundle)} == {"a__"}
    assert partly.manifest["sources"][1]["url"] == "https://example.org/b"
    assert {"recipe_only", "licence_unknown"} <= set(partly.findings())


def test_the_reader_tells_cases_without_files_apart(partly):
    with Bundle(partly.build.out) as bundle:
        assert {case["source"] for case in bundle.cases()} == {"a"}
        assert {case["source"] for case in bundle.recipe_only()} == {"b"}


def test_a_bundle_of_recipe_entries_alone_verifies_and_can_be_completed(tmp_path):
    views = ["nnunet", "monai", "bids", "huggingface"]
    built = shared(sources(tmp_path), licensed("a", UNKNOWN), licensed("b", UNKNOWN), views=views)

    assert verify_bundle(built.build.out).ok, verify_bundle(built.build.out)
    assert built.manifest["shards"] == []
    assert all(view["omitted"] for view in built.manifest["views"].values())
    made = rebuild(built.build.out, tmp_path, tmp_path / "whole", Silent(), complete=True)
    assert len(packed(made.bundle)) == 3 * 10


def test_the_first_page_says_what_holds_for_all_files(partly):
    text = (partly.build.out / "README.md").read_text()
    use = partly.manifest["use"]

    assert text.index("Shareable build") < text.index("## Effective use") < text.index("## Sources")
    assert use["commercial"] is True  # the unknown licence covers no file in here
    assert use["attribution"] == ["a"]
    assert use["recipe_only"] == ["b images", "b labels"]
    assert "| only as a recipe | b images, b labels |" in text


def test_labels_inherit_what_restricts_their_images(tmp_path):
    built = shared(sources(tmp_path), licensed("a", BY), licensed("b", UNKNOWN, labels=FREE))

    assert not any(name.startswith("b__") for name in packed(built.build.out))


def test_restricted_labels_leave_their_images_in(tmp_path):
    built = shared(sources(tmp_path), licensed("a", BY), licensed("b", BY, labels=UNKNOWN))
    mine = {name.partition(".")[2] for name in packed(built.build.out) if name.startswith("b__")}

    assert mine == {"image.nii.gz", "json"}
    case = next(case for case in built.manifest["cases"] if case["source"] == "b")
    assert case["recipe_only"] == ["label"]
    assert verify_bundle(built.build.out).ok


def test_without_adaptation_only_the_publisher_s_bytes_are_in_the_bundle(tmp_path):
    sources(tmp_path)
    data = (tmp_path / "b" / "images" / "b0.nii.gz").read_bytes()
    built = shared(tmp_path, licensed("a", BY), licensed("b", ND, labels=ND))
    bundle = built.build.out

    assert verify_bundle(bundle).ok, verify_bundle(bundle)
    mine = {name.partition(".")[2] for name in packed(bundle) if name.startswith("b__")}
    assert mine == {"original_image.nii.gz", "original_label.nii.gz"}
    case = next(case for case in built.manifest["cases"] if case["name"] == "b0")
    with Bundle(bundle) as opened:
        assert opened.read(case, "original_image", check=True) == data
    assert {row["path"].rpartition("-")[0] for row in case["files"]} == {f"shards/{ORIGINALS}"}
    assert {row["licence"] for row in case["files"]} == {ND}
    assert built.manifest["use"]["original_only"] == ["b images", "b labels"]


def test_original_bytes_with_words_stay_out(tmp_path):
    path = sources(tmp_path) / "b" / "images" / "b0.nii.gz"
    image = nib.load(path)
    image.header["descrip"] = b"Mrs Doe"
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header), path)
    built = shared(tmp_path, licensed("a", BY), licensed("b", ND, labels=ND))

    case = next(case for case in built.manifest["cases"] if case["name"] == "b0")
    assert [row["role"] for row in case["files"]] == ["original_label"]
    withheld = built.manifest["privacy"]["originals_withheld"]
    assert any(case["id"] in line and line.startswith("phi_found") for line in withheld)
    assert b"Mrs Doe" not in b"".join(p.read_bytes() for p in built.build.out.rglob("*.json"))


def test_native_images_without_adaptation_are_passed_on_as_they_are(tmp_path):
    target = {"profile": "native"}
    built = shared(sources(tmp_path), licensed("a", BY), licensed("b", ND), target=target)

    mine = {name.partition(".")[2] for name in packed(built.build.out) if name.startswith("b__")}
    assert mine == {"image.nii.gz", "json", "original_label.nii.gz"}


def test_a_private_build_holds_all_and_says_why_it_is_private(tmp_path):
    built = fuse(recipe(licensed("a", BY), licensed("b", UNKNOWN)), sources(tmp_path))

    assert all(case["files"] for case in built.manifest["cases"])
    text = (built.build.out / "README.md").read_text()
    assert "Private build" in text
    assert "b images: LicenseRef-unknown: unknown terms allow nothing" in text


def test_terms_that_forbid_combination_stop_the_recipe(monkeypatch):
    from catalog import licences

    closed = licences.Licence("LicenseRef-closed", redistribute=True, no_combination=True)
    monkeypatch.setattr(licences, "LICENCES", {**licences.LICENCES, closed.id: closed})
    data = recipe(licensed("a", BY), licensed("b", closed.id))

    with pytest.raises(RecipeError, match="licence_conflict: b images"):
        make_plan(check_recipe(data, {"a", "b"}))


def test_share_alike_beside_non_commercial_is_a_conflict_of_one_file_only(tmp_path):
    data = recipe(licensed("a", "CC-BY-SA-4.0"), licensed("b", "CC-BY-NC-4.0"))
    plan = make_plan(check_recipe(data | {"build": "shareable"}, {"a", "b"}))
    built = fuse(data | {"build": "shareable"}, sources(tmp_path))

    assert any(gate["detail"].startswith("licence_conflict") for gate in plan.gates)
    assert "licence_conflict" in built.findings()
    assert all(case["files"] for case in built.manifest["cases"])
    assert built.manifest["use"]["one_file"] is False
    assert built.manifest["use"]["commercial"] is False
    assert built.manifest["use"]["share_alike"] == ["CC-BY-SA-4.0"]


def test_each_file_keeps_the_licence_of_its_own_part(tmp_path):
    expression = "CC-BY-4.0 AND MIT"
    built = shared(sources(tmp_path), licensed("a", expression, FREE), licensed("b", BY, BY))
    case = next(case for case in built.manifest["cases"] if case["source"] == "a")

    assert {row["role"]: row["licence"] for row in case["files"]} == {
        "image": expression,
        "label": FREE,
        "record": FREE,
    }


def sums(bundle: Path) -> str:
    return (bundle / "SHA256SUMS").read_text()


def test_a_bundle_without_its_shards_is_rebuilt_to_the_same_bytes(partly, tmp_path):
    given, before = partly.build.out, sums(partly.build.out)
    for shard in (given / "shards").iterdir():
        shard.unlink()

    made = rebuild(given, tmp_path, tmp_path / "again", Silent())

    assert made.equal == "bytes"
    assert sums(made.bundle) == before
    assert verify_bundle(made.bundle).ok
    assert not (tmp_path / "again.work").exists()


def test_the_recipe_folder_alone_is_enough_to_compare_content(partly, tmp_path):
    made = rebuild(partly.build.out / "recipe", tmp_path, tmp_path / "again", Silent())

    assert made.equal == "content"
    assert made.cases == 10
    assert sums(made.bundle) == sums(partly.build.out)


@pytest.mark.parametrize("what", ["changed", "missing", "extra"])
def test_a_source_that_is_not_what_was_fused_stops_the_rebuild(partly, tmp_path, what):
    path = tmp_path / "b" / "images" / "b3.nii.gz"
    if what == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    elif what == "missing":
        path.unlink()
        (tmp_path / "b" / "labels" / "b3.nii.gz").unlink()
    else:
        write_source(tmp_path / "b", {"b9": brain(99)})
        path = tmp_path / "b" / "images" / "b9.nii.gz"

    with pytest.raises(BuildError, match=rf"b: images/{path.name}: found .*, expected") as caught:
        rebuild(partly.build.out, tmp_path, tmp_path / "again", Silent())

    assert caught.value.code == "upstream_changed"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "bundle", "bundle.work"]


def test_a_shareable_bundle_is_completed_with_one_s_own_copies(partly, tmp_path):
    made = rebuild(partly.build.out, tmp_path, tmp_path / "whole", Silent(), complete=True)
    manifest = json.loads((made.bundle / "manifest.json").read_text())
    before = {case["id"]: case for case in partly.manifest["cases"]}

    assert made.equal == "completed"
    assert manifest["plan"]["build"] == "private"
    assert manifest["bundle_id"] != partly.manifest["bundle_id"]
    assert all(case["files"] for case in manifest["cases"])
    for case in manifest["cases"]:
        assert (case["t1"], case["split"]) == (
            before[case["id"]]["t1"],
            before[case["id"]]["split"],
        )
        if before[case["id"]]["files"]:
            ours = {row["member"]: row["sha256"] for row in case["files"]}
            theirs = {row["member"]: row["sha256"] for row in before[case["id"]]["files"]}
            assert ours == theirs


def test_content_that_came_out_otherwise_is_named(partly, tmp_path):
    path = partly.build.out / "manifest.json"
    manifest = json.loads(path.read_text())
    case = manifest["cases"][0]
    case["present"]["spleen"] += 1
    path.write_text(json.dumps(manifest))
    (partly.build.out / "SHA256SUMS").write_text("")

    with pytest.raises(BuildError, match=rf"{case['id']}: present") as caught:
        rebuild(partly.build.out, tmp_path, tmp_path / "again", Silent())
    assert caught.value.code == "rebuild_differs"


def test_a_plan_of_another_builder_is_refused(partly, tmp_path):
    path = partly.build.out / "recipe" / "recipe.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"builder_version": "0.0"}))

    with pytest.raises(BuildError, match=r"found builder '0\.0'"):
        rebuild(partly.build.out, tmp_path, tmp_path / "again", Silent())


def dicom_source(root: Path, folder: str, name: str) -> dict:
    """Four series; in the last one's header, and perhaps in its folder, a name."""
    for number in range(4):
        place = root / "d" / "images" / (folder if number == 3 else f"p{number}")
        place.mkdir(parents=True)
        body = np.random.default_rng(number).integers(900, 1200, (4, 9, 7)).astype(np.uint16)
        for k in range(4):
            tags = {
                "PatientName": name if number == 3 else f"ID-{number}",
                "PatientID": f"ID-{number}",
            }
            write_slice(place, k, (0, 0, 2 * k), body[k], **tags)
        label = np.zeros((7, 9, 4), np.uint8)
        label[2:4, 2 + number : 4 + number, 1:3] = 1
        affine = np.diag([-0.5, -0.8, 2, 1])
        write_nifti(root / "d" / "labels" / f"{place.name}.nii.gz", label, affine)
    cases = {"image": "images/{name}/", "subject": "{name}"}
    return member("d", modality="CT", family="CT", cases=cases)


def test_a_name_from_a_header_that_got_into_a_path_stops_the_build(tmp_path):
    data = recipe(dicom_source(tmp_path, "Doe_Jane", "Doe^Jane"))

    with pytest.raises(BuildError, match="the name of a person") as caught:
        fuse(data, tmp_path)
    assert caught.value.code == "phi_found"
    assert "Jane" not in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def test_a_name_that_stays_in_the_header_is_in_no_byte_of_the_bundle(tmp_path):
    built = fuse(recipe(dicom_source(tmp_path, "p3", "Doe^Jane")), tmp_path)

    for path in built.build.out.rglob("*"):
        assert not path.is_file() or b"Doe^Jane" not in path.read_bytes(), path
