"""From raw logits to calibrated probabilities, decisions and prediction sets, as a bundle says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.postprocess.conformal import predict_class, predict_finding, restrict_to_finding
from medmtl.postprocess.decide import decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.prediction import PredictionSet
    from medmtl.inference.bundle_settings import BundleSettings

__all__ = ["FindingAnswers", "answer_findings"]


@dataclass(frozen=True)
class FindingAnswers:
    """Answers to the findings of a bundle, by name, in its order.

    Attributes:
        probabilities: Calibrated, 0..1.
        decisions: At the operating thresholds.
        sets: What is not ruled out of each finding; empty where the bundle has no quantiles.
        classes: The same of exclusive findings together, None where there is none.
    """

    probabilities: dict[str, float]
    decisions: dict[str, bool]
    sets: dict[str, PredictionSet]
    classes: PredictionSet | None


def answer_findings(settings: BundleSettings, logits: Sequence[float]) -> FindingAnswers:
    """The answers to raw logits (F,) in the bundle's order."""
    pairs = list(zip(settings.findings, logits, strict=True))
    probabilities = {spec.name: float(spec.calibration().apply(z)) for spec, z in pairs}
    thresholds = {spec.name: spec.threshold for spec in settings.findings}
    classes = None
    sets = {spec.name: predict_finding(z, spec.conformal) for spec, z in pairs if spec.conformal}
    if settings.conformal is not None:
        names = list(probabilities)
        classes = predict_class(logits, names, settings.conformal)
        sets = {name: restrict_to_finding(classes, name) for name in names}
    return FindingAnswers(
        probabilities, decide(settings.label_schema(), probabilities, thresholds), sets, classes
    )
