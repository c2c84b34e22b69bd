"""The preprocessing is what it says in numbers, and comes back to within half a voxel."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medmtl.core.errors import InputRefusedError
from medmtl.core.geometry import Geometry, points_to_space
from medmtl.core.volume import Volume
from medmtl.transforms.points import points_to_network, points_to_source
from medmtl.transforms.preprocessing import (
    ForegroundCrop,
    Preprocessing,
    PreprocessingConfig,
    RobustZScore,
    WindowHU,
)

WINDOW = WindowHU(low_hu=-100, high_hu=100)
SIGNED_AXES = [
    np.eye(3)[:, list(order)] * signs
    for order in permutations(range(3))
    for signs in product((1.0, -1.0), repeat=3)
]


def rotation(axis: NDArray[Any], angle: float) -> NDArray[Any]:
    """Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Axial, sagittal, coronal, oblique and mirrored grids of both handednesses."""
    axes = draw(st.sampled_from(SIGNED_AXES))
    angle = draw(st.sampled_from([0.0, 0.1, 0.5, 0.7]))
    tilt = rotation(np.array([draw(st.floats(0.1, 1)), draw(st.floats(-1, 1)), 0.3]), angle)
    return Geometry.from_parts(
        shape=draw(st.tuples(*[st.integers(8, 20)] * 3)),
        spacing_mm=draw(st.tuples(*[st.floats(0.7, 3.0)] * 3)),
        origin_lps=draw(st.tuples(*[st.floats(-100, 100)] * 3)),
        direction=tilt @ axes,
    )


@st.composite
def configs(draw: st.DrawFn) -> PreprocessingConfig:
    spacing = st.one_of(st.none(), st.floats(0.8, 2.0))
    return PreprocessingConfig(
        orientation=draw(st.sampled_from(["LPS", "display"])),
        spacing_mm=draw(st.tuples(spacing, spacing, spacing)),
        intensity=WINDOW,
        crop=draw(st.sampled_from([None, ForegroundCrop(threshold=50, margin_mm=4)])),
        divisor=draw(st.sampled_from([(1, 1, 1), (8, 4, 2)])),
    )


def blob(geometry: Geometry) -> NDArray[Any]:
    """A box away from the border and the centre, 5 x 4 x 3 voxels."""
    mask = np.zeros(geometry.shape, dtype=np.uint8)
    mask[2:7, 3:7, 3:6] = 1
    return mask


@settings(max_examples=30, deadline=None, derandomize=True)
@given(geometry=geometries(), config=configs())
def test_points_and_masks_come_back_within_half_a_voxel(
    geometry: Geometry, config: PreprocessingConfig
) -> None:
    mask = blob(geometry)
    preprocessing = Preprocessing(config)
    prepared = preprocessing.apply(Volume(array=mask * 100.0, geometry=geometry))
    points = np.array([[0, 0, 0], [3.2, 4.9, 5.5], np.array(geometry.shape) - 1])

    on_network = points_to_network(points, prepared)
    in_space = points_to_space(prepared.geometry.affine_lps, on_network)
    np.testing.assert_allclose(in_space, points_to_space(geometry.affine_lps, points), atol=1e-6)
    np.testing.assert_allclose(points_to_source(on_network, prepared), points, atol=1e-6)

    back = prepared.restore_labels(preprocessing.apply_labels(mask, prepared))
    assert back.shape == geometry.shape
    assert back.dtype == np.uint8
    shift = np.argwhere(back).mean(axis=0) - np.argwhere(mask).mean(axis=0)
    # the border moves by at most half a voxel of the coarser of the two grids
    coarser = np.maximum(1.0, max(prepared.geometry.spacing_mm) / np.array(geometry.spacing_mm))
    assert (np.abs(shift) <= 0.5 * coarser).all()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(geometry=geometries(), orientation=st.sampled_from(["LPS", "display"]))
def test_without_resampling_everything_comes_back_exactly(
    geometry: Geometry, orientation: Literal["LPS", "display"]
) -> None:
    config = PreprocessingConfig(
        orientation=orientation,
        intensity=WINDOW,
        crop=ForegroundCrop(threshold=50, margin_mm=0),
        divisor=(5, 3, 4),
    )
    preprocessing = Preprocessing(config)
    mask = blob(geometry).astype(np.uint16) * 300
    prepared = preprocessing.apply(Volume(array=blob(geometry) * 100.0, geometry=geometry))
    back = prepared.restore_labels(preprocessing.apply_labels(mask, prepared))
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, mask)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(geometry=geometries(), config=configs())
def test_a_linear_ramp_in_space_stays_that_ramp(
    geometry: Geometry, config: PreprocessingConfig
) -> None:
    """Resampling must not shift the image: the value of a voxel tells where it is."""
    direction = np.array([0.2, -0.5, 0.7])
    index = np.argwhere(np.ones(geometry.shape, dtype=bool))
    ramp = (points_to_space(geometry.affine_lps, index) @ direction).reshape(geometry.shape)
    low, high = float(ramp.min()), float(ramp.max())
    window = WindowHU(low_hu=low, high_hu=high)
    config = config.model_copy(update={"intensity": window, "crop": None, "divisor": (1, 1, 1)})
    prepared = Preprocessing(config).apply(Volume(array=ramp, geometry=geometry))

    inner = np.argwhere(np.ones(prepared.geometry.shape, dtype=bool))
    on_source = points_to_source(inner, prepared)
    # linear interpolation (with smoothing over up to 3 voxels) is exact away from the border
    keep = ((on_source > 3) & (on_source < np.array(geometry.shape) - 4)).all(axis=1)
    expected = points_to_space(prepared.geometry.affine_lps, inner[keep]) @ direction
    seen = prepared.array_kji.transpose(2, 1, 0)[tuple(inner[keep].T)]
    # torch's smoothing filter moves the centre of mass by up to a tenth of a source voxel
    tenth = 0.1 * float(np.abs(direction @ geometry.affine_lps[:3, :3]).sum())
    np.testing.assert_allclose((seen + 1) / 2 * (high - low) + low, expected, atol=tenth)


def test_display_z_score_equals_an_independent_computation(rng: np.random.Generator) -> None:
    """The definition the shipped weights were trained with, written out in NumPy."""
    image = rng.normal(200, 60, size=(13, 10, 4)).astype(np.float32)
    geometry = Geometry.from_parts(shape=image.shape, spacing_mm=(1.6, 1.6, 10.0))
    config = PreprocessingConfig(
        orientation="display", spacing_mm=(1.25, 1.25, None), intensity=RobustZScore()
    )
    prepared = Preprocessing(config).apply(Volume(array=image, geometry=geometry))

    clipped = np.clip(image.astype(np.float64), *np.percentile(image, [0.5, 99.5]))
    for axis, size in ((0, 17), (1, 13)):  # 13 * 1.6 / 1.25 = 16.64, 10 * 1.6 / 1.25 = 12.8
        old = clipped.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        weight = (at - low).reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, old - 1)
        clipped = clipped.take(low, axis) * (1 - weight) + clipped.take(high, axis) * weight
    expected = (clipped - clipped.mean()) / clipped.std(ddof=1)
    np.testing.assert_allclose(prepared.array_kji, expected.transpose(2, 1, 0), atol=2e-5)


def test_thinning_smooths_first() -> None:
    """Stripes one voxel wide become their mean on a grid four times coarser, not a pattern."""
    stripes = np.tile([0.0, 100.0], 32)[:, None, None] * np.ones((1, 64, 2))
    geometry = Geometry.from_parts(shape=stripes.shape, spacing_mm=(0.5, 0.5, 5.0))
    config = PreprocessingConfig(
        spacing_mm=(2.0, 2.0, None), intensity=WindowHU(low_hu=0, high_hu=100)
    )
    prepared = Preprocessing(config).apply(Volume(array=stripes, geometry=geometry))
    np.testing.assert_allclose(prepared.array_kji[:, :, 1:-1], 0.0, atol=0.05)


def test_window_maps_to_minus_one_and_one_and_pads_with_the_minimum() -> None:
    array = np.array([-2000, -100, 0, 100, 3000], dtype=np.int16).reshape(5, 1, 1)
    geometry = Geometry.from_parts(shape=(5, 1, 1), spacing_mm=(1, 1, 1))
    config = PreprocessingConfig(intensity=WINDOW, divisor=(4, 2, 1))
    prepared = Preprocessing(config).apply(Volume(array=array, geometry=geometry))
    assert prepared.array_kji.shape == (1, 2, 8)
    assert prepared.array_kji.dtype == np.float32
    assert prepared.array_kji[0, 0].tolist() == [-1, -1, 0, 1, 1, -1, -1, -1]
    assert (prepared.array_kji[0, 1] == -1).all()
    assert prepared.geometry.shape == (8, 2, 1)
    assert prepared.content_geometry.shape == (5, 1, 1)


def test_crop_keeps_the_foreground_and_its_margin() -> None:
    array = np.full((30, 30, 30), -1000, dtype=np.int16)
    array[10:20, 12:18, 5:8] = 40
    geometry = Geometry.from_parts(shape=array.shape, spacing_mm=(1, 2, 3), origin_lps=(9, 9, 9))
    config = PreprocessingConfig(intensity=WINDOW, crop=ForegroundCrop(threshold=-500, margin_mm=4))
    prepared = Preprocessing(config).apply(Volume(array=array, geometry=geometry))
    assert prepared.geometry.shape == (18, 10, 7)
    assert prepared.geometry.origin_lps.tolist() == [9 + 6, 9 + 20, 9 + 9]


def test_an_empty_foreground_keeps_everything() -> None:
    geometry = Geometry.from_parts(shape=(4, 4, 4), spacing_mm=(1, 1, 1))
    config = PreprocessingConfig(intensity=WINDOW, crop=ForegroundCrop(threshold=0))
    prepared = Preprocessing(config).apply(Volume(array=np.full((4, 4, 4), -5), geometry=geometry))
    assert prepared.geometry.shape == (4, 4, 4)


def test_labels_equal_one_hot_argmax(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 4, size=(11, 9, 3)).astype(np.uint8)
    geometry = Geometry.from_parts(shape=labels.shape, spacing_mm=(1.6, 1.6, 8.0))
    config = PreprocessingConfig(spacing_mm=(1.25, 1.25, None), intensity=RobustZScore())
    preprocessing = Preprocessing(config)
    prepared = preprocessing.apply(Volume(array=rng.normal(size=labels.shape), geometry=geometry))
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels).long().permute(2, 1, 0), 4)
    resampled = torch.nn.functional.interpolate(
        one_hot.permute(0, 3, 1, 2).float(), size=prepared.array_kji.shape[1:], mode="bilinear"
    )
    np.testing.assert_array_equal(
        preprocessing.apply_labels(labels, prepared), resampled.argmax(1).numpy()
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_voxels_are_refused(value: float) -> None:
    array = np.zeros((3, 3, 3), dtype=np.float32)
    array[1, 1, 1] = value
    volume = Volume(array=array, geometry=Geometry(shape=(3, 3, 3), affine_lps=np.eye(4)))
    with pytest.raises(InputRefusedError, match=r"non-finite-values.*1 voxels"):
        Preprocessing(PreprocessingConfig(intensity=WINDOW)).apply(volume)


def test_a_blank_mr_volume_is_refused() -> None:
    volume = Volume(
        array=np.full((3, 3, 3), 7), geometry=Geometry(shape=(3, 3, 3), affine_lps=np.eye(4))
    )
    with pytest.raises(InputRefusedError, match="no-contrast"):
        Preprocessing(PreprocessingConfig(intensity=RobustZScore())).apply(volume)


def test_a_header_with_absurd_spacing_cannot_ask_for_terabytes() -> None:
    geometry = Geometry.from_parts(shape=(64, 64, 64), spacing_mm=(500, 500, 500))
    config = PreprocessingConfig(spacing_mm=(1, 1, 1), intensity=WINDOW)
    with pytest.raises(InputRefusedError, match="grid-too-large"):
        Preprocessing(config).apply(Volume(array=np.zeros((64, 64, 64)), geometry=geometry))


def test_big_endian_and_unsigned_storage_read_alike() -> None:
    values = np.arange(60).reshape(3, 4, 5)
    geometry = Geometry(shape=(3, 4, 5), affine_lps=np.eye(4))
    preprocessing = Preprocessing(PreprocessingConfig(intensity=RobustZScore()))
    seen = [
        preprocessing.apply(Volume(array=values.astype(dtype), geometry=geometry)).array_kji
        for dtype in (">i2", "<u2", np.uint8, np.float64)
    ]
    for other in seen[1:]:
        np.testing.assert_allclose(other, seen[0], atol=1e-6)
