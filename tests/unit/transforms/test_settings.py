"""Settings are strict, hash the same everywhere and survive TOML-safe plain types."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from medmtl.transforms.settings import (
    ForegroundCrop,
    PreprocessingConfig,
    RobustZScore,
    WindowHU,
    config_hash,
)

CT = PreprocessingConfig(
    spacing_mm=(3.0, 3.0, None),
    intensity=WindowHU(low_hu=-1000, high_hu=1000),
    crop=ForegroundCrop(threshold=-300, margin_mm=5),
    divisor=(8, 8, 4),
)
MR = PreprocessingConfig(orientation="display", intensity=RobustZScore())


@pytest.mark.parametrize("config", [CT, MR])
def test_plain_types_round_trip(config: PreprocessingConfig) -> None:
    plain = config.to_plain()
    assert "None" not in repr(plain)
    assert PreprocessingConfig.model_validate(plain) == config
    assert config_hash(PreprocessingConfig.model_validate(plain)) == config_hash(config)


def test_source_spacing_is_written_as_a_word() -> None:
    assert CT.to_plain()["spacing_mm"] == [3.0, 3.0, "source"]


def test_hash_changes_with_any_setting() -> None:
    changed = CT.model_copy(update={"divisor": (8, 8, 8)})
    assert len(config_hash(CT)) == 64
    assert config_hash(changed) != config_hash(CT)


@pytest.mark.parametrize(
    "wrong",
    [
        {"intensity": {"name": "window_hu", "low_hu": 5, "high_hu": 5}},
        {"intensity": {"name": "robust_z_score", "low_percentile": 60, "high_percentile": 50}},
        {"intensity": {"name": "guess"}},
        {"intensity": {"name": "robust_z_score"}, "spacing_mm": (0, 1, 1)},
        {"intensity": {"name": "robust_z_score"}, "divisor": (0, 1, 1)},
        {"intensity": {"name": "robust_z_score"}, "spacing": (1, 1, 1)},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PreprocessingConfig.model_validate(wrong)
