"""Generated torsos and hearts as DICOM studies (CT Image Storage, MR Image Storage)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom.uid import CTImageStorage, MRImageStorage

from medmtl.phantom.dicom_header import (
    Patient,
    StudyUids,
    image_header,
    place_slice,
    stable_uid,
    write,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

    from medmtl.phantom.cine import CinePhantom
    from medmtl.phantom.torso import TorsoPhantom

__all__ = ["write_cine_study", "write_torso_study"]

_HU_OFFSET = 1024


def _uids(*parts: object) -> StudyUids:
    return StudyUids(
        study_uid=stable_uid("study", *parts),
        series_uid=stable_uid("series", *parts),
        frame_of_reference_uid=stable_uid("frame of reference", *parts),
    )


def write_torso_study(folder: Path, phantom: TorsoPhantom, *, seed: int) -> StudyUids:
    """Write one CT series, a file per slice; stored values are HU + 1024.

    Args:
        folder: Where the files go; made if absent.
        phantom: What to write.
        seed: The seed it was generated from, for its UIDs and its patient code.
    """
    geometry, plan = phantom.volume.geometry, phantom.plan
    uids = _uids("torso-ct", seed, geometry.shape, geometry.spacing_mm)
    patient = Patient(f"TORSO{seed:06d}", plan.sex, plan.age_years)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(geometry.shape[2]):
        header = image_header(
            CTImageStorage, uids=uids, patient=patient, instance=k + 1, modality="CT"
        )
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.BodyPartExamined = "CHESTABDOMEN"
        place_slice(header, geometry, k=k, slice_thickness_mm=geometry.spacing_mm[2])
        header.KVP = "120"
        header.RescaleIntercept, header.RescaleSlope = str(-_HU_OFFSET), "1"
        header.RescaleType = "HU"
        header.WindowCenter, header.WindowWidth = "40", "400"
        stored = phantom.volume.array[:, :, k].astype(np.int32) + _HU_OFFSET
        write(folder / f"slice_{k + 1:04d}.dcm", header, stored.astype(np.uint16))
    return uids


def write_cine_study(folder: Path, phantom: CinePhantom, *, seed: int) -> StudyUids:
    """Write one MR cine series, a file per slice and phase, told apart by trigger time.

    Args:
        folder: Where the files go; made if absent.
        phantom: What to write.
        seed: The seed it was generated from, for its UIDs and its patient code.
    """
    plan = phantom.plan
    phases = len(phantom.volumes)
    uids = _uids("cardiac-mr", plan.group, phases, seed)
    patient = Patient(f"HEART{seed:06d}", plan.sex, plan.age_years, plan.height_cm, plan.weight_kg)
    folder.mkdir(parents=True, exist_ok=True)
    for phase, volume in enumerate(phantom.volumes):
        for k in range(volume.geometry.shape[2]):
            header = image_header(
                MRImageStorage, uids=uids, patient=patient,
                instance=k * phases + phase + 1, modality="MR",
            )  # fmt: skip
            place_slice(header, volume.geometry, k=k, slice_thickness_mm=phantom.slice_thickness_mm)
            _describe_cine(header, phantom, phase=phase)
            path = folder / f"slice_{k + 1:02d}_phase_{phase + 1:02d}.dcm"
            write(path, header, volume.array[:, :, k])
    return uids


def _describe_cine(header: Dataset, phantom: CinePhantom, *, phase: int) -> None:
    """MR and cardiac attributes (PS3.3 C.8.3.1, C.7.6.18) of a balanced steady-state cine."""
    phases, beat_ms = len(phantom.volumes), phantom.plan.beat_ms
    header.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    header.BodyPartExamined = "HEART"
    header.ScanningSequence, header.SequenceVariant = "GR", "SS"
    header.ScanOptions = "CG"
    header.MRAcquisitionType = "2D"
    header.RepetitionTime, header.EchoTime, header.EchoTrainLength = "3.0", "1.5", 1
    header.FlipAngle = "50"
    header.MagneticFieldStrength = "1.5"
    header.TriggerTime = f"{phase * beat_ms / phases:.3f}"
    header.NominalInterval = round(beat_ms)
    header.HeartRate = round(60000 / beat_ms)
    header.CardiacNumberOfImages = phases
    brightest = float(np.percentile(phantom.volumes[0].array, 99))
    header.WindowCenter = f"{brightest / 2:.1f}"
    header.WindowWidth = f"{max(brightest, 1.0):.1f}"
