"""The judge of the traps must itself see what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medmtl.core.geometry import Geometry
from medmtl.core.study import Listing, Study, VolumeRef
from medmtl.core.volume import Volume
from tests.traps.expectation import Expectation, Field, Image, judge, reads, refuses
from tests.traps.series import ORIGIN, SPACING_MM, affine_of, distinct_values, rotation

AFFINE = affine_of(rotation(0, 20.0), SPACING_MM, ORIGIN)
TRUTH = Image(distinct_values((4, 5, 6)), AFFINE)


def volume_of(array: np.ndarray, affine: np.ndarray = AFFINE) -> Volume:
    return Volume(array, Geometry(shape=array.shape, affine_lps=affine))


def flipped(axis: int) -> Volume:
    """The same image with one axis running the other way."""
    affine = AFFINE.copy()
    affine[:3, 3] += (TRUTH.array.shape[axis] - 1) * affine[:3, axis]
    affine[:3, axis] *= -1
    return volume_of(np.flip(TRUTH.array, axis), affine)


def listing_of(volume: Volume) -> Listing:
    ref = VolumeRef("image", lambda _: volume, volume.geometry, "CT")
    return Listing(studies=(Study("case", "dicom", "1.2", (ref,)),))


def test_the_same_image_in_any_axis_order_is_right() -> None:
    assert TRUTH.mismatch(volume_of(TRUTH.array)) == ""
    assert TRUTH.mismatch(flipped(0)) == ""
    assert TRUTH.mismatch(flipped(2)) == ""
    swapped = volume_of(TRUTH.array.transpose(1, 2, 0), AFFINE[:, [1, 2, 0, 3]])
    assert TRUTH.mismatch(swapped) == ""


def test_values_turned_without_the_grid_are_wrong() -> None:
    assert "values wrong" in TRUTH.mismatch(volume_of(np.flip(TRUTH.array, 2)))
    assert "values wrong" in TRUTH.mismatch(volume_of(TRUTH.array + 1))


def test_a_wrong_grid_is_wrong() -> None:
    stretched = AFFINE.copy()
    stretched[:3, 2] *= 1.05
    assert "off" in TRUTH.mismatch(volume_of(TRUTH.array, stretched))
    moved = AFFINE.copy()
    moved[:3, 3] += moved[:3, 0]
    assert "outside" in TRUTH.mismatch(volume_of(TRUTH.array, moved))


def test_a_field_sees_a_shear_and_a_shift() -> None:
    gradient = np.array([30.0, -20.0, 10.0])
    straight = affine_of(np.eye(3), SPACING_MM, ORIGIN)
    field = Field(lambda points: np.asarray(points @ gradient), (4, 5, 6), straight)
    index = np.indices((4, 5, 6)).reshape(3, -1).T
    values = (index @ straight[:3, :3].T + straight[:3, 3]) @ gradient
    array = values.reshape(4, 5, 6)
    assert field.mismatch(volume_of(array, straight)) == ""
    shifted = straight.copy()
    shifted[0, 3] += 0.2
    assert "off by" in field.mismatch(volume_of(array, shifted))
    sheared = straight.copy()
    sheared[1, 2] = 0.5
    assert "orthogonal" in field.mismatch(volume_of(array, sheared))


def test_the_judge_asks_for_refusals_flags_and_silence(tmp_path: Path) -> None:
    listing = listing_of(volume_of(TRUTH.array))
    assert judge(listing, reads(TRUTH), folder=tmp_path) == []
    assert judge(listing, refuses(), folder=tmp_path)
    assert judge(listing, reads(TRUTH, flagged=True), folder=tmp_path)
    assert judge(listing, Expectation(images=((),)), folder=tmp_path)
    assert judge(Listing(), reads(TRUTH), folder=tmp_path)
    named = Volume(TRUTH.array, Geometry(shape=(4, 5, 6), affine_lps=AFFINE), id="Zzyzx")
    assert judge(listing_of(named), reads(TRUTH), folder=tmp_path)
