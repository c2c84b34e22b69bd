"""The map from a logit to a probability is monotone, or is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from medmtl.postprocess.calibration import Calibration

KNOTS = ((-1.0, 0.1), (0.0, 0.1), (2.0, 0.9))


def test_without_anything_it_is_the_sigmoid() -> None:
    logits = np.linspace(-5, 5, 11)
    np.testing.assert_array_equal(Calibration().apply(logits), expit(logits))
    np.testing.assert_array_equal(Calibration(2.0, 1.0).apply(logits), expit(2 * logits + 1))


def test_knots_are_joined_by_lines_and_flat_outside() -> None:
    found = Calibration(knots=KNOTS).apply([-9.0, -0.5, 0.0, 1.0, 2.0, 9.0])
    np.testing.assert_allclose(found, [0.1, 0.1, 0.1, 0.5, 0.9, 0.9])


@pytest.mark.parametrize(
    "knots",
    [
        ((0.0, 0.5), (1.0, 0.4)),
        ((1.0, 0.1), (0.0, 0.2)),
        ((0.0, 0.1), (0.0, 0.2)),
        ((0.0, 0.5), (1.0, 1.1)),
        ((0.0, -0.1), (1.0, 0.5)),
    ],
)
def test_knots_that_are_no_calibration_are_refused(knots: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="Knots must"):
        Calibration(knots=knots)


def test_a_scale_that_turns_the_order_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        Calibration(-1.0)
