"""Masks that a browser sends: what fits is taken, everything else is refused in words."""

from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from app.services.uploads import read_upload
from medmtl.core.errors import MedmtlError
from medmtl.data.result_case import read_result_case
from tests.app.results import write_seen_case

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.data.result_case import ResultCase


@pytest.fixture
def case(tmp_path: Path) -> ResultCase:
    write_seen_case(tmp_path)
    return read_result_case(tmp_path / "results" / "seen")


def _mask(case: ResultCase) -> bytes:
    return (case.folder / "image" / "segmentation.nii.gz").read_bytes()


def _read(case: ResultCase, content: bytes, name: str = "mask.nii.gz", max_mb: int = 1) -> int:
    read = read_upload(content, name=name, case=case, volume_id="image", max_mb=max_mb)
    return int(np.count_nonzero(read.label_map))


def test_a_mask_is_read_whatever_its_name_leads_to(case: ResultCase, tmp_path: Path) -> None:
    name = "../../../../tmp/a\0b/.nii/../x.NII.GZ"
    assert _read(case, _mask(case), name) == 12**3
    assert not list(tmp_path.glob("**/x.*"))


@pytest.mark.parametrize("name", ["mask", "mask.exe", "mask.nii.zip", "nii", ""])
def test_another_kind_of_file_is_refused(case: ResultCase, name: str) -> None:
    with pytest.raises(MedmtlError, match=r"expected \.nii, \.nii\.gz or \.dcm"):
        _read(case, _mask(case), name)


def test_a_file_over_the_limit_is_refused_by_its_size(case: ResultCase) -> None:
    with pytest.raises(MedmtlError, match="found 3 MB, expected at most 2 MB"):
        _read(case, bytes(3 << 20), max_mb=2)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_by_its_header(case: ResultCase) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((1200, 1200, 1000))
    header["magic"], header["vox_offset"] = b"n+1", 352
    content = gzip.compress(header.binaryblock + bytes(4) + bytes(1 << 20))
    with pytest.raises(MedmtlError, match="1200"):
        _read(case, content)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "mask.nii.gz"),
        (b"\x1f\x8b" + bytes(100), "mask.nii.gz"),
        (gzip.compress(b"no image", mtime=0), "mask.nii.gz"),
        (struct.pack("<i", 348) + bytes(344), "mask.nii"),
        (b"", "mask.dcm"),
        (bytes(128) + b"DICM" + b"\xff" * 5000, "mask.dcm"),
        (b"<html>", "mask.dcm"),
    ],
)
def test_damage_is_refused_in_words(case: ResultCase, content: bytes, name: str) -> None:
    with pytest.raises(MedmtlError) as raised:
        _read(case, content, name)
    assert "upload" in str(raised.value)
    assert "/" not in str(raised.value).split("upload")[0]


def test_a_mask_on_another_grid_is_refused(case: ResultCase) -> None:
    image = nib.Nifti1Image(np.zeros((32, 32, 32), np.uint8), np.diag([3.0, 3.0, 3.0, 1.0]))
    with pytest.raises(MedmtlError, match=r"3\.00|3\.0"):
        _read(case, gzip.compress(image.to_bytes()))


def test_a_label_that_the_model_has_not_is_refused(case: ResultCase) -> None:
    original = nib.Nifti1Image.from_bytes(gzip.decompress(_mask(case)))
    values = np.asarray(original.dataobj).copy()
    values[0, 0, 0] = 9
    image = nib.Nifti1Image(values, original.affine)
    image.header.set_xyzt_units("mm")
    with pytest.raises(MedmtlError, match="labels 9"):
        _read(case, image.to_bytes(), "mask.nii")
