"""How much a study may cost: the operating points of a bundle.

"balanced" is what a bundle was calibrated and measured at, and what is done without being asked.
"fast" and "best" stand in the bundle, with what they cost and give in its card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from medmtl.inference.uncertainty_views import View

if TYPE_CHECKING:
    from medmtl.transforms.settings import PreprocessingConfig

__all__ = ["SHIFTS", "SPEEDS", "Mirror", "OperatingPoint"]

SPEEDS = ("fast", "balanced", "best")

SHIFTS = tuple(
    View(f"shifted by {shift}", shift_voxels=shift) for shift in ((4, 0), (-4, 0), (0, 4), (0, -4))
)


class OperatingPoint(BaseModel):
    """What one speed changes.

    Attributes:
        spacing_factor: Voxels of the network grid are this much larger; a side that the source
            gives stays.
        overlap: Share that neighbouring tiles of a large grid have in common.
        flips: Axes (i, j, k) of the network grid along which a mirrored view is added; only for a
            network that was trained on mirrored images.
        shifts: Views that are added, moved by whole voxels in the plane: the first of `SHIFTS`.
            Turned views are interpolated twice, which cost `torso-ct-phantom` 0.01 of mean Dice.
        precision: In which a GPU computes; a CPU does it in float32 whatever this says.
        compiler: Of the network on a GPU: torch's inductor, or CUDA graphs of its own kernels; each
            size of a tile is compiled at its first use. A CPU compiles nothing.
        backend: Taken where the user leaves the choice; "int8" where the network was quantised.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spacing_factor: Annotated[float, Field(ge=1, le=3)] = 1.0
    overlap: Annotated[float, Field(ge=0, le=0.75)] = 0.25
    flips: tuple[Literal["i", "j", "k"], ...] = ()
    shifts: Annotated[int, Field(ge=0, le=4)] = 0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compiler: Literal["none", "inductor", "cudagraphs"] = "none"
    backend: Literal["auto", "openvino", "int8", "torch"] = "auto"

    def preprocessing(self, config: PreprocessingConfig) -> PreprocessingConfig:
        """The bundle's preprocessing, on a coarser grid where this point asks for one."""
        if self.spacing_factor == 1:
            return config
        spacing = [None if mm is None else mm * self.spacing_factor for mm in config.spacing_mm]
        return config.model_copy(update={"spacing_mm": tuple(spacing)})

    def further_views(self) -> list[View | Mirror]:
        """All views beside the image itself."""
        return [*(Mirror(axis) for axis in self.flips), *SHIFTS[: self.shifts]]


@dataclass(frozen=True)
class Mirror:
    """A view mirrored along one axis of the network grid."""

    axis: Literal["i", "j", "k"]
