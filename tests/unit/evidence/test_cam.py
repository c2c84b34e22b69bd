"""Formulas on numbers known on paper, and the grid of a coarse map."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.core.errors import MedmtlError
from medmtl.core.geometry import Geometry, points_to_space
from medmtl.evidence.cam import (
    CAM_METHODS,
    activation_map,
    cam_geometry,
    cam_volume,
    join_levels,
)

# Two channels on four voxels in a row: one that raises the logit and one that lowers it.
FEATURE = torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 1.0, 3.0, 0.0]]).reshape(2, 1, 1, 4)
GRADIENT = torch.tensor([[0.5, 0.5, 0.5, 0.5], [-0.25, -0.25, -0.25, -0.25]]).reshape(2, 1, 1, 4)


def test_gradcam_weighs_channels_by_their_mean_gradient() -> None:
    cam = activation_map(FEATURE, GRADIENT, method="gradcam")
    assert cam.flatten().tolist() == [0.5, 0.75, 0.0, 0.0]


def test_gradcam_plus_plus_follows_its_formula() -> None:
    # sum(A) = 3, g = 0.5: a = 0.25 / (0.5 + 3 * 0.125) = 2/7, w = 4 * 2/7 * 0.5 = 4/7.
    cam = activation_map(FEATURE, GRADIENT, method="gradcam++")
    assert cam.flatten().tolist() == pytest.approx([4 / 7, 8 / 7, 0.0, 0.0])


def test_gradcam_plus_plus_divides_by_no_zero_or_negative_number() -> None:
    feature = torch.tensor([-8.0, 0.5]).reshape(1, 1, 1, 2)
    gradient = torch.tensor([0.5, 0.0]).reshape(1, 1, 1, 2)
    cam = activation_map(feature, gradient, method="gradcam++")
    assert cam.flatten().tolist() == pytest.approx([0.0, 0.5 * 0.5 / 2.25])


def test_layercam_weighs_every_voxel_by_its_own_positive_gradient() -> None:
    gradient = GRADIENT.clone()
    gradient[0, 0, 0, 1] = -1.0
    cam = activation_map(FEATURE, gradient, method="layercam")
    assert cam.flatten().tolist() == [0.5, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("method", list(CAM_METHODS))
@settings(deadline=None)
@given(seed=st.integers(0, 1000), factor=st.floats(0.1, 10.0))
def test_a_map_is_never_negative_and_larger_features_give_a_larger_map(
    method: str, seed: int, factor: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    feature = torch.randn(3, 2, 3, 4, generator=generator)
    gradient = torch.randn(3, 2, 3, 4, generator=generator)
    cam = activation_map(feature, gradient, method=method)  # type: ignore[arg-type]
    assert cam.shape == (2, 3, 4)
    assert (cam >= 0).all()
    if method != "gradcam++":  # its weights depend on the features
        scaled = activation_map(feature * factor, gradient, method=method)  # type: ignore[arg-type]
        torch.testing.assert_close(scaled, cam * factor)


@pytest.mark.parametrize("method", list(CAM_METHODS))
def test_no_gradient_means_no_activation(method: str) -> None:
    cam = activation_map(FEATURE, torch.zeros_like(FEATURE), method=method)  # type: ignore[arg-type]
    assert not cam.any()


def test_infinite_features_are_an_error_with_advice() -> None:
    with pytest.raises(MedmtlError, match=r"not finite.*mixed precision"):
        activation_map(FEATURE * math.inf, GRADIENT, method="gradcam")


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(C, K, J, I\). Found \(2, 1, 1, 4\) and \(1, 1, 4\)"):
        activation_map(FEATURE, GRADIENT[0], method="gradcam")
    with pytest.raises(ValueError, match=r"gradcam.*Found 'scorecam'"):
        activation_map(FEATURE, GRADIENT, method="scorecam")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"same number of maps. Found \[1, 2\]"):
        join_levels([[FEATURE[0]], [FEATURE[0], FEATURE[0]]], [(1, 1, 4), (1, 1, 4)])


def test_levels_count_equally_whatever_their_scale() -> None:
    fine = torch.zeros(2, 4, 4)
    fine[0, 0, 0] = 5.0
    coarse = torch.zeros(1, 2, 2)
    coarse[0, 1, 1] = 1e-3
    (joined,) = join_levels([[fine, coarse]], [(2, 4, 4)])
    assert joined.shape == (2, 4, 4)
    assert joined[0, 0, 0] == pytest.approx(0.5)
    assert joined[0, 3, 3] == pytest.approx(0.5)


def test_volumes_of_a_study_stay_comparable() -> None:
    strong, weak = torch.full((1, 2, 2), 4.0), torch.full((1, 2, 2), 1.0)
    first, second = join_levels([[strong], [weak]], [(1, 2, 2), (1, 4, 4)])
    assert (first == 1).all()
    assert second.shape == (1, 4, 4)
    torch.testing.assert_close(second, torch.full((1, 4, 4), 0.25))


def test_a_level_of_zeros_has_no_say() -> None:
    (joined,) = join_levels([[torch.zeros(1, 2, 2), torch.ones(1, 2, 2)]], [(1, 2, 2)])
    assert (joined == 1).all()
    (nothing,) = join_levels([[torch.zeros(1, 2, 2)]], [(1, 2, 2)])
    assert not nothing.any()


def test_cells_of_a_coarse_map_tile_the_network_grid() -> None:
    angle = 0.3
    cos, sin = math.cos(angle), math.sin(angle)
    direction = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, -1]])
    network = Geometry.from_parts(
        shape=(32, 16, 6), spacing_mm=(1.5, 1.0, 8.0), origin_lps=(3, -2, 5), direction=direction
    )
    coarse = cam_geometry(network, (3, 4, 8))
    assert coarse.shape == (8, 4, 3)
    assert coarse.spacing_mm == pytest.approx((6.0, 4.0, 16.0))
    for corner in (0.0, 1.0):  # both ends of the extent are half a voxel outside of the centres
        here = points_to_space(network.affine_lps, [np.array(network.shape) * corner - 0.5])
        there = points_to_space(coarse.affine_lps, [np.array(coarse.shape) * corner - 0.5])
        np.testing.assert_allclose(here, there)


def test_a_map_becomes_a_volume_with_axes_i_j_k() -> None:
    network = Geometry.from_parts(shape=(8, 6, 4), spacing_mm=(1, 1, 2))
    cam = torch.zeros(2, 3, 4)
    cam[1, 2, 3] = 1.0
    volume = cam_volume(cam, network, volume_id="ed")
    assert volume.id == "ed"
    assert volume.array.dtype == np.float32
    assert volume.array[3, 2, 1] == 1.0
    assert volume.geometry.spacing_mm == (2.0, 2.0, 4.0)
