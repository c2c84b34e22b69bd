"""A 512x512x300 CT of a torso phantom with the air of a scanner's square field around it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medmtl.core.geometry import Geometry
from medmtl.phantom import generate_torso
from medmtl.phantom.dicom_study import write_torso_study

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.phantom.torso import TorsoPhantom

__all__ = ["SPACING_MM", "squared", "write_torso_ct"]

SPACING_MM = (0.78125, 0.78125, 1.28)
"""400 mm in 512 columns, 384 mm in 300 slices."""
QUICK_SPACING_MM, QUICK_BOX = (6.25, 6.25, 6.4), (slice(21, 43), slice(21, 43), slice(20, 40))
_SEED = 7100
_AIR_HU, _NOISE_HU = -1000, 12.0


def write_torso_ct(folder: Path, *, is_quick: bool = False) -> None:
    """Write the phantom as a DICOM series of square slices; only its middle where it is quick."""
    phantom = squared(
        generate_torso(_SEED, spacing_mm=QUICK_SPACING_MM if is_quick else SPACING_MM)
    )
    if is_quick:
        volume = phantom.volume
        part = replace(
            volume, array=volume.array[QUICK_BOX], geometry=volume.geometry.crop(QUICK_BOX)
        )
        phantom = replace(phantom, volume=part)
    write_torso_study(folder, phantom, seed=_SEED)


def squared(phantom: TorsoPhantom) -> TorsoPhantom:
    """With rows of noisy air in front and behind, until there are as many as columns."""
    array, geometry = phantom.volume.array, phantom.volume.geometry
    i, j, k = geometry.shape
    front = (i - j) // 2
    noise = np.random.default_rng(_SEED).normal(_AIR_HU, _NOISE_HU, (i, i, k))
    wide = np.clip(np.round(noise), -1024, None).astype(np.int16)
    wide[:, front : front + j] = array
    origin = geometry.affine_lps @ [0, -front, 0, 1]
    square = Geometry.from_parts(
        shape=(i, i, k), spacing_mm=geometry.spacing_mm, origin_lps=origin[:3].tolist()
    )
    return replace(phantom, volume=replace(phantom.volume, array=wide, geometry=square))
