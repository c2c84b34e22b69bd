"""File names of NIfTI images."""

from __future__ import annotations

import re

__all__ = ["SUFFIX", "is_nifti_name"]

SUFFIX = re.compile(r"\.nii(\.gz)?\Z", re.IGNORECASE)


def is_nifti_name(name: str) -> bool:
    """Whether a file name ends in .nii or .nii.gz."""
    return SUFFIX.search(name) is not None
