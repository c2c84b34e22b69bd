"""Generated studies with known truth: torso CT and cardiac cine MR, for demonstration and tests.

Example:
    >>> from medmtl.phantom import generate_torso
    >>> torso = generate_torso(7, spacing_mm=(8, 8, 8), findings={"renal_cyst": True})
    >>> torso.findings["renal_cyst"], torso.volumes_ml["renal_cyst"] > 0
    (True, True)
"""

from __future__ import annotations

from medmtl.phantom.cine import CINE_SCHEMA, CinePhantom, generate_cine
from medmtl.phantom.dicom_header import StudyUids
from medmtl.phantom.dicom_study import write_cine_study, write_torso_study
from medmtl.phantom.heart_plan import CINE_GROUPS, HeartPlan, body_surface_area_m2
from medmtl.phantom.torso import TorsoPhantom, generate_torso, measure_cardiothoracic_ratio
from medmtl.phantom.torso_lesions import Lesion
from medmtl.phantom.torso_plan import (
    CARDIOTHORACIC_RATIO_LIMIT,
    SPLEEN_LIMIT_ML,
    TORSO_SCHEMA,
    TorsoPlan,
)
from medmtl.phantom.truth import cine_truth, torso_truth

__all__ = [
    "CARDIOTHORACIC_RATIO_LIMIT",
    "CINE_GROUPS",
    "CINE_SCHEMA",
    "SPLEEN_LIMIT_ML",
    "TORSO_SCHEMA",
    "CinePhantom",
    "HeartPlan",
    "Lesion",
    "StudyUids",
    "TorsoPhantom",
    "TorsoPlan",
    "body_surface_area_m2",
    "cine_truth",
    "generate_cine",
    "generate_torso",
    "measure_cardiothoracic_ratio",
    "torso_truth",
    "write_cine_study",
    "write_torso_study",
]
