"""Stable codes: why a case was left out, and what was noticed.

The meanings are shown to people wherever a code is shown.
"""

from __future__ import annotations

#: A case with one of these codes is not in the bundle.
EXCLUSIONS: dict[str, str] = {
    "image_missing": "a label names a case whose image is not there",
    "image_ambiguous": "several files match where one image is expected",
    "label_missing": "the image has no label",
    "label_ambiguous": "a table says two things about one case",
    "label_ignored": "the label is one that the source description leaves out",
    "unreadable": "the file cannot be read",
    "size_limit": "reading the file needs more than the limits for untrusted files allow",
    "dtype_refused": "the file's data type cannot be an image or a label",
    "no_geometry": "the header gives no place in the world",
    "geometry_conflict": "the header's two affines disagree",
    "geometry_irregular": "slices are missing, doubled or unevenly spaced",
    "grid_conflict": "image and label do not lie on compatible grids",
    "label_unmapped": "the label holds a value that the source description does not map",
    "label_collision": "two concepts claim one voxel",
    "unit_conflict": "the intensities are not in the unit that the source should have",
    "phi_found": "the image or its header may tell who the person is",
    "degenerate": "the image holds one value only",
    "duplicate": "the same image is already in the bundle",
    "official_test_group": "another case of this subject is official test data",
    "upstream_changed": "the file is not the one that was acquired",
    "hidden": "official hidden test data are never used",
}

#: Noticed and reported; the case stays unless it also has an exclusion code.
FINDINGS: dict[str, str] = {
    "label_duplicate": "two cases have byte-identical labels",
    "label_conflict": "one image has two different labels",
    "near_duplicate": "two images are almost the same picture; kept in one group",
    "leak_review": "two images look alike across splits; a person should look",
    "looks_crowded": "too many images look alike to compare all of them as closely",
    "geometry_outlier": "grid far from the source's other cases",
    "label_resampled": "the label lies on another grid and was taken to the image's",
    "channel_resampled": "a channel lies on another grid and was taken to the first one's",
    "table_rows_unused": "a table speaks of images that are not in the source",
    "values_ignored": "voxels hold a value that the source description leaves out",
    "table_encoding": "a table is not UTF-8; its text was read as Latin-1",
    "label_nearest": "a label went to the target grid by nearest value, to keep a structure",
    "unit_unknown": "the unit of the intensities cannot be told; a rule of the source may say it",
    "low_roundtrip": "a label loses detail on the target grid",
    "structure_lost": "a structure does not survive the target grid; the native mask is kept too",
    "overlap_certain": "two sources share people or images",
    "overlap_likely": "two sources are joined by a chain of copies; they likely share images",
    "overlap_possible": "two sources come from a common one and may share people or images",
    "overlap_found": "what two sources really share, by their files",
    "class_confounded": "a class occurs in one source only: a model may learn the source instead",
    "face_unattested": "heads, and nobody said that they have no face; not for sharing",
    "catalog_differs": "the catalog states other than a source description or the files",
    "fingerprint_differs": "the files hold other than the source description says",
    "label_volume_shift": "a concept is of other size in one source than in another",
    "volume_outlier": "a labelled structure is of other size than in the source's other cases",
    "intensity_outlier": "brightness or contrast far from the source's other cases",
    "licence_unknown": "a source states no licence",
    "licence_conflict": "licences that no single file can satisfy together",
    "recipe_only": "files that may not be passed on; the bundle says how to rebuild them",
    "subjects_unknown": "subject ids are not published; cases of one person may be split",
    "fold_partial": "cases have no part in a fold, so that no group is on both sides",
    "small_stratum": "too few groups to split; all go to train",
    "shortcut_risk": "the picture tells the source, and the source the label: a way to cheat",
    "label_doubtful": "the network contradicts this label with confidence; a person should look",
    "shared_scale": "this copy was resized by its host and taken back to the native size",
}

#: A build, a rebuild or a view cannot go on.
FAILURES: dict[str, str] = {
    "archive_unsafe": "an archive holds links, devices, names that lead out of it, or too much",
    "source_failed": "a source cannot be had, or too many of its cases cannot be used",
    "leak_detected": "an image or a group stands in two splits",
    "verify_failed": "the built bundle does not verify",
    "disk_full": "there is no room left; what is finished is used when the build is started again",
    "storage_quota": "the bundles of a user, or of all, would take more room than they may",
    "cancelled": "somebody asked for it to stop",
    "busy": "another build works in this folder",
    "recipe_invalid": "the recipe cannot be run",
    "plan_changed": "the recipe gives another plan with this version than the bundle was built by",
    "rebuild_differs": "the rebuilt bundle is not the one that the lock describes",
    "too_many_attempts": "the stage was tried again and again without progress",
    "internal_error": "a fault of the software, not of the data",
    "bundle_missing": "the build left no bundle to publish",
    "bundle_storage": "the bundle cannot be stored",
    "not_found": "what should be read is not there",
    "no_cases": "no case is left",
    "case_invalid": "a case's own record does not hold together",
    "file_changed": "a file is not the one whose hash was noted",
    "format_unknown": "the name does not say a format that a bundle holds",
    "name_unsafe": "a name that no archive or file system should be given",
    "range_unsatisfiable": "a range outside of the file",
    "not_empty": "the folder to write to holds other files",
    "view_unknown": "no view is called that",
    "view_omitted": "the format cannot hold what this bundle says",
    "lossy_refused": "the format loses nothing: there is nothing to accept",
}

MEANINGS: dict[str, str] = {**EXCLUSIONS, **FINDINGS, **FAILURES}
