"""What `cardiac-mr` is: its grid, network, rules and the words of its card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medmtl.data.volume_file import read_volume_file
from medmtl.evidence.contradictions import MeasurementRule
from medmtl.evidence.input_ranges import InputRanges, input_ranges
from medmtl.evidence.masks import MaskRules
from medmtl.inference.bundle_settings import BundleSettings, CamSettings, InputSettings
from medmtl.inference.operating_point import OperatingPoint
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import NetworkConfig
from medmtl.networks.planar import PlanarDynUNetConfig
from medmtl.postprocess.components import ComponentRules
from medmtl.training.label_settings import finding_settings, segment_settings
from medmtl.training.standardise import volumes_ml
from medmtl.transforms.preprocessing import PreprocessingConfig, RobustZScore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.data.cases import Manifest
    from medmtl.data.samples import Sample
    from medmtl.training.calibrate import Calibration

SEGMENTS = ("right_ventricle_cavity", "myocardium", "left_ventricle_cavity")
FINDINGS = (
    "dilated_cardiomyopathy",
    "hypertrophic_cardiomyopathy",
    "myocardial_infarction",
    "abnormal_right_ventricle",
)
THRESHOLD = 0.4
"""Of every calibrated probability; best of 0.2 to 0.6 by the out-of-fold accuracy."""
PREPROCESSING = PreprocessingConfig(
    orientation="display",
    spacing_mm=(1.25, 1.25, None),
    intensity=RobustZScore(low_percentile=0.5, high_percentile=99.5),
    divisor=(16, 16, 1),
)
NETWORK = NetworkConfig(
    backbone=PlanarDynUNetConfig(filters=(32, 64, 128, 192, 256), mixed_levels=2),
    slice_context=1,
    volumes=("ed", "es"),
    segments=SEGMENTS,
    findings=FINDINGS,
    head=HeadConfig(
        measurements="cardiac",
        measure_largest_piece=True,
        covariates=("height_cm", "weight_kg"),
        embedding=0,  # pooled features cost 0.05 to 0.1 of the accuracy on unseen patients
        hidden=32,
        members=8,
        dropout=0.4,
    ),
)
LICENCE = "CC BY-NC-SA 4.0"
INTENDED_USE = (
    "Research on short-axis cine cardiac MR: masks of both ventricular cavities and the myocardium "
    "at end diastole and end systole, and four findings of the ACDC challenge."
)
LIMITS = (
    "Trained on 100 patients of one hospital (ACDC: 1.5 T and 3 T scanners of one vendor, 20 "
    "patients per group), each with one finding or none. Not for other views, contrast-enhanced "
    "images, congenital disease or children. Not a medical device."
)
RULES = tuple(
    # The criteria by which the experts of ACDC grouped the patients, with room for mask errors.
    MeasurementRule(finding=finding, is_present=True, measurement=name, low=low, high=high)
    for finding, name, low, high in (
        ("dilated_cardiomyopathy", "lv_ejection_fraction", None, 50.0),
        ("dilated_cardiomyopathy", "lv_ed_volume_index", 80.0, None),
        ("hypertrophic_cardiomyopathy", "lv_ejection_fraction", 45.0, None),
        ("myocardial_infarction", "lv_ejection_fraction", None, 55.0),
    )
)


def bundle_settings(
    manifest: Manifest,
    samples: Sequence[Sample],
    ranges: InputRanges,
    calibrations: dict[str, Calibration],
    thresholds: dict[str, float] | None = None,
) -> BundleSettings:
    """Everything of the bundle but its weights."""
    return BundleSettings(
        name="cardiac-mr",
        version="1.1.0",
        licence=LICENCE,
        intended_use=INTENDED_USE,
        limits=LIMITS,
        notice="Research software, not a medical device.",
        findings_exclusive=True,
        input=InputSettings(
            modality="MR",
            kind="phase_pair",
            phase_segment="left_ventricle_cavity",
            min_slices=4,
        ),
        preprocessing=PREPROCESSING,
        network=NETWORK,
        ranges=ranges,
        cam=CamSettings(method="attribution", levels=(), min_share=0.1),
        speeds={
            "fast": OperatingPoint(backend="int8"),
            "best": OperatingPoint(shifts=4, overlap=0.5),
        },
        segments=segment_settings(manifest.schema, volumes_ml(samples, segments=SEGMENTS)),
        findings=finding_settings(manifest.schema, calibrations, thresholds),
        rules=RULES,
        components=ComponentRules(is_one_organ=True, keep_largest=SEGMENTS),
        mask_rules=MaskRules(border_axes=(0, 1)),
    )


def training_ranges(manifest: Manifest, data_root: Path) -> InputRanges:
    """What the training images looked like, widened."""
    images = (
        read_volume_file(data_root, row.image)
        for case in manifest.in_split("train")
        for row in case.volumes
    )
    return input_ranges(images, modality="MR", axes="array", has_units=False)
