"""Truth and answer side by side: the slice where they differ, the same colours, no distortion."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medmtl.core.geometry import Geometry
from medmtl.core.prediction import VolumePrediction
from medmtl.core.volume import Volume
from medmtl.report.evaluation_picture import comparison_png
from medmtl.report.panel import colour_of

SHAPE = (40, 32, 6)


def answer(
    labels: NDArray[np.uint8], *, spacing_mm: tuple[float, float, float]
) -> VolumePrediction:
    geometry = Geometry.from_parts(shape=SHAPE, spacing_mm=spacing_mm)
    return VolumePrediction(Volume(np.zeros(SHAPE, np.int16), geometry, modality="CT"), labels)


def colours(png: bytes) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]]]:
    """Colours in the left and in the right half."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    middle = pixels.shape[1] // 2
    halves = (pixels[:, :middle], pixels[:, middle:])
    left, right = ({tuple(row) for row in half.reshape(-1, 3).tolist()} for half in halves)
    return left, right


def near(found: set[tuple[int, ...]], label: int) -> bool:
    return any(np.abs(np.subtract(colour, colour_of(label))).max() <= 16 for colour in found)


def test_the_slice_that_differs_most_is_shown() -> None:
    truth, predicted = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    truth[10:20, 10:20, 1] = predicted[10:20, 10:20, 1] = 1
    truth[10:20, 10:20, 4] = 2  # missed
    shown = comparison_png([(answer(predicted, spacing_mm=(1, 1, 5)), truth)])
    left, right = colours(shown)
    assert near(left, 2)
    assert not near(right, 2)
    assert not near(left, 1)


def test_without_truth_or_masks_the_image_is_shown() -> None:
    empty = answer(np.zeros(SHAPE, np.uint8), spacing_mm=(1, 1, 1))
    for truth in (None, np.zeros(SHAPE, np.uint8)):
        picture = Image.open(io.BytesIO(comparison_png([(empty, truth), (empty, truth)])))
        assert picture.width > picture.height / 2 > 0


def test_a_report_of_dozens_stays_small() -> None:
    rng = np.random.default_rng(0)
    noise = answer(np.zeros(SHAPE, np.uint8), spacing_mm=(1, 1, 5))
    volume = noise.volume.with_array(rng.normal(0, 100, SHAPE).astype(np.int16))
    part = VolumePrediction(volume, noise.label_map)
    assert len(comparison_png([(part, part.label_map)] * 2)) < 150_000
