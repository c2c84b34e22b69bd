"""What a result folder says is enough to take a corrected mask in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medmtl.core.errors import MedmtlError
from medmtl.core.labels import LabelSchema
from medmtl.data.correction import read_result_correction
from medmtl.data.result_case import read_result_case
from medmtl.data.reviewed import find_masks
from tests.dicom_results import SCHEMA, blobs, read_source, write_result


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A finished case with NIfTI masks and a segmentation, of an oblique series."""
    return write_result(tmp_path, "oblique", formats=("nifti", "seg", "sr", "rtstruct"))


def test_schema_grid_and_frame_of_reference_are_in_the_result_folder(case: Path) -> None:
    read = read_result_case(case)
    _, source = read_source(case.parents[1] / "in")
    volume = read.volume(source.id)
    plain = LabelSchema(
        SCHEMA.segments, tuple(finding for finding in SCHEMA.findings), SCHEMA.findings_exclusive
    )
    assert read.schema == plain
    assert volume.geometry.is_close(source.geometry, tolerance_voxel=1e-3)
    assert volume.frame_of_reference_uid == source.frame_of_reference_uid != ""
    np.testing.assert_array_equal(volume.label_map, blobs(source.geometry.shape))


@pytest.mark.parametrize(
    "name",
    ["segmentation.nii.gz", "segmentation.seg.dcm", "segmentation.rtstruct.dcm", "findings.sr.dcm"],
)
def test_a_mask_of_a_result_comes_back_into_it(case: Path, name: str) -> None:
    read = read_result_case(case)
    volume = read.volume(read.volume_ids[0])
    path = case / volume.id / name
    corrected = read_result_correction(path, case=read, volume_id=volume.id)
    wanted: NDArray[np.uint8] = blobs(volume.geometry.shape)
    np.testing.assert_array_equal(corrected.label_map, wanted)
    assert corrected.flags == ()
    assert corrected.kind in name.replace("nii", "nifti")


def test_what_is_missing_is_said(case: Path) -> None:
    read = read_result_case(case)
    with pytest.raises(MedmtlError, match="has no volume 'mr'"):
        read.volume("mr")
    (case / read.volume_ids[0] / "segmentation.nii.gz").unlink()
    with pytest.raises(MedmtlError, match="nifti among its --formats"):
        read.volume(read.volume_ids[0])


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"status": "done"})])
def test_a_damaged_record_is_said(case: Path, content: str) -> None:
    (case / "case.json").write_text(content)
    with pytest.raises(MedmtlError, match="missing or damaged"):
        read_result_case(case)


def test_a_mask_belongs_to_the_volume_with_the_longer_name(case: Path, tmp_path: Path) -> None:
    """`image-2` is a volume of its own and no correction of `image`, though both fit its grid."""
    two = replace(read_result_case(case), volume_ids=("image", "image-2"))
    place = tmp_path / "masks" / case.name
    place.mkdir(parents=True)
    second = place / "image-2.nii.gz"
    second.touch()
    assert find_masks(tmp_path / "masks", two) == {"image-2": second}
    first = place / "image-by-hand.nii.gz"
    first.touch()
    assert find_masks(tmp_path / "masks", two) == {"image": first, "image-2": second}
