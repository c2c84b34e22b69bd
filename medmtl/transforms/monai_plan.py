"""Preprocessing of a MONAI bundle: a fixed set of its transforms with literal arguments.

The transforms are MONAI's own, built by explicit class; a name outside the table does not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monai.transforms.compose import Compose

__all__ = ["MONAI_STEPS", "MonaiPreprocessing", "MonaiStep", "MonaiWindow"]

IMAGE = "image"
"""Key of the dictionary that the transforms work on."""


class _Kind(NamedTuple):
    """What an argument takes, in words and as a type."""

    words: str
    type: TypeAdapter[Any]


def _kind(words: str, type_: Any) -> _Kind:
    return _Kind(words, TypeAdapter(type_, config=ConfigDict(strict=True)))


def _three_axes(codes: str) -> str:
    if sorted(_AXIS.get(code, "") for code in codes) != ["x", "y", "z"]:
        raise ValueError
    return codes


_AXIS = {"R": "x", "L": "x", "A": "y", "P": "y", "S": "z", "I": "z"}
_Size: TypeAlias = Annotated[FiniteFloat, Field(gt=0)]
_Percentile: TypeAlias = Annotated[FiniteFloat, Field(ge=0, le=100)]
_Sizes: TypeAlias = Annotated[list[_Size], Field(min_length=1, max_length=3)]

_YES_NO = _kind("true or false", bool)
_NUMBER = _kind("a number", FiniteFloat)
_NUMBERS = _kind("numbers", FiniteFloat | list[FiniteFloat])
_PERCENTILE = _kind("a number from 0 to 100", _Percentile)
_AXES = _kind(
    "one of R or L, of A or P, and of S or I",
    Annotated[str, AfterValidator(_three_axes)],
)
_SIZES = _kind("positive numbers", _Size | _Sizes)
_VOXELS = _kind(
    "one or three numbers of voxels",
    NonNegativeInt | Annotated[list[NonNegativeInt], Field(min_length=3, max_length=3)],
)
_MULTIPLES = _kind(
    "one or three positive whole numbers",
    PositiveInt | Annotated[list[PositiveInt], Field(min_length=3, max_length=3)],
)
_INTERPOLATION = _kind(
    "bilinear, nearest or the order of a spline", Literal["bilinear", "nearest", 0, 1, 2, 3, 4, 5]
)
_BORDER = _kind("border, zeros or reflection", Literal["border", "zeros", "reflection"])

MONAI_STEPS: Mapping[str, Mapping[str, _Kind]] = {
    "Orientation": {"axcodes": _AXES},
    "Spacing": {
        "pixdim": _SIZES,
        "mode": _INTERPOLATION,
        "padding_mode": _BORDER,
        **dict.fromkeys(("diagonal", "align_corners", "scale_extent"), _YES_NO),
    },
    "ScaleIntensityRange": {
        **dict.fromkeys(("a_min", "a_max", "b_min", "b_max"), _NUMBER),
        "clip": _YES_NO,
    },
    "ScaleIntensityRangePercentiles": {
        **dict.fromkeys(("lower", "upper"), _PERCENTILE),
        **dict.fromkeys(("b_min", "b_max"), _NUMBER),
        **dict.fromkeys(("clip", "relative", "channel_wise"), _YES_NO),
    },
    "ScaleIntensity": {
        **dict.fromkeys(("minv", "maxv", "factor"), _NUMBER),
        "channel_wise": _YES_NO,
    },
    "NormalizeIntensity": {
        **dict.fromkeys(("subtrahend", "divisor"), _NUMBERS),
        **dict.fromkeys(("nonzero", "channel_wise"), _YES_NO),
    },
    "CropForeground": {"margin": _VOXELS, "allow_smaller": _YES_NO, "k_divisible": _MULTIPLES},
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
        if unknown := sorted(set(self.arguments) - set(known)):
            raise ValueError(f"{self.transform} has no literal argument {', '.join(unknown)}")
        for name, value in self.arguments.items():
            try:
                known[name].type.validate_python(value)
            except ValidationError as error:
                raise ValueError(
                    f"{self.transform} takes {known[name].words} for {name}, not {value!r:.60}"
                ) from error
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
    """MONAI's sliding window, with what it puts around an image that is smaller."""

    roi_size: tuple[PositiveInt, PositiveInt, PositiveInt]
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25
    mode: Literal["constant", "gaussian"] = "constant"
    sigma_scale: _Size = 0.125
    padding_mode: Literal["constant", "replicate"] = "constant"
    cval: FiniteFloat = 0.0

    @property
    def arguments(self) -> dict[str, Any]:
        """What MONAI's window takes of it, besides the overlap."""
        return self.model_dump(exclude={"overlap"})


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
