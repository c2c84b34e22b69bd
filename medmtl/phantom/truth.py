"""What is true of a generated study, ready for `truth.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.phantom.cine import CINE_SCHEMA

if TYPE_CHECKING:
    from medmtl.phantom.cine import CinePhantom
    from medmtl.phantom.torso import TorsoPhantom

__all__ = ["cine_truth", "torso_truth"]

# NOR is none of them.
_FINDING_OF_GROUP = {
    "DCM": "dilated_cardiomyopathy",
    "HCM": "hypertrophic_cardiomyopathy",
    "MINF": "myocardial_infarction",
    "RV": "abnormal_right_ventricle",
}


def torso_truth(phantom: TorsoPhantom) -> dict[str, Any]:
    """Findings, lesions (LPS mm), volumes and the cardiothoracic ratio."""
    return {
        "kind": "torso-ct",
        "findings": phantom.findings,
        "lesions": [
            {
                "finding": lesion.finding,
                "centre_lps_mm": [round(value, 3) for value in lesion.centre_lps_mm],
                "radius_mm": round(lesion.radius_mm, 3),
            }
            for lesion in phantom.lesions
        ],
        "volumes_ml": {name: round(ml, 3) for name, ml in phantom.volumes_ml.items()},
        "cardiothoracic_ratio": round(phantom.cardiothoracic_ratio, 4),
        **phantom.volume.geometry.as_json(),
    }


def cine_truth(phantom: CinePhantom) -> dict[str, Any]:
    """Group and findings, ED and ES phase (from 0), and volumes of every phase."""
    geometry = phantom.volumes[0].geometry
    volumes_ml = {
        segment.name: [
            round(int(np.count_nonzero(labels == segment.label)) * geometry.voxel_mm3 / 1000, 3)
            for labels in phantom.label_maps
        ]
        for segment in CINE_SCHEMA.segments
    }
    return {
        "kind": "cardiac-mr",
        "group": phantom.plan.group,
        "findings": {
            name: phantom.plan.group == group for group, name in _FINDING_OF_GROUP.items()
        },
        "ed_phase": phantom.ed_phase,
        "es_phase": phantom.es_phase,
        "volumes_ml": volumes_ml,
        "height_cm": phantom.plan.height_cm,
        "weight_kg": phantom.plan.weight_kg,
        **geometry.as_json(),
    }
