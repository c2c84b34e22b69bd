"""Slab by slab the masks say what they say as a whole."""

from __future__ import annotations

import pytest
import torch

from medmtl.networks import mask_reading as module
from medmtl.networks.mask_reading import read_masks
from medmtl.networks.measurements import TorsoMeasurements

MEASURE = TorsoMeasurements(("lung", "heart"))
SPACING_MM = torch.tensor([[(4.0, 2.0, 1.0)]])


def logits() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(1, 3, 12, 8, 60) * 4


@pytest.mark.parametrize("values", [1, 3 * 4 * 8 * 60, 2**26])
def test_the_thickness_of_a_slab_changes_nothing(
    values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._SLAB_VALUES, "cpu", values)
    reading = read_masks(logits(), grid=(6, 4, 15), measure=MEASURE)
    probabilities = logits().softmax(dim=1)
    assert reading.coarse is not None
    assert reading.sums is not None
    blocks = probabilities.reshape(1, 3, 6, 2, 4, 2, 15, 4).mean(dim=(3, 5, 7))
    torch.testing.assert_close(reading.coarse, blocks)
    torch.testing.assert_close(
        MEASURE.finish(reading.sums, SPACING_MM), MEASURE([probabilities], SPACING_MM, {})
    )


def test_only_what_was_asked_for_is_read() -> None:
    neither = read_masks(logits(), grid=None, measure=None)
    assert neither.coarse is None
    assert neither.sums is None
    assert read_masks(logits(), grid=None, measure=MEASURE).coarse is None


def test_a_grid_that_does_not_divide_the_logits_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of the grid"):
        read_masks(logits(), grid=(5, 4, 15), measure=None)
