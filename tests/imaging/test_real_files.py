"""Real published files, with the oddities they came with."""

from __future__ import annotations

import subprocess
import sys

import nibabel as nib
import numpy as np

from fusion.imaging.geometry import same_voxels, to_ras
from fusion.imaging.harmonise import resample, resample_labels, resize_picture, target_grid
from fusion.imaging.io import label_names, read_image, read_npz
from fusion.imaging.labels import as_integers, binarise, from_probabilities
from fusion.imaging.transforms import invert, record
from fusion.imaging.volume import Picture, Volume
from tests.imaging.make import dice

NOT_IMAGES = {".csv", ".json", ".txt", ".md", ".tsv", ".npz", ".dcm"}


def test_every_file_is_read(shared_data):
    volumes = pictures = 0
    for path in sorted(shared_data.rglob("*")):
        if path.is_dir() or path.suffix in NOT_IMAGES:
            continue
        image = read_image(path)
        assert np.isfinite(image.array).all()
        volumes += isinstance(image, Volume)
        pictures += isinstance(image, Picture)
    assert volumes > 250
    assert pictures > 300


def test_nifti_files_agree_with_nibabel(shared_data):
    for name in ("t2/t2", "t2s/t2s", "mt/mt1", "t1/t1w_seg-manual", "t2/t2_seg-manual_labeled"):
        path = shared_data / "spinal_cord_mri/sct_testing_data" / f"{name}.nii.gz"
        ours, theirs = read_image(path), nib.load(path)
        np.testing.assert_array_equal(ours.array, np.asanyarray(theirs.dataobj))
        np.testing.assert_allclose(ours.grid.affine, theirs.affine, atol=1e-5)
        canonical = nib.as_closest_canonical(theirs)
        turned = to_ras(ours)[0]
        np.testing.assert_array_equal(turned.array, np.asanyarray(canonical.dataobj))
        np.testing.assert_allclose(turned.grid.affine, canonical.affine, atol=1e-4)


def test_label_names_come_from_the_header(shared_data):
    folder = shared_data / "abdomen_ct/totalsegmentator"
    names = label_names(folder / "example_seg.nii.gz")

    assert (names[1], names[5], len(names)) == ("spleen", "liver", 117)
    assert label_names(folder / "example_ct.nii.gz") == {}


def test_the_dicom_step_is_2_mm_while_the_thickness_says_3(shared_data):
    folder = shared_data / "abdomen_ct/totalsegmentator_dicom"
    image = read_image(folder / "example_ct_dicom")
    label = read_image(folder / "example_seg_dicom.nii.gz")

    assert image.grid.shape == (512, 512, 20)
    np.testing.assert_allclose(image.grid.spacing_mm, (0.9765625, 0.9765625, 2.0))
    assert image.unit == "hu"
    moved, _ = to_ras(image)
    on_it = resample(label, moved.grid, interpolation="nearest")
    liver = moved.array[on_it.array == 5]
    assert 70 < liver.mean() < 110
    assert same_voxels(image, label)


def test_three_small_dicom_series_are_read(shared_data):
    shapes = [
        read_image(folder).grid.shape
        for folder in sorted((shared_data / "hippocampus_mri/udacity_hcrop_dicom").glob("*/*"))
    ]
    assert shapes == [(35, 51, 32), (36, 48, 35), (34, 50, 40)]


def test_gzipped_ppm_is_a_picture(shared_data):
    folder = shared_data / "retinal_vessels/stare"
    image = read_image(folder / "stare-images/im0002.ppm.gz")
    label = read_image(folder / "labels-ah/im0002.ah.ppm.gz")

    assert image.array.shape == (605, 700, 3)
    assert 0.05 < binarise(label.array, 127).mean() < 0.15


def test_masks_of_three_depths_need_one_threshold(shared_data):
    folder = shared_data / "breast_ultrasound/busi"
    for name in ("benign (4)", "benign (3)"):  # RGBA and one bit
        mask = read_image(folder / f"benign/mask/{name}_mask.png")
        assert 0.001 < binarise(mask.array, 127).mean() < 0.5
    empty = read_image(folder / "normal/mask/normal (1)_mask.png")
    assert binarise(empty.array, 127).sum() == 0


def test_opaque_alpha_is_no_vessel(shared_data):
    mask = read_image(shared_data / "retinal_vessels/fives/masks/28_A.png")
    assert 0.01 < binarise(mask.array, 127).mean() < 0.2


def test_an_enlarged_mask_goes_back_to_its_native_size(shared_data):
    folder = shared_data / "retinal_vessels/chase_db1"
    image = read_image(folder / "images/Image_01L.jpg")
    mask = read_image(folder / "masks/Image_01L.jpg")

    assert resize_picture(image, (960, 999), "area").array.shape == (960, 999, 3)
    small = binarise(resize_picture(mask, (960, 999), "area").array, 127)
    assert abs(small.mean() - binarise(mask.array, 127).mean()) < 0.002


def test_a_brain_mask_of_almost_one_is_one(shared_data):
    folder = shared_data / "brain_tumour_mri/brats2013_deepmedic/brats_2013_pat0004_1"
    labels = as_integers(read_image(folder / "OTMultiClass.nii.gz").array)
    mask = as_integers(read_image(folder / "brainmask.nii.gz").array)

    assert set(np.unique(labels)) <= {0, 1, 2, 3, 4}
    assert set(np.unique(mask)) == {0, 1}


def test_tissue_maps_become_labels(shared_data):
    folder = shared_data / "brain_tissue_mri/icbm152_09a"
    maps = [
        read_image(folder / f"mni_icbm152_{t}_tal_nlin_sym_09a_converted.nii.gz").array
        for t in ("gm", "wm")
    ]
    labels = from_probabilities(maps, 255)

    assert set(np.unique(labels)) == {0, 1, 2}
    assert ((labels == 1) <= (maps[0] >= maps[1])).all()
    share = np.count_nonzero(labels == 1) / np.count_nonzero(labels == 2)
    assert 1 < share < 3


def test_a_label_on_another_grid_is_told_and_brought_over(shared_data):
    folder = shared_data / "hippocampus_mri/mni152_neuromorphometrics"
    image = read_image(folder / "MNI152_T1_1mm_brain.nii.gz")
    label = read_image(folder / "atlas_neuromorphometrics.nii.gz")

    assert not same_voxels(image, label)
    moved = resample(label, image.grid, interpolation="nearest")
    before = np.count_nonzero(label.array == 47) * label.grid.voxel_mm3
    after = np.count_nonzero(moved.array == 47) * moved.grid.voxel_mm3
    assert abs(after / before - 1) < 0.05
    right = moved.grid.world(np.argwhere(moved.array == 47).astype(float))
    assert right[:, 0].mean() > 15


def test_a_real_label_makes_the_round_trip(shared_data):
    path = shared_data / "hippocampus_mri/msd_task04/labels/hippocampus_003.nii.gz"
    label = read_image(path)
    label = label.with_array(as_integers(label.array))
    ras, first = to_ras(label)
    moved, flags = resample_labels(ras, target_grid(ras.grid, (1.5, 1.5, 1.5)))
    second = record("resample", {}, ras, moved, invertible=True)

    back = invert([first, second], moved)

    assert flags == []
    np.testing.assert_array_equal(back.grid.affine, label.grid.affine)
    assert dice(back.array, label.array) > 0.88


def test_the_npz_set_has_its_counts(shared_data):
    path = shared_data / "chest_xray/pneumoniamnist/pneumoniamnist.npz"
    assert read_npz(path, "train_images").shape == (2428, 28, 28)
    assert read_npz(path, "train_labels").shape == (2428, 1)


def test_the_library_loads_neither_django_nor_torch():
    code = (
        "import sys, fusion.imaging.harmonise, fusion.imaging.io, fusion.imaging.hashes;"
        "print([m for m in ('django', 'torch', 'catalog', 'numba') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
