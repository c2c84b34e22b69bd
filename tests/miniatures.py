"""Tiny NIfTI files for generated copies of public data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

__all__ = ["SHAPE", "image_values", "write_image", "write_mask"]

SHAPE = (6, 5, 4)


def image_values(seed: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.int16]:
    """Values between -1000 and 1000, others for each seed."""
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


def write_image(
    path: Path, values: NDArray[Any], *, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 2.0)
) -> Path:
    """A NIfTI file with both transforms set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, np.diag([*spacing_mm, 1.0]))
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    nib.save(image, path)
    return path


def write_mask(
    path: Path, *labels: int, spacing_mm: tuple[float, float, float] = (1, 1, 2)
) -> Path:
    """A mask in which the n-th voxel of the first column is the n-th label; 0 elsewhere."""
    values = np.zeros(SHAPE, dtype=np.uint8)
    values[: len(labels), 0, 0] = labels
    return write_image(path, values, spacing_mm=spacing_mm)
