"""The cardiothoracic ratio of a heart of 15 cm in a chest of 30 cm is one half."""

from __future__ import annotations

import numpy as np
import pytest

from medmtl.core.geometry import Geometry
from medmtl.core.labels import LabelSchema, SegmentSpec
from medmtl.core.prediction import VolumePrediction
from medmtl.core.volume import Volume
from medmtl.postprocess.torso import torso_measurements

SCHEMA = LabelSchema(
    segments=(
        SegmentSpec(1, "lung"),
        SegmentSpec(2, "heart"),
        SegmentSpec(3, "pleural_effusion", is_lesion=True),
    )
)


def chest(order: tuple[int, int, int] = (0, 1, 2), *, lung: int = 1) -> VolumePrediction:
    labels = np.zeros((80, 20, 20), dtype=np.uint8)  # 5 mm voxels
    labels[10:70, 5:15, 5:15] = lung  # 300 mm
    labels[25:55, 5:15, 5:10] = 2  # 150 mm
    labels = labels.transpose(order)
    direction = np.eye(3)[:, list(order)]
    grid = Geometry.from_parts(shape=labels.shape, spacing_mm=(5, 5, 5), direction=direction)
    return VolumePrediction(Volume(array=labels, geometry=grid), labels)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_ratio_of_a_heart_half_as_wide_as_the_chest(order: tuple[int, int, int]) -> None:
    found = {m.name: m for m in torso_measurements({"image": chest(order)}, SCHEMA)}
    assert found["cardiothoracic_ratio"].value == pytest.approx(0.5)
    assert found["heart_volume"].value == pytest.approx(30 * 10 * 5 * 0.125)
    assert found["heart_volume"].source == "image:heart"
    assert found["pleural_effusion_volume"].value == 0.0


def test_effusion_belongs_to_the_thorax() -> None:
    prediction = chest()
    labels = prediction.label_map.copy()
    labels[10:20][labels[10:20] == 1] = 3
    filled = VolumePrediction(prediction.volume, labels)
    found = {m.name: m.value for m in torso_measurements({"image": filled}, SCHEMA)}
    assert found["cardiothoracic_ratio"] == pytest.approx(0.5)


def test_without_lungs_or_heart_there_is_no_ratio() -> None:
    no_lung = {m.name: m.value for m in torso_measurements({"image": chest(lung=0)}, SCHEMA)}
    assert no_lung["cardiothoracic_ratio"] is None
    prediction = chest()
    labels = np.where(prediction.label_map == 2, 1, prediction.label_map).astype(np.uint8)
    no_heart = torso_measurements({"image": VolumePrediction(prediction.volume, labels)}, SCHEMA)
    assert {m.name: m.value for m in no_heart}["cardiothoracic_ratio"] is None


def test_no_volume_no_measurement() -> None:
    assert torso_measurements({}, SCHEMA) == ()
