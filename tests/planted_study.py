"""A small CT study with an identity planted in it, for tests that look where it turns up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.dicom_factory import make_series

__all__ = ["SLICES", "write_study"]

SLICES = 12
_PERSON: dict[str, Any] = {
    "PatientName": "Planted^Person",
    "PatientID": "PLANTED-ID",
    "PatientBirthDate": "19700131",
    "StudyDate": "20200102",
    "StudyTime": "101112",
    "AccessionNumber": "PLANTED-ACC",
    "PatientSex": "F",
}


def write_study(folder: Path, study: str, *, seed: int = 0, **tags: Any) -> Path:
    """One series of `SLICES` files with a bright block in noise; the seed changes the noise."""
    stored = np.random.default_rng(seed).normal(-800, 60, (40, 36, SLICES)).astype(np.int16)
    stored[10:30, 8:28, 3:9] += 850
    make_series(folder, array=stored, study=study, name=study, **(_PERSON | tags))
    return folder
