"""nnU-Net's preprocessing: there and back, by numbers known on paper."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest

from medmtl.core.errors import InputRefusedError
from medmtl.core.geometry import Geometry
from medmtl.core.volume import Volume
from medmtl.transforms.plans import ChannelIntensity, PlansPreprocessing, Resampling, resample

NONE = (ChannelIntensity(scheme="none"),)


def volume(values: Any, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    array = np.asarray(values, dtype=np.float32)
    geometry = Geometry.from_parts(
        shape=array.shape, spacing_mm=spacing_mm, origin_lps=(0.0, 0.0, 0.0)
    )
    return Volume(id="image", array=array, geometry=geometry)


def noise(*shape: int) -> Any:
    return np.random.default_rng(1).uniform(1, 2, shape)


@pytest.mark.parametrize("orientation", ["source", "RAS"])
@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_labels_come_back_to_their_voxels(
    orientation: Literal["source", "RAS"], transpose: tuple[int, int, int]
) -> None:
    values = noise(5, 6, 7)
    values[:2] = 0  # is cropped away
    settings = PlansPreprocessing(
        orientation=orientation, transpose=transpose, spacing_mm=(1.0, 1.0, 1.0), channels=NONE
    )
    prepared = settings.apply(volume(values))
    assert prepared.array_cabc[0].size == 3 * 6 * 7
    back = prepared.whole_labels(prepared.on_source(prepared.array_cabc[0]))
    np.testing.assert_array_equal(back, values.astype(np.float32))


def test_axes_are_slices_first() -> None:
    settings = PlansPreprocessing(spacing_mm=(1.0, 1.0, 1.0), channels=NONE)
    assert settings.apply(volume(noise(5, 6, 7))).array_cabc[0].shape == (7, 6, 5)


def test_ras_turns_what_lies_as_lps() -> None:
    values = noise(3, 4, 5)
    settings = PlansPreprocessing(orientation="RAS", spacing_mm=(1.0, 1.0, 1.0), channels=NONE)
    found = settings.apply(volume(values)).array_cabc[0]
    np.testing.assert_array_equal(found, values[::-1, ::-1].T.astype(np.float32))


def test_two_spacings_leave_the_slices_alone() -> None:
    settings = PlansPreprocessing(spacing_mm=(2.0, 2.0), channels=NONE)
    found = settings.apply(volume(noise(8, 8, 3), (1.0, 1.0, 9.0)))
    assert found.array_cabc[0].shape == (3, 4, 4)
    assert found.target_mm == (9.0, 2.0, 2.0)


def test_a_hole_is_inside_and_a_border_of_zeros_is_cropped() -> None:
    values = noise(7, 7, 7)
    values[3, 3, 3] = 0
    values[0] = 0
    within = ChannelIntensity(scheme="z_score", is_within_nonzero=True)
    settings = PlansPreprocessing(spacing_mm=(1.0, 1.0, 1.0), channels=(within,))
    found = settings.apply(volume(values)).array_cabc[0]
    assert found.shape == (7, 7, 6)
    assert found.mean() == pytest.approx(0, abs=1e-5)
    assert found.std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        (ChannelIntensity(scheme="none"), [1, 2, 5]),
        (ChannelIntensity(scheme="rescale_to_01"), [0, 0.25, 1]),
        (ChannelIntensity(scheme="ct", low=0, high=4, mean=2, deviation=2), [-0.5, 0, 1]),
        (ChannelIntensity(scheme="z_score"), np.array([-5, -2, 7]) / np.sqrt(26)),
    ],
)
def test_intensities(channel: ChannelIntensity, expected: Any) -> None:
    image = np.array([1, 2, 5], dtype=np.float32)
    channel.apply(image, np.ones(3, dtype=bool))
    np.testing.assert_allclose(image, expected, rtol=1e-6)


def test_what_is_below_500_hu_is_air_of_a_ct_alone() -> None:
    wide = ChannelIntensity(scheme="ct", low=-1000, high=600, mean=-100, deviation=400)
    narrow = wide.model_copy(update={"low": -200.0})
    other = ChannelIntensity(scheme="z_score")
    settings = PlansPreprocessing(spacing_mm=(1, 1, 1), channels=(wide, narrow, other))
    assert settings.air == (-1.0, -0.25, -math.inf)


def test_a_line_stays_a_line_inside() -> None:
    """Voxel t of half the size lies at 2 t + 0.5 of the old one."""
    line = np.broadcast_to(np.arange(16.0), (1, 1, 16)).copy()
    found = resample(line, (1, 1, 8), Resampling(order=1), from_mm=(1, 1, 1), to_mm=(1, 1, 2))
    np.testing.assert_allclose(found[0, 0], 2 * np.arange(8) + 0.5)


def test_a_coarse_axis_takes_its_nearest_slice() -> None:
    """Slices 0 and 1 become 0 0 1 1: nothing is mixed between slices that are far apart."""
    values = np.stack([np.zeros((4, 4)), np.ones((4, 4))])
    data = Resampling(order=3)
    found = resample(values, (4, 4, 4), data, from_mm=(10, 1, 1), to_mm=(5, 1, 1))
    np.testing.assert_array_equal(found[:, 0, 0], [0, 0, 1, 1])
    together = Resampling(order=1, force_separate_z=False)
    mixed = resample(values, (4, 4, 4), together, from_mm=(10, 1, 1), to_mm=(5, 1, 1))
    np.testing.assert_allclose(mixed[:, 0, 0], [0, 0.25, 0.75, 1])
    tolerant = Resampling(order=1, anisotropy=10)  # a ratio of ten is not above ten
    same = resample(values, (4, 4, 4), tolerant, from_mm=(10, 1, 1), to_mm=(5, 1, 1))
    np.testing.assert_array_equal(same, mixed)


def test_a_spline_never_leaves_the_range_of_the_image() -> None:
    values = noise(6, 6, 6)
    found = resample(values, (11, 11, 11), Resampling(order=3), from_mm=(2, 2, 2), to_mm=(1, 1, 1))
    assert values.min() <= found.min()
    assert found.max() <= values.max()


@pytest.mark.parametrize(("value", "code"), [(0.0, "no-contrast"), (np.nan, "non-finite-values")])
def test_an_image_that_says_nothing_is_refused(value: float, code: str) -> None:
    settings = PlansPreprocessing(spacing_mm=(1.0, 1.0, 1.0), channels=NONE)
    with pytest.raises(InputRefusedError) as refused:
        settings.apply(volume(np.full((3, 3, 3), value)))
    assert refused.value.code == code
