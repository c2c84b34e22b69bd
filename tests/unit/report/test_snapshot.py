"""The preview shows the patient the way a radiologist looks at one, however the array is stored."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medmtl.core.geometry import Geometry
from medmtl.core.prediction import (
    FindingResult,
    Measurement,
    ModelIdentity,
    Prediction,
    SegmentResult,
    VolumePrediction,
)
from medmtl.core.volume import Volume
from medmtl.report.panel import colour_of
from medmtl.report.planes import cut
from medmtl.report.snapshot import write_preview


def _stored(
    array: np.ndarray, order: tuple[int, ...], signs: tuple[int, ...]
) -> tuple[np.ndarray, Geometry]:
    """An LPS array at 1 mm, stored with other axes: axis a runs along patient axis order[a]."""
    stored = np.transpose(array, order)[tuple(slice(None, None, sign) for sign in signs)]
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (patient, sign) in enumerate(zip(order, signs, strict=True)):
        affine[patient, axis] = sign
        if sign < 0:
            affine[patient, 3] = array.shape[patient] - 1
    return stored, Geometry(stored.shape, affine)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_every_storage_order_gives_the_same_radiological_picture(
    rng: np.random.Generator, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    patient = rng.normal(size=(3, 4, 5))  # L, P, S
    stored, geometry = _stored(patient, order, signs)
    expected = {  # rows down, columns to the right; the patient's right is on the left
        2: (patient[:, :, 1].T, ("R", "L", "A", "P")),
        1: (patient[:, 1, ::-1].T, ("R", "L", "S", "I")),
        0: (patient[1, :, ::-1].T, ("A", "P", "S", "I")),
    }
    for patient_axis, (pixels, letters) in expected.items():
        axis = order.index(patient_axis)
        index = 1 if signs[axis] > 0 else stored.shape[axis] - 2
        plane = cut(geometry, normal=axis, index=index)
        np.testing.assert_array_equal(plane.pixels(stored), pixels)
        assert plane.letters() == letters


def test_an_oblique_slice_has_two_letters_at_an_edge() -> None:
    angle = np.deg2rad(40)
    direction = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    grid = Geometry.from_parts(shape=(4, 4, 4), spacing_mm=(1, 1, 1), direction=direction)
    assert cut(grid, normal=2, index=0).letters() == ("RA", "LP", "AL", "PR")


def _opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def _prediction(geometry: Geometry, ids: tuple[str, ...]) -> Prediction:
    parts = []
    for volume_id in ids:
        image = np.zeros(geometry.shape, np.float32)
        mask = np.zeros(geometry.shape, np.uint8)
        middle = tuple(slice(size // 3, 2 * size // 3 + 1) for size in geometry.shape)
        image[middle], mask[middle] = 100, 1
        parts.append(VolumePrediction(Volume(image, geometry, id=volume_id), mask))
    return Prediction(
        ModelIdentity("m", "1", "0"), tuple(parts),
        tuple(SegmentResult(volume_id, 1, "block", 1.0, 1, 1.0) for volume_id in ids),
        (Measurement("ef", None, "%", "x"),),
        (FindingResult("a_finding", 0.9, 0.5, True, True),), (), {},
    )  # fmt: skip


ISOTROPIC = Geometry.from_parts(shape=(30, 40, 50), spacing_mm=(1, 1, 1))
STACK = Geometry.from_parts(shape=(60, 60, 8), spacing_mm=(1.5, 1.5, 9))


@pytest.mark.parametrize("geometry", [ISOTROPIC, STACK], ids=["isotropic", "stack"])
def test_masks_are_outlined_in_their_colour(tmp_path: Path, geometry: Geometry) -> None:
    prediction = _prediction(geometry, ("image",))
    write_preview(tmp_path / "p.png", "case", prediction, prediction.volumes[0])
    picture = _opened(tmp_path / "p.png")
    legend = 12 * 10
    assert (picture == colour_of(1)).all(axis=-1).sum() > 2 * legend


def test_a_stack_shows_the_other_phase_too(tmp_path: Path) -> None:
    heights = []
    for ids in (("ed",), ("ed", "es")):
        prediction = _prediction(STACK, ids)
        write_preview(tmp_path / "p.png", "case", prediction, prediction.volumes[0])
        heights.append(_opened(tmp_path / "p.png").shape[0])
    assert heights[1] > heights[0]


def test_a_pixel_is_as_wide_as_high_in_millimetres(tmp_path: Path) -> None:
    """A 40 mm cube of 1 x 2 x 4 mm voxels has a square outline in every plane."""
    geometry = Geometry.from_parts(shape=(80, 40, 40), spacing_mm=(1, 2, 2))
    prediction = _prediction(geometry, ("image",))
    write_preview(tmp_path / "p.png", "case", prediction, prediction.volumes[0])
    picture = _opened(tmp_path / "p.png")
    third = (picture.shape[1] - 330) // 3
    coloured = (picture[:, :third] == colour_of(1)).all(axis=-1)
    rows, columns = (np.flatnonzero(coloured.any(axis=axis)) for axis in (1, 0))
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), rel=0.08)


def test_empty_masks_and_a_flat_image_still_make_a_picture(tmp_path: Path) -> None:
    for geometry in (ISOTROPIC, STACK):
        part = VolumePrediction(
            Volume(np.zeros(geometry.shape), geometry), np.zeros(geometry.shape, np.uint8)
        )
        prediction = _prediction(geometry, ("image",))
        write_preview(tmp_path / "p.png", "case", prediction, part)
        assert _opened(tmp_path / "p.png").shape[1] > 330


def test_the_picture_is_the_same_every_time(tmp_path: Path) -> None:
    prediction = _prediction(STACK, ("ed", "es"))
    for name in ("a.png", "b.png"):
        write_preview(tmp_path / name, "case", prediction, prediction.volumes[0])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_sixteen_labels_have_sixteen_colours() -> None:
    assert len({colour_of(label) for label in range(1, 17)}) == 16
