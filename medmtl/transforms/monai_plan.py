"""Preprocessing of a MONAI bundle: a fixed set of its transforms with literal arguments.

The transforms are MONAI's own, built by explicit class; a name outside the table does not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveInt, model_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monai.transforms.compose import Compose

__all__ = ["MONAI_STEPS", "MonaiPreprocessing", "MonaiStep", "MonaiWindow"]

IMAGE = "image"
"""Key of the dictionary that the transforms work on."""

MONAI_STEPS: Mapping[str, frozenset[str]] = {
    "Orientation": frozenset({"axcodes"}),
    "Spacing": frozenset(
        {"pixdim", "diagonal", "mode", "padding_mode", "align_corners", "scale_extent"}
    ),
    "ScaleIntensityRange": frozenset({"a_min", "a_max", "b_min", "b_max", "clip"}),
    "ScaleIntensityRangePercentiles": frozenset(
        {"lower", "upper", "b_min", "b_max", "clip", "relative", "channel_wise"}
    ),
    "ScaleIntensity": frozenset({"minv", "maxv", "factor", "channel_wise"}),
    "NormalizeIntensity": frozenset({"subtrahend", "divisor", "nonzero", "channel_wise"}),
    "CropForeground": frozenset({"margin", "allow_smaller", "k_divisible"}),
}
"""Literal arguments by name; the classes are those of `_class_of`."""

_MORE: Mapping[str, Mapping[str, Any]] = {
    "CropForeground": {"source_key": IMAGE},
    "Orientation": {"labels": None},  # axis names of the image's own space, which is RAS
}

StepName: TypeAlias = Literal[
    "Orientation", "Spacing", "ScaleIntensityRange", "ScaleIntensityRangePercentiles",
    "ScaleIntensity", "NormalizeIntensity", "CropForeground",
]  # fmt: skip


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MonaiStep(_Settings):
    """One transform of the image."""

    transform: StepName
    arguments: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _knows_every_argument(self) -> MonaiStep:
        known = MONAI_STEPS[self.transform]
        if unknown := sorted(set(self.arguments) - known):
            raise ValueError(f"{self.transform} has no literal argument {', '.join(unknown)}")
        return self

    def build(self) -> Any:
        """The transform for the image."""
        more = _MORE.get(self.transform, {})
        return _class_of(self.transform)(keys=IMAGE, **more, **self.arguments)


def _class_of(name: StepName) -> Any:
    """MONAI's transform of dictionaries; half a second that bundles of medmtl need not wait for."""
    from monai.transforms.croppad.dictionary import CropForegroundd
    from monai.transforms.intensity.dictionary import (
        NormalizeIntensityd,
        ScaleIntensityd,
        ScaleIntensityRanged,
        ScaleIntensityRangePercentilesd,
    )
    from monai.transforms.spatial.dictionary import Orientationd, Spacingd

    classes: Mapping[StepName, Any] = {
        "Orientation": Orientationd,
        "Spacing": Spacingd,
        "ScaleIntensityRange": ScaleIntensityRanged,
        "ScaleIntensityRangePercentiles": ScaleIntensityRangePercentilesd,
        "ScaleIntensity": ScaleIntensityd,
        "NormalizeIntensity": NormalizeIntensityd,
        "CropForeground": CropForegroundd,
    }
    return classes[name]


class MonaiWindow(_Settings):
    """MONAI's sliding window; without `roi_size` the whole image goes in at once."""

    roi_size: tuple[PositiveInt, PositiveInt, PositiveInt]
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25
    mode: Literal["constant", "gaussian"] = "constant"


class MonaiPreprocessing(_Settings):
    """The preprocessing of an imported MONAI bundle.

    Attributes:
        steps: Transforms in their order.
        window: The sliding window.
        inverse: How the answer is brought back to the source grid.
    """

    name: Literal["monai"] = "monai"
    steps: tuple[MonaiStep, ...]
    window: MonaiWindow
    inverse: Literal["linear", "nearest"] = "linear"

    def build(self) -> Compose:
        """All transforms; `inverse` undoes the spatial ones."""
        from monai.transforms.compose import Compose  # see `_class_of`

        return Compose([step.build() for step in self.steps])
