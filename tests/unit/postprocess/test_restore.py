"""Restored label maps lie on the source grid and are the largest interpolated class."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from medmtl.core.geometry import Geometry
from medmtl.core.resample import SlabInterpolator
from medmtl.postprocess import cells, reach
from medmtl.postprocess.restore import label_dtype, restore_labels


def test_equals_argmax_of_whole_interpolated_volumes(rng: np.random.Generator) -> None:
    source = Geometry.from_parts(shape=(12, 10, 6), spacing_mm=(1, 1, 2))
    network = Geometry.from_parts(shape=(6, 5, 6), spacing_mm=(2, 2, 2), origin_lps=(0.5, 0.5, 0))
    logits = torch.from_numpy(rng.normal(size=(4, 6, 5, 6)))
    index = np.argwhere(np.ones(source.shape, dtype=bool)).T
    points = [(index[0] - 0.5) / 2, (index[1] - 0.5) / 2, index[2]]
    whole = [map_coordinates(c.numpy().T, points, order=1, mode="nearest") for c in logits]
    expected = np.argmax(whole, axis=0).reshape(source.shape)
    found = restore_labels(logits, network, source)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def every_class_everywhere(
    logits: np.ndarray, network: Geometry, source: Geometry, *, is_rounded: bool = False
) -> np.ndarray:
    """The former way: all classes on the whole source grid, and a running maximum."""
    dtype = np.float16 if is_rounded else np.float32
    i, j, k = network.shape
    classes = [
        SlabInterpolator(values[:k, :j, :i].T, network, source, outside=-np.inf)
        for values in logits
    ]
    labels = np.zeros(source.shape, np.uint8)
    for planes in classes[0].planes(max_voxels=500):
        best = classes[0].slab(planes).astype(dtype)
        for number, one in enumerate(classes[1:], start=1):
            candidate = one.slab(planes).astype(dtype)
            np.copyto(labels[:, :, planes], number, where=np.greater(candidate, best))
            np.maximum(best, candidate, out=best)
    return labels


SIZES = st.tuples(*[st.integers(1, 9)] * 3)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    classes=st.integers(1, 12),
    coarse=SIZES,
    fine=SIZES,
    padding=st.tuples(*[st.integers(0, 2)] * 3),
    order=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    shift=st.floats(-1.0, 1.0),
    kind=st.sampled_from(["noise", "few values, many ties", "blobs", "half precision"]),
    is_rounded=st.booleans(),
    band_voxels=st.sampled_from([1, 12, 2**15]),
    block_values=st.sampled_from([1, 300, 2**20]),
)
def test_every_voxel_is_that_of_the_former_way(
    seed: int, classes: int, coarse: tuple[int, int, int], fine: tuple[int, int, int],
    padding: tuple[int, int, int], order: list[int], signs: tuple[float, ...], shift: float,
    kind: str, is_rounded: bool, band_voxels: int, block_values: int,
) -> None:  # fmt: skip
    """Permuted, mirrored, shifted, finer and coarser grids; values that tie and that nearly tie.

    Whatever the parts in which the work is done.
    """
    rng = np.random.default_rng(seed)
    direction = np.eye(3)[:, order] * signs
    extent = np.array([9.0, 7.0, 11.0])
    network = Geometry.from_parts(shape=coarse, spacing_mm=(extent / coarse).tolist())
    spacing = extent[order] / fine
    corner = np.where(np.array(signs) > 0, 0.0, (np.array(fine) - 1) * spacing)
    origin = np.zeros(3)
    origin[order] = corner + shift * spacing
    source = Geometry.from_parts(
        shape=fine, spacing_mm=spacing.tolist(), origin_lps=origin.tolist(), direction=direction
    )
    shape = (classes, *(size + more for size, more in zip(coarse[::-1], padding, strict=True)))
    logits = rng.normal(size=shape).astype(np.float32)
    if kind == "few values, many ties":
        logits = logits.round() + rng.choice([0, 1e-7, 1e-6], shape).astype(np.float32)
    elif kind == "blobs":
        logits = np.cumsum(np.cumsum(logits, axis=1), axis=3) * np.float32(10)
    elif kind == "half precision":
        logits = (logits / 50).round(2).astype(np.float16) + np.float16(8)  # a few steps of 2^-7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reach, "_BAND_VOXELS", band_voxels)
        patch.setattr(cells, "_BLOCK_VALUES", block_values)
        found = restore_labels(logits, network, source, is_rounded=is_rounded)
    expected = every_class_everywhere(logits, network, source, is_rounded=is_rounded)
    np.testing.assert_array_equal(found, expected)


@given(
    values=st.lists(st.floats(width=16, allow_nan=False), min_size=1, max_size=20),
    has_nan=st.booleans(),
)
def test_half_precision_reaches_as_far_as_single(values: list[float], has_nan: bool) -> None:
    """Zeros of both signs, subnormal and infinite values among them; no numbers may be anything."""
    row = np.array(values, np.float16)
    if has_nan:
        row[0] = -np.nan
    reaches = []
    for dtype in (np.float16, np.float32):
        volume = row.astype(dtype)[None, None, None]
        reaches.append(reach.Reach.empty(volume))
        reaches[-1].fill(volume, 0)
        reaches[-1].settle()
    half, single = reaches
    np.testing.assert_array_equal(half.highest, single.highest)
    np.testing.assert_array_equal(half.lowest, single.lowest)
    assert half.highest.item() == (np.inf if has_nan else max(values))


def test_a_class_that_wins_at_no_corner_can_win_between_them() -> None:
    """Second everywhere at the corners, first in the middle: no label of a corner may be copied."""
    grid = Geometry.from_parts(shape=(2, 1, 1), spacing_mm=(4, 1, 1))
    fine = Geometry.from_parts(shape=(5, 1, 1), spacing_mm=(1, 1, 1))
    logits = np.array([[10, -10], [-10, 10], [2, 2]], np.float32).reshape(3, 1, 1, 2)
    assert restore_labels(logits, grid, fine)[:, 0, 0].tolist() == [0, 0, 2, 1, 1]


@pytest.mark.parametrize(("is_rounded", "middle"), [(False, 1), (True, 0)])
def test_what_is_equal_in_half_precision_is_a_tie_where_it_is_rounded(
    *, is_rounded: bool, middle: int
) -> None:
    """Half precision knows 8 and 8 + 2^-7, but not the 8 + 2^-8 between them."""
    grid = Geometry.from_parts(shape=(2, 1, 1), spacing_mm=(2, 1, 1))
    fine = Geometry.from_parts(shape=(3, 1, 1), spacing_mm=(1, 1, 1))
    logits = np.array([[8, 8], [8, 8 + 2**-7]], np.float16).reshape(2, 1, 1, 2)
    labels = restore_labels(logits, grid, fine, is_rounded=is_rounded)
    assert labels[:, 0, 0].tolist() == [0, middle, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("strange", [np.nan, -np.nan])
def test_values_that_are_no_numbers_change_nothing_elsewhere(
    strange: float, dtype: type[np.floating]
) -> None:
    grid = Geometry.from_parts(shape=(6, 1, 1), spacing_mm=(1, 1, 1))
    logits = np.zeros((2, 1, 1, 6), dtype)
    logits[1, 0, 0] = [1, 1, -1, -1, strange, -1]
    assert restore_labels(logits, grid, grid)[:4, 0, 0].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("spacing", [0.8, 1.0, 1.7])
def test_a_ball_comes_back_as_a_ball(spacing: float) -> None:
    """Signed distance to a ball as logits: the volume on paper is 4/3 pi r^3."""
    size = round(40 / spacing)
    network = Geometry.from_parts(
        shape=(size, size, size), spacing_mm=(spacing,) * 3, origin_lps=(-20, -20, -20)
    )
    k, j, i = np.meshgrid(*[np.arange(size) * spacing - 20] * 3, indexing="ij")
    distance = 12.0 - np.sqrt(i**2 + j**2 + k**2)
    source = Geometry.from_parts(
        shape=(50, 60, 30), spacing_mm=(0.8, 0.7, 1.5), origin_lps=(-20, 21, -22),
        direction=np.diag([1.0, -1.0, 1.0]),
    )  # fmt: skip
    labels = restore_labels(np.stack([-distance, distance]), network, source)
    volume_mm3 = np.count_nonzero(labels) * source.voxel_mm3
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.02)
    centre = np.argwhere(labels).mean(axis=0) @ source.affine_lps[:3, :3].T + source.origin_lps
    np.testing.assert_allclose(centre, 0.0, atol=0.35)


def test_outside_of_the_network_grid_is_background() -> None:
    network = Geometry.from_parts(shape=(4, 4, 4), spacing_mm=(1, 1, 1), origin_lps=(3, 3, 3))
    source = Geometry.from_parts(shape=(10, 10, 10), spacing_mm=(1, 1, 1))
    labels = restore_labels(
        torch.stack([torch.zeros(4, 4, 4), torch.ones(4, 4, 4)]), network, source
    )
    assert labels.sum() == 64
    assert labels[3:7, 3:7, 3:7].all()


def test_padding_past_the_grid_is_ignored() -> None:
    grid = Geometry.from_parts(shape=(3, 2, 1), spacing_mm=(1, 1, 1))
    logits = torch.zeros(2, 4, 4, 4)
    logits[1, :1, :2, :3] = 1.0
    logits[0, 1:] = 9.0
    assert restore_labels(logits, grid, grid).all()


def test_named_labels_and_sixteen_bits() -> None:
    grid = Geometry.from_parts(shape=(2, 1, 1), spacing_mm=(1, 1, 1))
    logits = torch.tensor([[0.0, 0.0], [0.0, 1.0]]).reshape(2, 1, 1, 2).bfloat16()
    labels = restore_labels(logits, grid, grid, labels=(0, 512))
    assert labels.dtype == np.uint16
    assert labels[:, 0, 0].tolist() == [0, 512]  # a tie goes to background


def test_memory_does_not_grow_with_the_classes(rng: np.random.Generator) -> None:
    network = Geometry.from_parts(shape=(8, 8, 8), spacing_mm=(16, 16, 16))
    source = Geometry.from_parts(shape=(128, 128, 128), spacing_mm=(1, 1, 1))
    peaks = []
    for classes in (3, 40):
        logits = rng.normal(size=(classes, 8, 8, 8)).astype(np.float32)
        tracemalloc.start()
        restore_labels(logits, network, source)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_logits_smaller_than_the_grid_are_refused() -> None:
    grid = Geometry.from_parts(shape=(3, 3, 3), spacing_mm=(1, 1, 1))
    with pytest.raises(ValueError, match="do not cover"):
        restore_labels(np.zeros((2, 3, 3, 2)), grid, grid)
    with pytest.raises(ValueError, match="3 labels"):
        restore_labels(np.zeros((2, 3, 3, 3)), grid, grid, labels=(0, 1, 2))


def test_label_dtype() -> None:
    assert label_dtype(255) is np.uint8
    assert label_dtype(256) is np.uint16
    with pytest.raises(ValueError, match="65535"):
        label_dtype(65536)
