"""Shares of activation on boxes whose overlap is known on paper."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.core.geometry import Geometry
from medmtl.core.labels import LabelSchema, SegmentSpec
from medmtl.core.volume import Volume
from medmtl.evidence.cam import cam_geometry
from medmtl.evidence.fractions import segment_fractions
from medmtl.evidence.localisation import energy_in_segments, peak_lps

SCHEMA = LabelSchema(segments=(SegmentSpec(1, "left"), SegmentSpec(300, "right")))
LABELS = [1, 300]
SOURCE = Geometry.from_parts(shape=(8, 4, 4), spacing_mm=(1, 1, 2), origin_lps=(10, -5, 3))


def halves() -> np.ndarray:
    label_map = np.zeros(SOURCE.shape, dtype=np.uint16)
    label_map[:3] = 1
    label_map[3:6] = 300
    return label_map


def test_fractions_of_coarse_cells_are_volume_shares() -> None:
    grid = cam_geometry(SOURCE, (2, 2, 4))
    fractions = segment_fractions(halves(), SOURCE, grid, labels=LABELS)
    assert fractions.shape == (2, 4, 2, 2)
    assert fractions[0, :, 0, 0].tolist() == [1.0, 0.5, 0.0, 0.0]
    assert fractions[1, :, 1, 1].tolist() == [0.0, 0.5, 1.0, 0.0]


def test_fractions_of_finer_cells_repeat_the_voxel() -> None:
    grid = cam_geometry(SOURCE, (12, 4, 24))  # three times finer along i and k
    fractions = segment_fractions(halves(), SOURCE, grid, labels=LABELS)
    expected = np.repeat(np.repeat(halves() == 1, 3, axis=0), 3, axis=2)
    np.testing.assert_allclose(fractions[0], expected, atol=1e-6)


def test_a_cell_that_cuts_through_voxels_counts_their_parts() -> None:
    grid = cam_geometry(SOURCE, (4, 4, 3))  # cells of 8/3 voxels along i, the edge at 3 voxels
    fractions = segment_fractions(halves(), SOURCE, grid, labels=LABELS)
    assert fractions[0, :, 0, 0].tolist() == pytest.approx([1.0, 1 / 8, 0.0])
    assert fractions[1, :, 0, 0].tolist() == pytest.approx([0.0, 7 / 8, 1 / 4])


def test_a_large_label_map_is_read_slab_by_slab_to_the_same_shares() -> None:
    source = Geometry.from_parts(shape=(160, 160, 240), spacing_mm=(1, 1, 1))  # three slabs
    label_map = np.zeros(source.shape, dtype=np.uint8, order="F")
    label_map[:, :, 30:210] = 1
    fractions = segment_fractions(label_map, source, cam_geometry(source, (4, 1, 1)), labels=[1])
    assert fractions.flatten().tolist() == pytest.approx([0.5, 1.0, 1.0, 0.5], abs=1e-4)


def test_cells_outside_of_the_image_hold_nothing() -> None:
    padded = Geometry.from_parts(shape=(12, 4, 4), spacing_mm=(1, 1, 2), origin_lps=(8, -5, 3))
    fractions = segment_fractions(halves(), SOURCE, padded, labels=LABELS)
    assert fractions[:, :2].sum() == 0
    np.testing.assert_allclose(fractions[0, 2:5], 1.0, atol=1e-6)


@settings(deadline=None)
@given(order=st.permutations([0, 1, 2]), flips=st.tuples(*[st.booleans()] * 3))
def test_the_share_does_not_depend_on_the_order_of_the_source_axes(
    order: list[int], flips: tuple[bool, bool, bool]
) -> None:
    grid = cam_geometry(SOURCE, (2, 2, 4))
    label_map, affine = halves(), SOURCE.affine_lps.copy()
    for axis in np.flatnonzero(flips).tolist():
        label_map = np.flip(label_map, axis)
        affine[:3, 3] += affine[:3, axis] * (label_map.shape[axis] - 1)
        affine[:3, axis] *= -1
    label_map = label_map.transpose(order)
    affine[:3, :3] = affine[:3, order]
    turned = Geometry(shape=label_map.shape, affine_lps=affine)
    np.testing.assert_allclose(
        segment_fractions(label_map, turned, grid, labels=LABELS),
        segment_fractions(halves(), SOURCE, grid, labels=LABELS),
        atol=1e-6,
    )


def test_an_oblique_grid_is_refused() -> None:
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    oblique = Geometry.from_parts(shape=(8, 4, 4), spacing_mm=(1, 1, 2), direction=turn)
    with pytest.raises(ValueError, match="not parallel"):
        segment_fractions(halves(), SOURCE, oblique, labels=LABELS)


def test_energy_shares_are_those_of_the_map() -> None:
    grid = cam_geometry(SOURCE, (1, 1, 4))
    fractions = segment_fractions(halves(), SOURCE, grid, labels=LABELS)
    cam = Volume(array=np.array([0.25, 1.0, 0.5, 0.25]).reshape(4, 1, 1), geometry=grid)
    shares = energy_in_segments([cam], [fractions], schema=SCHEMA)
    assert shares == pytest.approx({"left": 0.375, "right": 0.5})


def test_a_model_without_segments_has_no_shares() -> None:
    grid = cam_geometry(SOURCE, (1, 1, 4))
    for label_map in (halves(), 0 * halves()):
        assert segment_fractions(label_map, SOURCE, grid, labels=[]).shape == (0, *grid.shape)


def test_energy_adds_up_over_the_volumes_of_a_study() -> None:
    grid = cam_geometry(SOURCE, (1, 1, 1))
    everywhere = np.full(SOURCE.shape, 1)
    full = segment_fractions(everywhere, SOURCE, grid, labels=LABELS)
    none = segment_fractions(0 * everywhere, SOURCE, grid, labels=LABELS)
    strong = Volume(array=np.full((1, 1, 1), 1.0), geometry=grid)
    weak = Volume(array=np.full((1, 1, 1), 0.25), geometry=grid)
    shares = energy_in_segments([strong, weak], [full, none], schema=SCHEMA)
    assert shares == pytest.approx({"left": 0.8, "right": 0.0})


def test_a_map_of_zeros_has_no_share_and_no_peak() -> None:
    cam = Volume(array=np.zeros(SOURCE.shape), geometry=SOURCE)
    fractions = segment_fractions(halves(), SOURCE, SOURCE, labels=LABELS)
    assert energy_in_segments([cam], [fractions], schema=SCHEMA) == {"left": 0.0, "right": 0.0}
    assert peak_lps(cam) is None


def test_the_peak_is_the_centre_of_the_highest_cell() -> None:
    array = np.zeros(SOURCE.shape)
    array[3, 1, 2] = 0.7
    assert peak_lps(Volume(array=array, geometry=SOURCE)) == (13.0, -4.0, 7.0)
