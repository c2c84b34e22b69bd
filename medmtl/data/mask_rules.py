"""What a mask must be to belong to its image: the one rule of training, evaluation and checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmtl.core.errors import InputRefusedError
from medmtl.core.geometry import corner_distance_mm

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from medmtl.core.geometry import Geometry

__all__ = ["grid_refusal", "label_refusal"]


def grid_refusal(
    mask: Geometry, image: Geometry, *, source: str, stage: str
) -> InputRefusedError | None:
    """Why a mask does not lie on its image: one shape, and corners 1 % of a voxel apart at most.

    Args:
        mask: Its grid.
        image: Grid of the image.
        source: The file of the mask, relative to the data root.
        stage: For the refusal.
    """
    if mask.is_close(image):
        return None
    if mask.shape != image.shape:
        found, expected = f"shape {mask.shape}", f"{image.shape}, the shape of its image"
    else:
        apart_mm = corner_distance_mm(mask.affine_lps, image.affine_lps, shape=image.shape)
        found = f"corners up to {apart_mm:.3g} mm away from those of its image"
        expected = f"less than {0.01 * min(image.spacing_mm):.3g} mm"
    return InputRefusedError(
        source,
        stage=stage,
        code="grid-differs",
        found=found,
        expected=expected,
        advice="Resample the mask onto the image with nearest neighbour, or correct the row.",
    )


def label_refusal(
    values: Iterable[float], known: Collection[int], *, source: str, stage: str
) -> InputRefusedError | None:
    """Why the values of a mask cannot be understood: the manifest names no such label.

    Args:
        values: Those that occur, each once.
        known: Labels of the manifest's segments; 0 is background.
        source: The file of the mask, relative to the data root.
        stage: For the refusal.
    """
    unknown = [f"{value:g}" for value in values if value != 0 and value not in known]
    if not unknown:
        return None
    labels = ", ".join(str(label) for label in sorted(known) if label)
    return InputRefusedError(
        source,
        stage=stage,
        code="unknown-label",
        found=f"label {', '.join([*unknown[:5], *(['...'] if len(unknown) > 5 else [])])}",
        expected=_short(f"0 and {labels}" if labels else "0"),
        advice="Add the segment to manifest.toml or correct the mask.",
    )


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
