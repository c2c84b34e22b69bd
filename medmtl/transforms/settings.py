"""The settings of preprocessing, as stored in a model bundle, and their hash."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_serializer,
    field_validator,
    model_validator,
)

__all__ = [
    "ForegroundCrop",
    "Intensity",
    "PreprocessingConfig",
    "RobustZScore",
    "WindowHU",
    "config_hash",
]

SpacingMm = tuple[PositiveFloat | None, PositiveFloat | None, PositiveFloat | None]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WindowHU(_Settings):
    """Clip to `low_hu`..`high_hu` and scale linearly to -1..1 (CT)."""

    name: Literal["window_hu"] = "window_hu"
    low_hu: float
    high_hu: float

    @model_validator(mode="after")
    def _ordered(self) -> WindowHU:
        if not self.low_hu < self.high_hu:
            raise ValueError(f"low_hu {self.low_hu} must be below high_hu {self.high_hu}")
        return self


class RobustZScore(_Settings):
    """Clip to two percentiles of the volume, then zero mean and unit deviation (MR)."""

    name: Literal["robust_z_score"] = "robust_z_score"
    low_percentile: float = Field(default=0.5, ge=0, lt=100)
    high_percentile: float = Field(default=99.5, gt=0, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> RobustZScore:
        if not self.low_percentile < self.high_percentile:
            raise ValueError("low_percentile must be below high_percentile")
        return self


Intensity = Annotated[WindowHU | RobustZScore, Field(discriminator="name")]


class ForegroundCrop(_Settings):
    """Crop to the box of the voxels above `threshold` (native units), grown by `margin_mm`."""

    threshold: float
    margin_mm: NonNegativeFloat = 10.0


class PreprocessingConfig(_Settings):
    """What happens to a volume before the network, in training and inference alike.

    Attributes:
        orientation: "LPS": axes permuted and mirrored to point left, posterior, superior.
            "display": as a radiologist sees short-axis slices, see `medmtl.transforms.orient`.
        spacing_mm: Voxel size along the oriented axes (i, j, k); None (in TOML "source") keeps
            that of the source.
        intensity: Normalisation.
        crop: Foreground crop, None for none.
        divisor: The grid (i, j, k) is padded at its end to a multiple of this.
    """

    orientation: Literal["LPS", "display"] = "LPS"
    spacing_mm: SpacingMm = (None, None, None)
    intensity: Intensity
    crop: ForegroundCrop | None = None
    divisor: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 1, 1)

    @field_validator("spacing_mm", mode="before")
    @classmethod
    def _source_means_none(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple(None if item == "source" else item for item in value)
        return value

    @field_serializer("spacing_mm", when_used="json")
    def _none_means_source(self, value: SpacingMm) -> list[float | str]:
        return ["source" if item is None else item for item in value]  # TOML has no null

    def to_plain(self) -> dict[str, Any]:
        """Plain types only, without None, so that JSON and TOML can store it."""
        return self.model_dump(mode="json", exclude_none=True)


def config_hash(config: PreprocessingConfig) -> str:
    """SHA-256 of the canonical JSON; equal settings have equal hashes on every machine."""
    text = json.dumps(config.to_plain(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
