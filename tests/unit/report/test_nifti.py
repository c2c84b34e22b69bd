"""Label maps and activation maps land on the source grid, whole, and the same every time."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from medmtl.core.geometry import LPS_TO_RAS, Geometry
from medmtl.core.volume import Volume
from medmtl.report.nifti import CAM_STEPS, write_activation_map, write_label_map


def _rotation(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    return np.vstack([turn, [0, 0, 1]])[:, [2, 0, 1]]


GRIDS = {
    "axial": Geometry.from_parts(shape=(7, 5, 4), spacing_mm=(0.7, 0.9, 3.0)),
    "oblique": Geometry.from_parts(
        shape=(7, 5, 4), spacing_mm=(0.7, 0.9, 3.0), origin_lps=(-12, 33, 4.5),
        direction=_rotation(25),
    ),
    "left-handed": Geometry.from_parts(
        shape=(7, 5, 4), spacing_mm=(1, 2, 3), direction=np.diag([1, 1, -1])
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_label_map_comes_back_with_values_grid_and_type(
    tmp_path: Path, rng: np.random.Generator, name: str, dtype: type
) -> None:
    grid = GRIDS[name]
    label_map: NDArray[Any] = rng.integers(0, np.iinfo(dtype).max, grid.shape).astype(dtype)
    path = tmp_path / "segmentation.nii.gz"
    write_label_map(path, label_map, grid)

    image = nib.load(path)
    assert image.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asarray(image.dataobj), label_map)
    np.testing.assert_allclose(LPS_TO_RAS @ image.affine, grid.affine_lps, atol=1e-4)
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)


def test_simpleitk_reads_the_same_voxel_at_the_same_place(tmp_path: Path) -> None:
    grid = GRIDS["oblique"]
    label_map = np.zeros(grid.shape, np.uint8)
    label_map[5, 2, 3] = 9
    write_label_map(tmp_path / "s.nii.gz", label_map, grid)
    image = sitk.ReadImage(str(tmp_path / "s.nii.gz"))
    assert image[5, 2, 3] == 9
    expected_lps = (grid.affine_lps @ [5, 2, 3, 1])[:3]
    np.testing.assert_allclose(
        image.TransformIndexToPhysicalPoint((5, 2, 3)), expected_lps, atol=1e-3
    )


def test_a_sheared_grid_has_no_qform_that_would_say_otherwise(tmp_path: Path) -> None:
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[1, 2] = 1.5
    grid = Geometry((4, 4, 4), affine)
    write_label_map(tmp_path / "s.nii.gz", np.zeros(grid.shape, np.uint8), grid)
    header = nib.load(tmp_path / "s.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)


def test_a_label_map_of_another_shape_or_type_is_refused(tmp_path: Path) -> None:
    grid = GRIDS["axial"]
    for wrong in (np.zeros(grid.shape, np.int16), np.zeros((4, 5, 7), np.uint8)):
        with pytest.raises(ValueError, match="Label map must be"):
            write_label_map(tmp_path / "s.nii.gz", wrong, grid)
    assert list(tmp_path.iterdir()) == []


def test_equal_content_makes_equal_files_whatever_their_name(tmp_path: Path) -> None:
    grid = GRIDS["axial"]
    for name in ("a.nii.gz", "b.nii.gz"):
        write_label_map(tmp_path / name, np.ones(grid.shape, np.uint8), grid)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_an_activation_map_is_interpolated_in_steps_of_1_255(tmp_path: Path) -> None:
    """A ramp along i on a grid twice as coarse is the same ramp on the source grid."""
    source = Geometry.from_parts(shape=(9, 3, 2), spacing_mm=(1, 1, 1))
    coarse = Geometry.from_parts(shape=(5, 3, 2), spacing_mm=(2, 1, 1))
    ramp = np.broadcast_to(np.linspace(0, 1, 5)[:, None, None], coarse.shape).astype(np.float32)
    write_activation_map(tmp_path / "cam.nii.gz", Volume(ramp, coarse), source)

    image = nib.load(tmp_path / "cam.nii.gz")
    values = np.asarray(image.dataobj)
    assert image.get_data_dtype() == np.float32
    assert values.shape == source.shape
    np.testing.assert_allclose(values[:, 1, 1], np.linspace(0, 1, 9), atol=0.5 / CAM_STEPS + 1e-6)
    np.testing.assert_allclose(values * CAM_STEPS, np.rint(values * CAM_STEPS), atol=1e-4)


def test_outside_of_its_extent_an_activation_map_is_zero(tmp_path: Path) -> None:
    source = Geometry.from_parts(shape=(8, 2, 2), spacing_mm=(1, 1, 1))
    part = Geometry.from_parts(shape=(3, 2, 2), spacing_mm=(1, 1, 1), origin_lps=(2, 0, 0))
    write_activation_map(
        tmp_path / "cam.nii.gz", Volume(np.ones(part.shape, np.float32), part), source
    )
    values = np.asarray(nib.load(tmp_path / "cam.nii.gz").dataobj)
    assert values[:, 0, 0].tolist() == [0, 0, 1, 1, 1, 0, 0, 0]


def test_the_full_activation_map_is_never_held(tmp_path: Path) -> None:
    source = Geometry.from_parts(shape=(512, 512, 96), spacing_mm=(1, 1, 1))
    coarse = Geometry.from_parts(shape=(32, 32, 6), spacing_mm=(16, 16, 16))
    cam = Volume(np.ones(coarse.shape, np.float32), coarse)
    tracemalloc.start()
    write_activation_map(tmp_path / "cam.nii.gz", cam, source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = 4 * 512 * 512 * 96
    assert peak < whole / 2
