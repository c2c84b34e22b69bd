"""Generated studies with known truth: torso CT and cardiac cine MR, for demonstration and tests.

Example:
    >>> from medmtl.phantom import generate_torso
    >>> torso = generate_torso(7, spacing_mm=(8, 8, 8), findings={"renal_cyst": True})
    >>> torso.findings["renal_cyst"], torso.volumes_ml["renal_cyst"] > 0
    (True, True)
"""

from __future__ import annotations

from medmtl.phantom.torso import TorsoPhantom, generate_torso, measure_cardiothoracic_ratio
from medmtl.phantom.torso_lesions import Lesion
from medmtl.phantom.torso_plan import CARDIOTHORACIC_RATIO_LIMIT, SPLEEN_LIMIT_ML, TORSO_SCHEMA

__all__ = [
    "CARDIOTHORACIC_RATIO_LIMIT",
    "SPLEEN_LIMIT_ML",
    "TORSO_SCHEMA",
    "Lesion",
    "TorsoPhantom",
    "generate_torso",
    "measure_cardiothoracic_ratio",
]
