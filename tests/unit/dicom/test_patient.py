"""Patient and study attributes come back as they are, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmtl.core.errors import InputRefusedError
from tests.dicom_factory import make_series
from tests.dicom_results import PATIENT, TEXT, read_source


def _read(folder: Path, **tags: Any) -> dict[str, str]:
    make_series(folder, array=np.zeros((4, 4, 3), dtype=np.int16), **tags)
    _, volume = read_source(folder)
    assert volume.source is not None
    return dict(volume.source.read_patient())


def test_every_attribute_is_read_as_text(tmp_path: Path) -> None:
    assert _read(tmp_path, **TEXT) == PATIENT


def test_an_older_character_set_is_decoded(tmp_path: Path) -> None:
    read = _read(tmp_path, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Änne")
    assert read["PatientName"] == "Müller^Änne"


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, over the damage made here
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientBirthDate", "31.01.70"),
        ("StudyDate", "20201340"),
        ("StudyTime", "25:00"),
        ("PatientSex", "female"),
        ("PatientAge", "fifty"),
        ("AccessionNumber", "A" * 17),
        ("PatientID", "P" * 65),
        ("PatientWeight", ""),
    ],
)
def test_a_value_that_breaks_its_representation_is_left_out(
    tmp_path: Path, keyword: str, value: str
) -> None:
    assert keyword not in _read(tmp_path, **{keyword: value})


def test_a_removed_identity_comes_with_a_method(tmp_path: Path) -> None:
    read = _read(tmp_path, PatientIdentityRemoved="YES")
    assert read["DeidentificationMethod"] == "Not stated in the source"


def test_a_long_description_is_cut(tmp_path: Path) -> None:
    assert _read(tmp_path, StudyDescription="x" * 64)["StudyDescription"] == "x" * 64


def test_a_file_that_went_away_is_refused_without_its_place(tmp_path: Path) -> None:
    make_series(tmp_path / "in", array=np.zeros((4, 4, 3), dtype=np.int16))
    _, volume = read_source(tmp_path / "in")
    for file in (tmp_path / "in").iterdir():
        file.unlink()
    assert volume.source is not None
    with pytest.raises(InputRefusedError) as caught:
        volume.source.read_patient()
    assert caught.value.stage == "write"
    assert str(tmp_path) not in str(caught.value)


def test_frames_are_in_slice_order_and_name_their_instances(tmp_path: Path) -> None:
    make_series(tmp_path, array=np.zeros((4, 4, 3), dtype=np.int16))
    _, volume = read_source(tmp_path)
    assert volume.source is not None
    heights = [frame.position_lps[2] for frame in volume.source.frames]
    assert heights == [30.0, 32.5, 35.0]
    assert len({frame.sop_instance_uid for frame in volume.source.frames}) == 3
    assert {frame.frame_number for frame in volume.source.frames} == {None}
