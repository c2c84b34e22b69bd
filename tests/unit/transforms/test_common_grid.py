"""Channels on the grid of the first: exact where it is on paper, refused where it is unsafe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medmtl.core.errors import InputRefusedError
from medmtl.core.geometry import Geometry
from medmtl.core.volume import Volume
from medmtl.transforms.common_grid import on_first_grid

NAMES = ["T1", "FLAIR"]


def volume(values: Any, *, frame: str = "1.2", **parts: Any) -> Volume:
    array = np.asarray(values, dtype=np.float32)
    geometry = Geometry.from_parts(
        shape=array.shape, **{"spacing_mm": (1.0, 1.0, 1.0), "origin_lps": (0.0, 0.0, 0.0)} | parts
    )
    return Volume(id="image", array=array, geometry=geometry, frame_of_reference_uid=frame)


def ramp(shape: tuple[int, int, int], step: float = 1.0, start: float = 0.0) -> Any:
    """The x coordinate in mm."""
    return np.broadcast_to((start + step * np.arange(shape[0]))[:, None, None], shape)


def test_one_grid_is_taken_as_it_is() -> None:
    one, two = volume(ramp((6, 5, 4))), volume(np.ones((6, 5, 4)), frame="")
    arrays, flags = on_first_grid([one, two], NAMES)
    assert arrays[1] is two.array
    assert not flags


def test_another_grid_is_interpolated_and_said() -> None:
    """A linear field is the same on every grid: inside the centres it comes back exactly."""
    first = volume(np.zeros((9, 4, 4)))
    other = volume(ramp((5, 4, 4), step=2.0), spacing_mm=(2.0, 1.0, 1.0))
    arrays, (flag,) = on_first_grid([first, other], NAMES)
    np.testing.assert_allclose(arrays[1], ramp((9, 4, 4)), atol=1e-6)
    assert (flag.code, flag.severity) == ("channel-resampled", "info")
    assert "FLAIR" in flag.message


def test_a_turned_grid_is_followed() -> None:
    """A quarter turn about z: the field along x stands along the other's first axis, mirrored."""
    first = volume(np.zeros((5, 5, 4)))
    turned = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    along_j = np.broadcast_to((4 - np.arange(5.0))[None, :, None], (5, 5, 4))
    other = volume(along_j, direction=turned, origin_lps=(4.0, 0.0, 0.0))
    arrays, _ = on_first_grid([first, other], NAMES)
    np.testing.assert_allclose(arrays[1], ramp((5, 5, 4)), atol=1e-5)


def test_where_it_does_not_reach_it_is_at_its_lowest() -> None:
    first = volume(np.zeros((10, 4, 4)))
    arrays, (flag,) = on_first_grid([first, volume(ramp((7, 4, 4), start=-3.0))], NAMES)
    np.testing.assert_array_equal(arrays[1][7:], -3.0)
    assert flag.severity == "warning"
    assert "70.0%" in flag.message


@pytest.mark.parametrize(
    ("other", "code"),
    [
        (volume(np.zeros((6, 5, 4)), frame="9.9"), "channels-unrelated"),
        (volume(np.zeros((5, 5, 4)), frame=""), "channels-unrelated"),
        (volume(np.zeros((5, 5, 4)), origin_lps=(4.0, 0.0, 0.0)), "channels-apart"),
    ],
)
def test_what_cannot_be_related_is_refused(other: Volume, code: str) -> None:
    with pytest.raises(InputRefusedError) as refused:
        on_first_grid([volume(np.zeros((6, 5, 4))), other], NAMES)
    assert refused.value.code == code
