"""NIfTI: both handednesses, both transforms, time axes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from medmtl.core.errors import InputRefusedError
from medmtl.core.geometry import LPS_TO_RAS
from medmtl.core.study import Listing
from medmtl.data.intake import open_input

VALUES = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
RAS = np.array([[2.0, 0, 0, 7], [0, 3, 0, -8], [0, 0, 4, 9], [0, 0, 0, 1]])
MIRRORED = RAS @ np.diag([-1.0, 1, 1, 1])
PERMUTED = RAS[:, [1, 2, 0, 3]]


def save(path: Path, values: NDArray[Any], *, sform: Any = RAS, qform: Any = RAS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, None)
    image.set_sform(sform, code=0 if sform is None else 1)
    image.set_qform(qform, code=0 if qform is None else 1)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)


def flags(listing: Listing) -> set[str]:
    return {flag.code for study in listing.studies for ref in study.volumes for flag in ref.flags}


@pytest.mark.parametrize("ras", [RAS, MIRRORED, PERMUTED], ids=["right", "left", "permuted"])
def test_affine_is_kept_whatever_its_hand(ras: NDArray[Any], tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", VALUES, sform=ras, qform=ras)
    (ref,) = open_input(tmp_path / "a.nii.gz").studies[0].volumes
    volume = ref.read()
    assert np.allclose(volume.geometry.affine_lps, LPS_TO_RAS @ ras, atol=1e-5)
    assert np.array_equal(volume.array, VALUES)
    assert volume.array.dtype == np.int16


def test_conflict_of_sform_and_qform_is_flagged_and_the_sform_used(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", VALUES, sform=RAS, qform=MIRRORED)
    listing = open_input(tmp_path)
    assert flags(listing) == {"sform-qform-conflict"}
    assert np.allclose(listing.studies[0].volumes[0].geometry.affine_ras, RAS)


def test_no_orientation_is_flagged(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", VALUES, sform=None, qform=None)
    assert "orientation-unknown" in flags(open_input(tmp_path))


def test_time_axis_becomes_phases(tmp_path: Path) -> None:
    series = np.stack([VALUES, VALUES + 100], axis=-1)
    save(tmp_path / "cine.nii.gz", series)
    refs = open_input(tmp_path).studies[0].volumes
    assert [(ref.id, ref.phase, ref.time_ms) for ref in refs] == [
        ("t000", 0, 0.0),
        ("t001", 1, 1000.0),
    ]
    assert np.array_equal(refs[1].read().array, VALUES + 100)


def test_scaling_is_applied_once(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VALUES, RAS)
    image.header.set_slope_inter(2, -10)
    nib.save(image, tmp_path / "a.nii")
    volume = open_input(tmp_path).studies[0].volumes[0].read()
    assert np.array_equal(volume.array, VALUES * 2 - 10)
    assert volume.array.dtype == np.int16


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    values = VALUES.astype(np.float32)
    values[1, 2, 0] = np.nan
    save(tmp_path / "a.nii", values)
    with pytest.raises(InputRefusedError, match="not-finite: found 1 voxels"):
        open_input(tmp_path).studies[0].volumes[0].read()


def test_whole_numbers_that_single_precision_would_round_are_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VALUES.astype(np.int64) + 2**33, RAS, dtype="int64")
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(InputRefusedError, match=r"values-too-large: found .* to 8589934651"):
        open_input(tmp_path).studies[0].volumes[0].read()


def test_small_whole_numbers_in_64_bits_are_read_exactly(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(VALUES.astype(np.int64), RAS, dtype="int64"), tmp_path / "a.nii")
    volume = open_input(tmp_path).studies[0].volumes[0].read()
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, VALUES)


@pytest.mark.parametrize(
    ("values", "sform", "code"),
    [
        (VALUES[:, :, :1], RAS, "single-slice"),
        (VALUES[..., None, None].repeat(2, 4), RAS, "not-a-volume"),
        (VALUES, RAS + np.eye(4)[[1, 0, 2, 3]] * [[0, 1, 0, 0]] * 4, "sheared-affine"),
        (VALUES.astype(np.complex64), RAS, "not-scalar"),
    ],
    ids=["one slice", "five axes", "sheared", "complex"],
)
def test_refused(values: NDArray[Any], sform: NDArray[Any], code: str, tmp_path: Path) -> None:
    save(tmp_path / "a.nii", values, sform=sform, qform=None)
    assert [refusal.code for refusal in open_input(tmp_path).refusals] == [code]


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", VALUES)
    content = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(content[: len(content) // 2])
    listing = open_input(tmp_path)
    codes = {refusal.code for refusal in listing.refusals}
    if listing.studies:
        with pytest.raises(InputRefusedError, match="damaged-nifti"):
            listing.studies[0].volumes[0].read()
    else:
        assert codes == {"damaged-nifti"}


def test_ed_and_es_are_one_case_and_label_maps_are_skipped(tmp_path: Path) -> None:
    for name in ("p1_ed", "p1_es", "p1_ed_gt", "p2"):
        save(tmp_path / f"{name}.nii.gz", VALUES)
    listing = open_input(tmp_path)
    cases = {study.case_id: [ref.id for ref in study.volumes] for study in listing.studies}
    assert cases == {"p1": ["ed", "es"], "p2": ["image"]}
    assert [(entry.source, entry.code) for entry in listing.skipped] == [
        ("p1_ed_gt.nii.gz", "label-map")
    ]


def test_equal_names_in_two_folders_stay_two_cases(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save(tmp_path / folder / "image.nii.gz", VALUES)
    assert {study.case_id for study in open_input(tmp_path).studies} == {"a-image", "b-image"}


def test_names_that_are_made_safe_never_meet_another_one(tmp_path: Path) -> None:
    for name in ("a b", "a-b", "-a-b", "-a-b-2"):
        save(tmp_path / f"{name}.nii.gz", VALUES)
    assert len({study.case_id for study in open_input(tmp_path).studies}) == 4
