"""The image and label map that the torso is painted on, one structure after another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from medmtl.phantom.fields import body_points, smooth_noise
from medmtl.phantom.torso_plan import TORSO_SCHEMA

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.phantom.fields import Field, Mask, Points
    from medmtl.phantom.torso_plan import TorsoPlan

__all__ = ["LABELS", "Canvas"]

LABELS = {segment.name: segment.label for segment in TORSO_SCHEMA.segments}
_AIR_HU = -1000.0


@dataclass(eq=False)
class Canvas:
    """Paint here; the one mutable thing of the generator.

    Attributes:
        plan: The body that is being painted.
        geometry: The grid.
        points: Body coordinates of every voxel, mm.
        wobbles: Smooth fields that roughen organ surfaces, each of spread about one.
        hu: Image so far.
        label_map: Labels so far.
        regions: Masks that later structures need, by name.
        rng: For everything that is drawn while painting.
    """

    plan: TorsoPlan
    geometry: Geometry
    points: Points
    wobbles: tuple[Field, ...]
    rng: np.random.Generator
    hu: Field = field(init=False)
    label_map: NDArray[np.uint8] = field(init=False)
    regions: dict[str, Mask] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start with air everywhere."""
        self.hu = np.full(self.geometry.shape, _AIR_HU, dtype=np.float32)
        self.label_map = np.zeros(self.geometry.shape, dtype=np.uint8)

    @classmethod
    def blank(cls, plan: TorsoPlan, geometry: Geometry, *, seed: int) -> Canvas:
        """An empty canvas in the pose of `plan`."""
        shape_rng = np.random.default_rng([seed, 2])
        points = body_points(
            geometry,
            angles_deg=plan.angles_deg,
            shift_mm=plan.shift_mm,
            scale=plan.scale,
            wobble_mm=2.5,
            rng=shape_rng,
        )
        wobbles = tuple(
            smooth_noise(geometry, step_mm=step, rng=shape_rng) for step in (45.0, 32.0, 20.0)
        )
        return cls(plan, geometry, points, wobbles, np.random.default_rng([seed, 3]))

    def paint(self, mask: Mask, hu: float | Field, label: str | None = None) -> None:
        """Replace what was there; without a label the voxels become background."""
        self.hu[mask] = hu[mask] if isinstance(hu, np.ndarray) else np.float32(hu)
        self.label_map[mask] = LABELS[label] if label else 0

    def textured(self, hu: float, *, spread_hu: float) -> Field:
        """A density that varies smoothly by `spread_hu`."""
        return np.asarray(np.float32(hu) + np.float32(spread_hu) * self.wobbles[2])

    def rough(self, shape: Field, *, amount: float) -> Field:
        """A shape field with an irregular surface; `amount` is a share of the radius."""
        mix = self.rng.uniform(-1, 1, len(self.wobbles)).astype(np.float32)
        out = shape.copy()
        for weight, wobble in zip(mix, self.wobbles, strict=True):
            out += np.float32(amount) * weight * wobble
        return out

    def is_label(self, name: str) -> Mask:
        """Voxels that carry a segment's label now."""
        return np.asarray(self.label_map == LABELS[name])

    def count_of_ml(self, volume_ml: float) -> int:
        """How many voxels make a volume."""
        return round(volume_ml * 1000.0 / self.geometry.voxel_mm3)
