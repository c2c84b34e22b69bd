"""Every file of one case, case.json last: its presence says that the case is whole."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from medmtl.core.durable import durable_file
from medmtl.inference.case_store import CASE_FILE
from medmtl.inference.write_dicom import dicom_results
from medmtl.report.case_json import as_json_bytes, case_record
from medmtl.report.nifti import write_activation_map, write_label_map
from medmtl.report.snapshot import write_preview

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from medmtl.core.prediction import Prediction, VolumePrediction
    from medmtl.core.study import Study

__all__ = ["ALL_FORMATS", "DEFAULT_FORMATS", "FORMATS", "write_case"]

DEFAULT_FORMATS = ("nifti", "json", "png")
"""What is written unless asked otherwise; "json" always is: it proves that a case is whole."""
ALL_FORMATS = (*DEFAULT_FORMATS, "seg", "sr", "pm")
"""What "all" means. RTSTRUCT says with less what SEG says, so it is written where it is named."""
FORMATS = (*ALL_FORMATS, "rtstruct")
"""What can be written; "seg-labelmap" in place of "seg" writes a label map segmentation."""

_MAPS_AT_ONCE = 2
"""Activation maps written at a time: each is interpolated by one thread and packed by others."""


def write_case(
    folder: Path,
    study: Study,
    prediction: Prediction,
    *,
    formats: Collection[str],
    resume: Mapping[str, str],
    read_s: float,
) -> dict[str, float]:
    """Write one case into a new folder and return its seconds per stage.

    Args:
        folder: Does not exist yet; made here.
        study: The study that was analysed.
        prediction: The answer.
        formats: Of FORMATS. The DICOM ones are left out with a flag where there is no DICOM source.
        resume: Stored in case.json, see `CaseStore.is_finished`.
        read_s: Seconds that reading the volumes took.

    Raises:
        OSError: If a file cannot be written.
        InputRefusedError: If a DICOM source that must be cited is not there any more.
    """
    start_s = time.perf_counter()
    dicom, prediction = dicom_results(study, prediction, formats=formats)
    folder.mkdir()
    cam_files: dict[str, dict[str, str]] = {}
    for part in prediction.volumes:
        (folder / part.volume.id).mkdir()
        if "nifti" in formats:
            _write_nifti(folder, part, prediction, cam_files)
        if "png" in formats:
            write_preview(folder / part.volume.id / "preview.png", study.case_id, prediction, part)
        dicom.write(folder / part.volume.id, part, prediction)
    timings_s = {"read": read_s, **prediction.timings_s}
    timings_s.pop("total", None)
    timings_s["write"] = time.perf_counter() - start_s
    timings_s["total"] = sum(timings_s.values())
    record = case_record(
        study,
        prediction,
        cam_files=cam_files,
        files=_sizes(folder),
        resume=resume,
        timings_s=timings_s,
    )
    with durable_file(folder / CASE_FILE) as stream:
        stream.write(as_json_bytes(record))
    return timings_s


def _write_nifti(
    folder: Path,
    part: VolumePrediction,
    prediction: Prediction,
    cam_files: dict[str, dict[str, str]],
) -> None:
    volume_id, geometry = part.volume.id, part.volume.geometry
    with ThreadPoolExecutor(_MAPS_AT_ONCE, thread_name_prefix="medmtl-maps") as pool:
        writing = []
        for finding in prediction.findings:
            cam = finding.cams.get(volume_id)
            if cam is None:
                continue
            name = f"{volume_id}/cam_{finding.name}.nii.gz"
            writing.append(pool.submit(write_activation_map, folder / name, cam, geometry))
            cam_files.setdefault(finding.name, {})[volume_id] = name
        write_label_map(folder / volume_id / "segmentation.nii.gz", part.label_map, geometry)
        for one in writing:
            one.result()


def _sizes(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
