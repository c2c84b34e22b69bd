"""Result folders as `medmtl predict` leaves them, in milliseconds and without a model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.geometry import Geometry
from medmtl.core.volume import Volume
from medmtl.report.nifti import write_image, write_label_map

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SHA256 = "0" * 64


def finding(
    name: str, probability: float, *, threshold: float = 0.5, **further: Any
) -> dict[str, Any]:
    return {
        "name": name,
        "probability": probability,
        "threshold": threshold,
        "decision": probability >= threshold,
        "calibrated": True,
        "cam": {},
        "evidence": {"cam_energy_in_segments": {}, "measurements": []},
        **further,
    }


def case_record(
    case_id: str, *findings: dict[str, Any], flags: dict[str, str] | None = None, **further: Any
) -> dict[str, Any]:
    """The content of a case.json; flags are severities by code."""
    return {
        "schema_version": 1,
        "status": "done",
        "notice": "Research software, not a medical device.",
        "case_id": case_id,
        "model": {"name": "torso", "version": "1.0.0", "sha256": SHA256},
        "source": {
            "kind": "dicom",
            "study_uid": "2.25.1",
            "volumes": [{
                "id": "ct", "series_uid": "2.25.2", "path": "a/1.dcm", "shape_ijk": [8, 8, 8],
                "spacing_mm": [1.0, 1.0, 1.0], "axis_code": "LPS",
            }],
        },
        "segments": [],
        "measurements": [],
        "findings": list(findings),
        "quality": {
            "flags": [
                {"code": code, "severity": severity, "message": f"About {code}."}
                for code, severity in (flags or {}).items()
            ]
        },
        "files": {},
        "resume": {},
        "timings_s": {"total": 1.0},
        **further,
    }  # fmt: skip


def write_results(folder: Path, *records: dict[str, Any]) -> Path:
    """A result folder with these cases."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text("{}", encoding="utf-8")
    for record in records:
        write_case(folder, record)
    return folder


def write_case(folder: Path, record: dict[str, Any]) -> None:
    case = folder / record["case_id"]
    case.mkdir(exist_ok=True)
    (case / "case.json").write_text(json.dumps(record), encoding="utf-8")


LESION_CENTRE = (4.0, -6.0, 10.0)
"""LPS mm; the middle of the nodule of `write_seen_case`, and the peak of its map."""


def write_seen_case(folder: Path, case_id: str = "seen", *, name: str = "images") -> dict[str, Any]:
    """A NIfTI image below `folder/<name>`, and a case over it below `folder/results`.

    32 voxels of 2 mm each way around the origin; an organ of 12 voxels a side, in it a nodule of 3
    around LESION_CENTRE, where the map of the finding has its peak.
    """
    grid = Geometry.from_parts(
        shape=(32, 32, 32), spacing_mm=(2.0, 2.0, 2.0), origin_lps=(-32.0, -32.0, -32.0)
    )
    nodule = np.zeros(grid.shape, dtype=bool)
    nodule[17:20, 12:15, 20:23] = True
    label_map = np.zeros(grid.shape, dtype=np.uint8)
    label_map[10:22, 8:20, 14:26] = 1
    label_map[nodule] = 2
    activation = np.zeros(grid.shape, dtype=np.float32)
    activation[nodule], activation[18, 13, 21] = 0.5, 1.0
    (folder / name).mkdir(parents=True, exist_ok=True)
    image = label_map.astype(np.int16) * 50 - 100
    write_image(folder / name / f"{case_id}.nii.gz", Volume(image, grid))
    record = case_record(
        case_id,
        finding("nodule", 0.9, cam={"image": "image/cam_nodule.nii.gz"}),
        finding("effusion", 0.2),
        flags={"segment-cut-off": "warning"},
        source={
            "kind": "nifti", "study_uid": "",
            "volumes": [{"id": "image", "series_uid": "", "path": f"{case_id}.nii.gz",
                         **grid.as_json()}],
        },
        segments=[_segment(1, "lung", label_map), _segment(2, "nodule", label_map)],
    )  # fmt: skip
    results = write_results(folder / "results", record)
    (results / case_id / "image").mkdir()
    write_label_map(results / case_id / "image" / "segmentation.nii.gz", label_map, grid)
    cam = Volume(activation, grid)
    write_image(results / case_id / "image" / "cam_nodule.nii.gz", cam)
    return record


def _segment(label: int, name: str, label_map: NDArray[np.uint8]) -> dict[str, Any]:
    voxels = int((label_map == label).sum())
    return {"volume": "image", "label": label, "name": name, "volume_ml": voxels * 0.008,
            "voxels": voxels, "mean_intensity": 0.0}  # fmt: skip
