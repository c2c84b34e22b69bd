"""The image of a case: found where it lies, never outside of the known folders."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from app.services.images import (
    CaseImage,
    ImageMissingError,
    case_image,
    image_root,
    noted_inputs,
)
from medmtl.core.errors import MedmtlError
from medmtl.core.geometry import Geometry
from medmtl.data.intake import open_input
from medmtl.data.source_volume import source_volume
from medmtl.data.volume_file import read_grid
from medmtl.phantom import generate_cine, write_cine_study
from medmtl.report.nifti import write_image
from tests.app.results import case_record, write_seen_case
from tests.dicom_results import write_source

if TYPE_CHECKING:
    from medmtl.core.study import VolumeRef


def _image(folder: Path, *roots: Path) -> CaseImage:
    record = json.loads((folder / "results" / "seen" / "case.json").read_bytes())
    grid = read_grid(folder / "results" / "seen", "image/segmentation.nii.gz")
    return case_image(record, "image", geometry=grid, roots=roots)


def test_a_nifti_image_is_found_below_a_root(tmp_path: Path) -> None:
    write_seen_case(tmp_path, name="deep/down/images")
    volume = _image(tmp_path, tmp_path).read()
    assert volume.array.shape == (32, 32, 32)
    assert float(volume.array.max()) == 0.0


def test_a_nifti_image_on_another_grid_is_not_shown_under_the_masks(tmp_path: Path) -> None:
    write_seen_case(tmp_path)
    image = _image(tmp_path, tmp_path)
    volume = image.read()
    moved = volume.geometry.affine_lps.copy()
    moved[0, 3] += 5.0  # as many voxels, five millimetres to the side
    write_image(
        tmp_path / "images" / "seen.nii.gz",
        replace(volume, geometry=Geometry(shape=volume.geometry.shape, affine_lps=moved)),
    )
    with pytest.raises(MedmtlError, match="another grid"):
        image.read()


def test_an_image_that_goes_while_it_is_shown_is_said_in_words(tmp_path: Path) -> None:
    write_seen_case(tmp_path)
    image = _image(tmp_path, tmp_path)
    (tmp_path / "images" / "seen.nii.gz").unlink()
    with pytest.raises(MedmtlError, match="moved or removed"):
        _ = image.key


def test_of_two_archives_the_one_that_holds_the_image_is_taken(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_seen_case(tmp_path, name, name="images")
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.write(tmp_path / "images" / f"{name}.nii.gz", f"{name}.nii.gz")
    archives = [tmp_path / "a.zip", tmp_path / "b.zip"]
    assert image_root("b.nii.gz", archives) == archives[1]
    record = json.loads((tmp_path / "results" / "b" / "case.json").read_bytes())
    grid = read_grid(tmp_path / "results" / "b", "image/segmentation.nii.gz")
    image = case_image(record, "image", geometry=grid, roots=archives)
    assert image.root == archives[1]
    assert image.read().array.shape == grid.shape


def test_of_two_inputs_with_files_of_one_name_that_of_the_series_is_taken(tmp_path: Path) -> None:
    """Scanners call the slices of every study IM0001 and so on."""
    refs = []
    for name in ("a", "b"):
        write_source(tmp_path / name, "axial")
        series = generate_uid()
        for path in (tmp_path / name).iterdir():
            image = dcmread(path)
            image.SeriesInstanceUID = series
            image.save_as(path)
        refs.append(open_input(tmp_path / name).studies[0].volumes[0])
    assert refs[0].source_files == refs[1].source_files
    for name, ref in zip("ab", refs, strict=True):
        roots = [tmp_path / "a", tmp_path / "b"]
        image = case_image(_record(ref, "ct"), "ct", geometry=ref.geometry, roots=roots)
        assert image.root == tmp_path / name
        assert np.array_equal(image.read().array, ref.read().array)


def test_a_moved_image_says_how_to_name_its_folder(tmp_path: Path) -> None:
    write_seen_case(tmp_path)
    (tmp_path / "images" / "seen.nii.gz").unlink()
    with pytest.raises(ImageMissingError, match="--images"):
        _image(tmp_path, tmp_path)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../secret.txt", "a/../../secret.txt"])
def test_a_path_that_leaves_its_folder_is_no_place(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.txt").touch()
    (tmp_path / "root" / "a").mkdir(parents=True)
    assert image_root(path, [tmp_path / "root"]) is None


def test_a_run_notes_where_its_images_lie(tmp_path: Path) -> None:
    notes = tmp_path / "out" / ".medmtl" / "inputs"
    notes.mkdir(parents=True)
    there, gone = tmp_path / "images", tmp_path / "gone"
    there.mkdir()
    for number, place in enumerate((there, gone)):
        (notes / f"{number}.json").write_text(json.dumps({"path": str(place)}), encoding="utf-8")
    (notes / "broken.json").write_text("{", encoding="utf-8")
    assert noted_inputs(tmp_path / "out") == (there,)


def _record(ref: VolumeRef, volume_id: str) -> dict[str, Any]:
    """The case.json of a phase that was called `volume_id`."""
    place = {"id": volume_id, "series_uid": ref.series_uid, "path": ref.source_files[0]}
    phase = {"name": f"{volume_id}_phase", "value": ref.phase, "from": "cine of 8 phases"}
    return case_record("a", source={"volumes": [place]}, measurements=[phase])


@pytest.fixture(scope="module")
def cine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One study with a cine of the heart."""
    folder = tmp_path_factory.mktemp("cine")
    write_cine_study(folder / "study", generate_cine(3, phases=8), seed=3)
    return folder


def test_a_phase_of_a_cine_is_told_from_the_others(cine: Path) -> None:
    study = open_input(cine).studies[0]
    refs = [ref for ref in study.volumes if ref.phase is not None]
    for ref in (refs[2], refs[5]):
        first = ref.source_files[0]
        image = CaseImage(cine, first, "es", ref.series_uid, ref.geometry, _record(ref, "es"))
        assert np.array_equal(image.read().array, ref.read().array)
        assert [phase.phase for phase in image.phases()] == list(range(len(refs)))


def test_another_image_in_the_place_of_the_old_one_is_not_shown(cine: Path) -> None:
    ref = open_input(cine).studies[0].volumes[0]
    record = _record(replace(ref, series_uid="2.25.999"), "ed")
    image = CaseImage(cine, ref.source_files[0], "ed", "2.25.999", ref.geometry, record)
    with pytest.raises(MedmtlError, match="found 0 times"):
        image.read()


def test_phases_in_one_file_are_told_apart_by_their_place_in_the_cine(cine: Path) -> None:
    refs = [ref for ref in open_input(cine).studies[0].volumes if ref.phase is not None]
    one_file = [replace(ref, source_files=("cine.dcm",)) for ref in refs]
    found = source_volume(_record(one_file[3], "es"), "es", one_file)
    assert found.phase == 3
    record = _record(one_file[3], "es") | {"measurements": []}
    with pytest.raises(MedmtlError, match="expected once"):
        source_volume(record, "es", one_file)
