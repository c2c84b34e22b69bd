"""End diastole and end systole of pulsating discs, found by a network that only thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medmtl.core.errors import InputRefusedError
from medmtl.core.geometry import Geometry
from medmtl.core.volume import Volume
from medmtl.inference.phases import choose_phases
from medmtl.transforms.preprocessing import Preprocessing
from medmtl.transforms.settings import PreprocessingConfig, WindowHU

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.networks.joint import JointNet

GEOMETRY = Geometry.from_parts(shape=(64, 56, 6), spacing_mm=(2.0, 2.0, 8.0))
PREPROCESSING = Preprocessing(
    PreprocessingConfig(intensity=WindowHU(low_hu=0, high_hu=100), divisor=(4, 4, 1))
)
CAVITY = 2


class ThresholdNet(nn.Module):
    """Class 1 (wall) above 0, class 2 (cavity) above 0.6 of the normalised intensity."""

    divisor = (1, 4, 4)

    def context(self, image_bckji: Tensor) -> Tensor:
        return image_bckji

    def encode_and_decode(self, stem_bckji: Tensor) -> tuple[list[Tensor], Tensor]:
        x = stem_bckji
        return [x], torch.cat([torch.zeros_like(x), 10 * x, 30 * x - 12], dim=1)


def heart(radius: float, *, spot: bool = False) -> Volume:
    """A cavity of 100 in a wall of 60, and maybe a bright spot far away."""
    i, j = np.indices(GEOMETRY.shape[:2])
    distance = np.hypot(i - 22, j - 24)
    plane = np.where(distance < radius, 100.0, np.where(distance < radius + 3, 60.0, 10.0))
    if spot:
        plane[58:, 48:] = 100.0
    return Volume(np.repeat(plane[:, :, None], GEOMETRY.shape[2], axis=2), GEOMETRY, id="cine")


def choose(phases: Sequence[Volume]) -> tuple[int, int, NDArray[np.float64]]:
    net = cast("JointNet", ThresholdNet())
    return choose_phases(net, PREPROCESSING, phases, class_index=CAVITY, device=torch.device("cpu"))


def true_ml(phase: Volume) -> float:
    return float((phase.array == 100).sum()) * GEOMETRY.voxel_mm3 / 1000


RADII = [7, 8, 9, 10, 9, 7, 5, 4, 5, 6]


@pytest.mark.parametrize("shift", range(len(RADII)))
def test_the_largest_and_the_smallest_phase_wherever_the_cycle_starts(shift: int) -> None:
    phases = [heart(radius) for radius in np.roll(RADII, shift)]
    ed, es, curve_ml = choose(phases)
    assert (ed, es) == ((3 + shift) % len(RADII), (7 + shift) % len(RADII))
    np.testing.assert_allclose(curve_ml, [true_ml(phase) for phase in phases])


@pytest.mark.parametrize("radii", [(10, 6), (6, 10)])
def test_two_phases_in_either_order(radii: tuple[int, int]) -> None:
    ed, es, _ = choose([heart(radius) for radius in radii])
    assert (radii[ed], radii[es]) == (10, 6)


def test_one_odd_phase_does_not_win_against_its_neighbours() -> None:
    radii = [8, 10, 10, 10, 8, 6, 5, 4, 10.2, 4, 5, 6]
    ed, _, _ = choose([heart(radius) for radius in radii])
    assert ed == 2


def test_what_lies_far_from_the_heart_of_the_first_phase_is_not_counted() -> None:
    phases = [heart(radius, spot=number > 3) for number, radius in enumerate(RADII)]
    ed, es, curve_ml = choose(phases)
    assert (ed, es) == (3, 7)
    assert curve_ml[7] == pytest.approx(true_ml(heart(4)))


def test_an_image_without_a_heart_is_refused() -> None:
    with pytest.raises(InputRefusedError) as caught:
        choose([heart(0.5)] * 6)
    assert caught.value.code == "heart-not-found"
    assert "0.2 mL" in caught.value.found
    assert "5 mL" in caught.value.expected
    assert "short-axis" in caught.value.advice
