"""Splines by matrices are SciPy's own splines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import zoom

from medmtl.transforms.spline import spline_resize


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("own", "new"),
    [((9, 14, 20), (5, 7, 11)), ((7, 6, 9), (20, 13, 11)), ((8, 30, 5), (19, 11, 5)),
     ((3, 2, 1), (6, 5, 4)), ((17, 12), (9, 25))],
)  # fmt: skip
def test_the_values_are_those_of_scipy(
    own: tuple[int, ...], new: tuple[int, ...], order: int
) -> None:
    values = np.random.default_rng(0).normal(0, 100, own)
    factors = [1 / (a / b) for a, b in zip(own, new, strict=True)]
    expected = zoom(values, factors, order=order, mode="nearest", grid_mode=True)
    found = spline_resize(values, new, order=order)
    assert found.shape == new
    np.testing.assert_allclose(found, expected.clip(values.min(), values.max()), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_dtype_stays_and_nothing_goes_beyond_the_values(dtype: Any) -> None:
    values = np.random.default_rng(0).normal(0, 1, (6, 7, 8)).astype(dtype)
    found = spline_resize(values, (12, 5, 16), order=3)
    assert found.dtype == dtype
    assert values.min() <= found.min() < found.max() <= values.max()
