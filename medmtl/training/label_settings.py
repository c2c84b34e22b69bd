"""Segments and findings of a bundle, from what the manifests say and the training cases show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medmtl.inference.bundle_settings import CodeSettings, FindingSettings, SegmentSettings
from medmtl.training.calibrate import Calibration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.core.labels import LabelSchema

__all__ = ["finding_settings", "segment_settings"]


def segment_settings(
    schema: LabelSchema, volumes_ml: Mapping[str, Sequence[float]]
) -> tuple[SegmentSettings, ...]:
    """Segments of a bundle, with the range of volumes seen in training (1st, 99th percentile)."""
    return tuple(
        SegmentSettings(
            label=segment.label,
            name=segment.name,
            code=CodeSettings.of(segment.code),
            is_lesion=segment.is_lesion,
            expected_ml=None if segment.is_lesion else _range(volumes_ml[segment.name]),
        )
        for segment in schema.segments
    )


def finding_settings(
    schema: LabelSchema,
    calibrations: Mapping[str, Calibration],
    thresholds: Mapping[str, float] | None = None,
) -> tuple[FindingSettings, ...]:
    """Findings of a bundle; uncalibrated where there is no calibration."""
    return tuple(
        FindingSettings(
            name=finding.name,
            code=CodeSettings.of(finding.code),
            segments=finding.segments,
            requires_segment=finding.requires_segment,
            threshold=(thresholds or {}).get(finding.name, 0.5),
            scale=round(calibrations.get(finding.name, Calibration()).scale, 6),
            offset=round(calibrations.get(finding.name, Calibration()).offset, 6),
            calibrated=finding.name in calibrations,
        )
        for finding in schema.findings
    )


def _range(values: Sequence[float]) -> tuple[float, float] | None:
    if not len(values):
        return None
    low, high = np.percentile(np.asarray(values, dtype=float), [1, 99])
    return round(float(low), 1), round(float(high), 1)
