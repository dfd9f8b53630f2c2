"""Looking through a bundle: the right pixels at the right side, and nothing that may not be."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from django.contrib.auth.models import User
from PIL import Image

from fusion.models import Bundle
from fusion.report.pictures import PALETTE
from fusion.report.slices import Look, draw_slice, scene, shade_of
from tests.factories import make_run
from tests.viewed import known_volume, make_viewed

pytestmark = pytest.mark.django_db
TEN = 450  # pixels of 45 mm


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    return make_viewed(tmp_path)


def pixels(client, bundle: Bundle, case: str = "known", **params) -> np.ndarray:
    answer = client.get(f"/bundles/{bundle.pk}/cases/{case}/slice.png", params)
    assert answer.status_code == 200, answer.content
    with Image.open(io.BytesIO(answer.content)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Rows from, to, columns from, to."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


@pytest.mark.parametrize(
    ("plane", "index", "shape", "box"),
    [
        # The patient's right on the viewer's left, the front on top; 10 pixels a millimetre.
        ("axial", 15, (450, 400), (45, 120, 40, 100)),
        # Right on the left, the head on top: the box is 3 voxels of 2.25 mm below the top.
        ("coronal", 24, (450, 400), (68, 135, 40, 100)),
        # The front on the left.
        ("sagittal", 33, (450, 450), (68, 135, 45, 120)),
    ],
)
def test_a_known_box_lies_where_a_radiologist_expects_it(client, bundle, plane, index, shape, box):
    drawn = {"plane": plane, "index": index, "size": TEN, "overlay": "fill", "opacity": 100}

    found = pixels(client, bundle, **drawn)

    assert found.shape[:2] == shape
    is_label = (found == PALETTE[0]).all(axis=2)
    assert np.abs(np.subtract(box_of(is_label), box)).max() <= 1
    assert is_label[box[0] + 2 : box[1] - 2, box[2] + 2 : box[3] - 2].all()


def test_grey_follows_the_window_and_letters_stand_at_the_sides(client, bundle):
    drawn = {"plane": "axial", "index": 15, "size": TEN, "overlay": "off"}

    soft = pixels(client, bundle, window="soft tissue", **drawn)
    own = pixels(client, bundle, level=0, width=2000, **drawn)

    # -160 to 240 HU: 200 HU is 229.5, 40 HU 127.5, air black. -1000 to 1000: 40 HU is 132.6.
    assert abs(soft[80, 70, 0] - 229.5) <= 1
    assert abs(soft[300, 300, 0] - 127.5) <= 1
    assert soft[5, 5, 0] == 0
    assert abs(own[300, 300, 0] - 132.6) <= 1
    assert (soft[215:235, :20] == 255).all(axis=2).any()  # the letter of the left side


def test_overlays_are_blended_outlined_and_hidden(client, bundle):
    drawn = {"plane": "axial", "index": 2, "size": TEN, "window": "soft tissue"}
    half = pixels(client, bundle, overlay="fill", opacity=50, **drawn)
    outline = pixels(client, bundle, overlay="outline", **drawn)
    hidden = pixels(client, bundle, overlay="fill", hide="2", **drawn)

    # The second box: x 4 to 8 is 32 to 36 from the left of the picture, y 2 to 6 24 to 28 from top.
    expected = (127.5 + np.array(PALETTE[1])) / 2
    assert np.abs(half[390, 340] - expected).max() <= 1.5
    assert (outline[361, 340] == PALETTE[1]).all()
    assert abs(outline[390, 340, 0] - 127.5) <= 1
    assert abs(hidden[390, 340, 0] - 127.5) <= 1


@pytest.mark.parametrize("turned", ["LAS", "RPI", "SRA"])
def test_the_same_body_looks_the_same_however_its_voxels_are_stored(turned):
    image, label = known_volume()
    affine = np.diag([1.0, 1.5, 2.25, 1.0])
    look = Look(-160, 240, overlay="fill", side=300)
    flips = [axis for axis, code in enumerate("RAS") if code not in turned]
    order = [
        next(n for n, pair in enumerate(("RL", "AP", "SI")) if code in pair) for code in turned
    ]
    stored = [np.flip(one, flips).transpose(order) for one in (image, label)]
    flipped = affine.copy()
    for axis in flips:
        flipped[:3, 3] += affine[:3, axis] * (image.shape[axis] - 1)
        flipped[:3, axis] = -affine[:3, axis]
    moved = flipped[:, [*order, 3]]

    plain = scene(image, label, affine)
    other = scene(stored[0], stored[1], moved)

    for plane in plain.planes:
        place = plain.middle[plane]
        assert other.middle[plane] == place
        assert draw_slice(other.plane(plane, place), look) == draw_slice(
            plain.plane(plane, place), look
        )


def test_a_picture_keeps_its_colours_and_proportions(client, tmp_path):
    bundle = make_viewed(tmp_path, "2D")
    case = client.get(f"/api/v1/bundles/{bundle.pk}/cases/").json()["results"][0]

    found = pixels(client, bundle, case["id"], size=170, overlay="off")

    assert found.shape == (120, 170, 3)
    assert len(np.unique(found.reshape(-1, 3), axis=0)) > 50


def test_a_volume_that_no_header_placed_has_no_letters():
    image, label = known_volume()
    look = Look(-160, 240, overlay="off", side=450)
    affine = np.diag([1.0, 1.5, 2.25, 1.0])

    placed, unplaced = (
        np.asarray(Image.open(io.BytesIO(draw_slice(one.plane("axial", 15), look))))
        for one in (scene(image, label, affine), scene(image, label, affine, is_placed=False))
    )

    assert (placed == 255).any()
    assert not (unplaced == 255).any()


def test_labels_beyond_the_palette_have_colours_of_their_own():
    assert len({shade_of(value) for value in range(1, 22)}) == 21


@pytest.mark.parametrize(
    "params",
    [
        {"plane": "oblique"},
        {"plane": "picture"},
        {"index": "20"},
        {"index": "-1"},
        {"index": "1e3"},
        {"index": "٣"},
        {"channel": "1"},
        {"window": "liver"},
        {"level": "40"},
        {"level": "nan", "width": "5"},
        {"level": "1", "width": "0"},
        {"level": "1", "width": "1e400"},
        {"overlay": "<script>"},
        {"opacity": "101"},
        {"hide": "3"},
        {"hide": "1,;2"},
        {"size": "100000"},
        {"size": "0"},
        {"path": "../../etc/passwd"},
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(client, bundle, params):
    answer = client.get(f"/bundles/{bundle.pk}/cases/known/slice.png", params)
    page = client.get(f"/bundles/{bundle.pk}/cases/known/", params)
    api = client.get(f"/api/v1/bundles/{bundle.pk}/cases/known/slice.png", params)

    assert (answer.status_code, page.status_code, api.status_code) == (400, 400, 400)
    assert answer["Content-Type"].startswith("text/plain")
    assert "This view cannot be shown" in page.content.decode()
    assert "<script>al" not in page.content.decode()
    name = list(params)[-1] if "level" not in params else api.json()["errors"][0]["path"]
    assert api.json()["errors"][0]["path"] == name


@pytest.mark.parametrize("case", ["unknown", "x" * 300])
def test_a_case_that_is_not_there_is_not_found(client, bundle, case):
    for path in (
        f"/bundles/{bundle.pk}/cases/{case}/",
        f"/bundles/{bundle.pk}/cases/{case}/slice.png",
    ):
        assert client.get(path).status_code == 404


def test_what_is_private_is_seen_by_its_maker_alone(client, tmp_path):
    bundle = make_viewed(tmp_path, public=False)
    owner = User.objects.create_user("maker")
    make_run(owner=owner, bundle=bundle, public=False)
    addresses = [
        f"{root}/bundles/{bundle.pk}/cases/{rest}"
        for root in ("", "/api/v1")
        for rest in ("", "known/", "known/slice.png")
    ]

    assert {client.get(one).status_code for one in addresses} == {404}
    client.force_login(User.objects.create_user("other"))
    assert {client.get(one).status_code for one in addresses} == {404}
    client.force_login(owner)
    assert {client.get(one).status_code for one in addresses} == {200}
    Bundle.objects.update(removed_at="2026-01-01T00:00Z", removed_why="by a test")
    assert {client.get(one).status_code for one in addresses} == {410}


def test_a_slice_is_kept_by_the_browser_and_never_by_a_shared_cache(client, bundle):
    page = client.get(f"/bundles/{bundle.pk}/cases/known/").content.decode()
    address = page.split('id="slice" src="')[1].split('"')[0].replace("&amp;", "&")
    first = client.get(address)

    assert first["Cache-Control"].startswith("private, max-age=31536000, immutable")
    again = client.get(address, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = client.get(f"/bundles/{bundle.pk}/cases/known/slice.png")
    assert plain["Cache-Control"] == "no-cache"
    assert plain["ETag"] != first["ETag"]


def test_an_image_that_is_too_large_is_not_opened(client, bundle, settings):
    settings.VIEWER_BYTES = 1000

    page = client.get(f"/bundles/{bundle.pk}/cases/known/")
    picture = client.get(f"/bundles/{bundle.pk}/cases/known/slice.png")

    assert page.status_code == 200
    assert "Its image unpacks to" in page.content.decode()
    assert picture.status_code == 422


def test_a_broken_shard_is_said_to_be_one(client, tmp_path):
    bundle = make_viewed(tmp_path)
    shards = [file["path"] for file in bundle.files if file["path"].endswith(".tar")]
    for path in shards:
        stored = tmp_path / "bundles" / bundle.pk / path
        stored.write_bytes(bytes(stored.stat().st_size))

    answer = client.get(f"/bundles/{bundle.pk}/cases/known/slice.png")

    assert answer.status_code == 422
    assert "known.image.nii.gz" in answer.content.decode()


def test_the_list_narrows_by_source_split_and_concept(client, bundle, django_assert_num_queries):
    with django_assert_num_queries(1):
        everything = client.get(f"/bundles/{bundle.pk}/cases/").content.decode()
    narrowed = client.get(
        f"/bundles/{bundle.pk}/cases/", {"source": "second", "split": "test"}
    ).content.decode()

    assert "3 of 3 cases" in everything
    assert "1 of 3 cases" in narrowed
    assert "?source=second&amp;split=test" in narrowed
    nothing = client.get(f"/bundles/{bundle.pk}/cases/", {"source": "nobody"})
    assert "No case has all of this together" in nothing.content.decode()


def test_every_control_holds_the_whole_view(client, bundle, django_assert_num_queries):
    address = f"/bundles/{bundle.pk}/cases/known/"
    asked = {"plane": "coronal", "coronal": 24, "axial": 3, "hide": 2, "overlay": "fill"}
    with django_assert_num_queries(1):
        html = client.get(address, asked | {"source": "first"}).content.decode()

    for said in ("Anterior hippocampus", "not looked for: unknown", "soft tissue", "HU"):
        assert said in html
    kept = "axial=3&amp;coronal=24&amp;sagittal="
    assert html.count(kept) > 10
    assert f"plane=sagittal&amp;{kept}" in html
    assert "coronal=25" in html
    assert "window=lung" in html
    assert 'name="source" value="first"' in html


def test_voxels_that_nobody_annotated_are_named_and_can_be_hidden(client, tmp_path):
    bundle = make_viewed(tmp_path)
    storage_path = tmp_path / "bundles" / bundle.pk / "manifest.json"
    manifest = json.loads(storage_path.read_text())
    for case in manifest["cases"]:
        case["ignored"] = 2000
    storage_path.write_text(json.dumps(manifest))

    html = client.get(f"/bundles/{bundle.pk}/cases/known/").content.decode()

    assert "Nobody annotated" in html
    assert "6.75 ml" in html
    assert pixels(client, bundle, hide="3").shape


def test_a_case_without_files_says_why(client, tmp_path):
    bundle = make_viewed(tmp_path)
    storage_path = tmp_path / "bundles" / bundle.pk / "manifest.json"

    manifest = json.loads(storage_path.read_text())
    for case in manifest["cases"]:
        case["files"] = [file for file in case["files"] if file["role"] == "record"]
    storage_path.write_text(json.dumps(manifest))

    html = client.get(f"/bundles/{bundle.pk}/cases/known/").content.decode()

    assert "a rebuild from the sources gives it" in html
    assert "only as a recipe" in client.get(f"/bundles/{bundle.pk}/cases/").content.decode()
