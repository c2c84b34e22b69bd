"""`[bundle]`: what the delivered bundle says of itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medmtl.config.section import Section
from medmtl.evidence.contradictions import MeasurementRule
from medmtl.evidence.masks import MaskRules
from medmtl.inference.bundle_settings import CamSettings, InputSettings
from medmtl.postprocess.components import ComponentRules

__all__ = ["BundleInfo"]


class BundleInfo(Section):
    """What the delivered bundle says of itself, beside what the run knows.

    Attributes:
        name: Of the model.
        version: Of the model.
        licence: Of the weights; that of the data may bind it.
        intended_use: One sentence.
        limits: One or more sentences.
        notice: Shown beside every answer.
        input: What a study must hold; the modality may be left to the encoder.
        has_units: Whether voxel values mean the same on every scanner (HU).
        axes: Order of the per-axis input ranges; see `evidence.input_ranges`.
        cam: Activation maps.
        rules: Measurements that contradict a finding.
        components: Connected pieces that stay.
        mask_rules: When a mask is implausible.
    """

    name: str
    version: str = "0.1.0"
    licence: str
    intended_use: str
    limits: str
    notice: str = "Research software, not a medical device."
    input: InputSettings = Field(default_factory=InputSettings)
    has_units: bool = False
    axes: Literal["array", "patient"] = "array"
    cam: CamSettings = Field(default_factory=CamSettings)
    rules: tuple[MeasurementRule, ...] = ()
    components: ComponentRules = Field(default_factory=ComponentRules)
    mask_rules: MaskRules = Field(default_factory=MaskRules)
