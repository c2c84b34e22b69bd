"""Structures of TotalSegmentator's other tasks, and of its classes without a side, with codes.

Codes as in the authors' toolkit (totalsegmentator_snomed_mapping.csv), by names in lower case.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from medmtl.core.labels import LEFT, RIGHT, Code
from medmtl.data.builders.totalsegmentator_classes import TOTAL_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KNOWN_CODES", "KNOWN_LESIONS"]

_STRUCTURES = {
    "body_extremities": ("66019005", "Limb"),
    "body_trunc": ("22943007", "Trunk"),
    "carpal": ("83936004", "Carpus"),
    "coronary_arteries": ("41801008", "Coronary artery"),
    "face": ("89545001", "Face"),
    "fibula": ("87342007", "Fibula"),
    "heart_atrium_left": ("82471001", "Left atrium"),
    "heart_atrium_right": ("73829009", "Right atrium"),
    "heart_myocardium": ("74281007", "Myocardium"),
    "heart_ventricle_left": ("87878005", "Left ventricle of heart"),
    "heart_ventricle_right": ("53085002", "Right ventricle of heart"),
    "liver_vessels": ("59820001", "Blood vessel"),
    "lung_pleural": ("3120008", "Pleural membrane"),
    "lung_trachea_bronchia": ("110726009", "Trachea and bronchus"),
    "lung_vessels": ("59820001", "Blood vessel"),
    "metacarpal": ("36455000", "Metacarpal bones"),
    "metatarsal": ("53884002", "Metatarsal"),
    "patella": ("64234005", "Patella"),
    "phalanges_feet": ("28641004", "Phalanx structure"),
    "phalanges_hand": ("28641004", "Phalanx structure"),
    "pulmonary_artery": ("81040000", "Pulmonary artery"),
    "radius": ("62413002", "Radius"),
    "ribs": ("113197003", "Rib"),
    "skeletal_muscle": ("127954009", "Skeletal muscle"),
    "tarsal": ("108371006", "Tarsal bones"),
    "tibia": ("12611008", "Tibia"),
    "ulna": ("23416004", "Ulna"),
    "vertebrae_body": ("3572006", "Vertebral body"),
    "vertebrae_cervical": ("51282000", "Vertebra"),
    "vertebrae_lumbar": ("51282000", "Vertebra"),
    "vertebrae_thoracic": ("51282000", "Vertebra"),
}
_LESIONS = {
    "intracerebral_hemorrhage": ("50960005", "Hemorrhage"),
    "liver_tumor": ("108369006", "Neoplasm"),
    "lung_covid_infiltrate": ("47351003", "Infiltrate"),
    "pericardial_effusion": ("41699000", "Effusion"),
    "pleural_effusion": ("41699000", "Effusion"),
}


def _without_sides() -> dict[str, Code]:
    """Of every structure that is named on both sides, such as kidney; what the other tasks name."""
    return {
        spec.name.removesuffix(side): replace(spec.code, modifier=None)
        for spec in TOTAL_SEGMENTS
        for side in ("_left", "_right")
        if spec.code and spec.code.modifier in (LEFT, RIGHT) and spec.name.endswith(side)
    }


KNOWN_CODES: Mapping[str, Code] = {
    **{name: Code(*code) for name, code in (_STRUCTURES | _LESIONS).items()},
    **_without_sides(),
    **{spec.name: spec.code for spec in TOTAL_SEGMENTS if spec.code},
}
"""Of every structure with a code; the tissues and the implant of the table are left out."""

KNOWN_LESIONS = frozenset(_LESIONS) | {
    name
    for spec in TOTAL_SEGMENTS
    if spec.is_lesion
    for name in (spec.name, spec.name.removesuffix("_left"), spec.name.removesuffix("_right"))
}
"""Of which zero, one or many pieces are normal."""
