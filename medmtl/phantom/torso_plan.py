"""What one torso will look like: every random choice about a body, drawn before any voxel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medmtl.core.errors import ConfigError
from medmtl.core.labels import Code, FindingSpec, LabelSchema, SegmentSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CARDIOTHORACIC_RATIO_LIMIT",
    "SPLEEN_LIMIT_ML",
    "TORSO_SCHEMA",
    "TorsoPlan",
    "plan_torso",
]

CARDIOTHORACIC_RATIO_LIMIT = 0.50
"""Heart width over inner thorax width above which a heart is called enlarged."""

SPLEEN_LIMIT_ML = 350.0
"""Spleen volume above which a spleen is called enlarged."""

# Nothing is drawn near the limits, so that every finding can be decided from the image.
_RATIO_NORMAL = (0.36, 0.455)
_RATIO_LARGE = (0.545, 0.63)
_SPLEEN_NORMAL_ML = (110.0, 270.0)
_SPLEEN_LARGE_ML = (450.0, 900.0)

TORSO_SCHEMA = LabelSchema(
    segments=(
        SegmentSpec(1, "lung", Code("39607008", "Lung")),
        SegmentSpec(2, "liver", Code("10200004", "Liver")),
        SegmentSpec(3, "spleen", Code("78961009", "Spleen")),
        SegmentSpec(4, "kidney", Code("64033007", "Kidney")),
        SegmentSpec(5, "heart", Code("80891009", "Heart")),
        SegmentSpec(6, "bone", Code("272673000", "Bone")),
        SegmentSpec(7, "lung_nodule", Code("427359005", "Solitary nodule of lung"), is_lesion=True),
        SegmentSpec(8, "pleural_effusion", Code("60046008", "Pleural effusion"), is_lesion=True),
        SegmentSpec(9, "liver_lesion", Code("300331000", "Lesion of liver"), is_lesion=True),
        SegmentSpec(10, "renal_cyst", Code("722223000", "Cyst of kidney"), is_lesion=True),
    ),
    findings=(
        FindingSpec(
            "lung_nodule",
            Code("427359005", "Solitary nodule of lung"),
            segments=("lung", "lung_nodule"),
            requires_segment="lung_nodule",
        ),
        FindingSpec(
            "pleural_effusion",
            Code("60046008", "Pleural effusion"),
            segments=("lung", "pleural_effusion"),
            requires_segment="pleural_effusion",
        ),
        FindingSpec(
            "liver_lesion",
            Code("300331000", "Lesion of liver"),
            segments=("liver", "liver_lesion"),
            requires_segment="liver_lesion",
        ),
        FindingSpec(
            "renal_cyst",
            Code("722223000", "Cyst of kidney"),
            segments=("kidney", "renal_cyst"),
            requires_segment="renal_cyst",
        ),
        FindingSpec("cardiomegaly", Code("8186001", "Cardiomegaly"), segments=("heart",)),
        FindingSpec("splenomegaly", Code("16294009", "Splenomegaly"), segments=("spleen",)),
    ),
)
"""Segments and findings of the torso phantom, in label and output order."""

_PREVALENCE = {
    "lung_nodule": 0.45,
    "pleural_effusion": 0.40,
    "liver_lesion": 0.45,
    "renal_cyst": 0.45,
    "cardiomegaly": 0.40,
    "splenomegaly": 0.40,
}


@dataclass(frozen=True)
class TorsoPlan:
    """One body: pose, size, tissue densities, states and findings.

    Attributes:
        findings: Finding name -> present.
        sex: "M" or "F".
        age_years: Only for the header; it changes nothing in the image.
        scale: Body size along x, y, z relative to the standard body.
        angles_deg: Pose about x, y, z.
        shift_mm: Position of the body centre in LPS.
        fat_mm: Thickness of the subcutaneous fat.
        cardiothoracic_ratio: Wanted heart width over inner thorax width.
        spleen_ml: Wanted spleen volume.
        hu: Density of each tissue.
        noise_hu: Spread of the image noise.
        has_table: Whether the scanner table lies in the field of view.
    """

    findings: dict[str, bool]
    sex: str
    age_years: int
    scale: tuple[float, float, float]
    angles_deg: tuple[float, float, float]
    shift_mm: tuple[float, float, float]
    fat_mm: float
    cardiothoracic_ratio: float
    spleen_ml: float
    hu: dict[str, float]
    noise_hu: float
    has_table: bool


def _draw_findings(rng: np.random.Generator, wanted: Mapping[str, bool] | None) -> dict[str, bool]:
    drawn = {name: bool(rng.random() < share) for name, share in _PREVALENCE.items()}
    unknown = set(wanted or {}) - set(drawn)
    if unknown:
        raise ConfigError(
            f"Unknown torso findings {sorted(unknown)}. Expected some of {sorted(drawn)}."
        )
    return {**drawn, **(wanted or {})}


def _draw_densities(rng: np.random.Generator) -> dict[str, float]:
    """Tissue densities in HU; with contrast (portal venous) or without."""
    contrast = float(rng.random() < 0.6) * rng.uniform(0.6, 1.0)
    liver = rng.uniform(48, 64) + 50 * contrast
    return {
        "fat": rng.uniform(-112, -92),
        "muscle": rng.uniform(45, 62),
        "lung": rng.uniform(-880, -800),
        "liver": liver,
        "spleen": rng.uniform(42, 54) + 68 * contrast,
        "kidney": rng.uniform(28, 38) + 135 * contrast,
        "myocardium": rng.uniform(38, 46) + 55 * contrast,
        "blood": rng.uniform(36, 46) + 105 * contrast,
        "bone": rng.uniform(180, 300),
        "cortex": rng.uniform(450, 750),
        "nodule": rng.uniform(10, 70),
        "effusion": rng.uniform(2, 20),
        "liver_lesion": liver - rng.uniform(38, 55),
        "cyst": rng.uniform(0, 12),
    }


def plan_torso(seed: int, findings: Mapping[str, bool] | None = None) -> TorsoPlan:
    """Draw one body; findings that are not given are drawn independently of each other.

    Raises:
        ConfigError: If `findings` names something that the torso does not have.
    """
    rng = np.random.default_rng([seed, 1])
    present = _draw_findings(rng, findings)
    sex = "F" if rng.random() < 0.5 else "M"
    size = rng.uniform(0.88, 0.97) if sex == "F" else rng.uniform(0.94, 1.03)
    scale = size * rng.uniform(0.95, 1.05, 3)
    angles = rng.normal(0.0, [2.5, 2.5, 4.0]).clip(-9, 9)
    shift = rng.uniform([-8, -6, -12], [8, 6, 12])
    ratio = rng.uniform(*(_RATIO_LARGE if present["cardiomegaly"] else _RATIO_NORMAL))
    spleen = rng.uniform(*(_SPLEEN_LARGE_ML if present["splenomegaly"] else _SPLEEN_NORMAL_ML))
    return TorsoPlan(
        findings=present,
        sex=sex,
        age_years=int(rng.integers(25, 86)),
        scale=(float(scale[0]), float(scale[1]), float(scale[2])),
        angles_deg=(float(angles[0]), float(angles[1]), float(angles[2])),
        shift_mm=(float(shift[0]), float(shift[1]), float(shift[2])),
        fat_mm=float(rng.uniform(8, 26)),
        cardiothoracic_ratio=float(ratio),
        spleen_ml=float(spleen),
        hu=_draw_densities(rng),
        noise_hu=float(rng.uniform(7, 22)),
        has_table=bool(rng.random() < 0.85),
    )
