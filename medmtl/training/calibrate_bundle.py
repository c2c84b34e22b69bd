"""The last step of a training: everything fitted on validation answers goes into the settings.

The figures "after" are cross-fitted: each patient's probability comes from a calibration that was
fitted without this patient, so that a flexible method does not praise itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.metrics.classification import brier, expected_calibration_error
from medmtl.metrics.reliability import reliability_curve
from medmtl.postprocess.calibration import Calibration
from medmtl.training.calibrate import fit_calibration
from medmtl.training.conformal import ConformalFit, fit_conformal
from medmtl.training.thresholds import choose_thresholds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from medmtl.inference.bundle_settings import BundleSettings, FindingSettings
    from medmtl.training.answers import Answers
    from medmtl.training.calibrate_config import CalibrationConfig

__all__ = ["CalibratedBundle", "calibrate_bundle", "calibration_report", "cross_fitted"]


@dataclass(frozen=True, eq=False)
class CalibratedBundle:
    """Settings with calibration, thresholds and prediction sets, and what they are worth.

    Attributes:
        settings: To be written by `write_bundle`.
        report: JSON of `calibration_report`, for metrics.json and the tracker.
    """

    settings: BundleSettings
    report: dict[str, Any]


def calibrate_bundle(
    settings: BundleSettings, answers: Answers, config: CalibrationConfig
) -> CalibratedBundle:
    """Fit calibration, thresholds and prediction sets, and put them into the settings.

    Args:
        settings: Of the trained network.
        answers: Raw logits of validation cases from that network.
        config: What is fitted.

    Raises:
        ValueError: If the answers are not those of the bundle's findings, in their order.
    """
    names = tuple(finding.name for finding in settings.findings)
    if names != answers.names or answers.is_exclusive != settings.findings_exclusive:
        raise ValueError(f"Answers to {answers.names} do not fit the bundle's findings {names}.")
    calibrations = fit_calibration(answers, config)
    thresholds = choose_thresholds(answers, calibrations, config)
    sets = fit_conformal(answers, config)
    update = {
        "findings": tuple(
            _finding(finding, calibrations, thresholds, sets) for finding in settings.findings
        ),
        "conformal": sets.classes,
    }
    complete = type(settings).model_validate({**dict(settings), **update})
    return CalibratedBundle(complete, calibration_report(answers, config, thresholds, sets))


def _finding(
    finding: FindingSettings,
    calibrations: Mapping[str, Calibration],
    thresholds: Mapping[str, float],
    sets: ConformalFit,
) -> FindingSettings:
    calibration = calibrations.get(finding.name, Calibration())
    update = {
        "scale": calibration.scale,
        "offset": calibration.offset,
        "knots": calibration.knots or None,
        "calibrated": finding.name in calibrations,
        "threshold": thresholds[finding.name],
        "conformal": sets.per_finding.get(finding.name),
    }
    return type(finding).model_validate({**dict(finding), **update})


def calibration_report(
    answers: Answers,
    config: CalibrationConfig,
    thresholds: Mapping[str, float],
    sets: ConformalFit,
) -> dict[str, Any]:
    """Brier score, ECE and reliability before and after, per finding, and the rules that chose.

    Returns:
        JSON; "after" is cross-fitted over patients, and missing where nothing was calibrated.
    """
    raw = Calibration().apply(answers.logits_nf)
    after = cross_fitted(answers, config)
    calibrated = fit_calibration(answers, config)
    per_finding = {}
    for column, name in enumerate(answers.names):
        truth = [None if np.isnan(t) else bool(t) for t in answers.targets_nf[:, column]]
        entry: dict[str, Any] = {"before": _scores(truth, raw[:, column])}
        if name in calibrated:
            entry["after"] = _scores(truth, after[:, column])
        per_finding[name] = entry | {"threshold": thresholds[name]}
        if name in sets.per_finding:
            per_finding[name]["conformal"] = sets.per_finding[name].model_dump(mode="json")
    return {
        "method": config.method,
        "after": f"cross-fitted over patients, {config.folds} folds, seed {config.seed}",
        "threshold_rule": config.threshold.model_dump(mode="json"),
        "n_cases": len(answers.patients),
        "per_finding": per_finding,
        "conformal": None if sets.classes is None else sets.classes.model_dump(mode="json"),
    }


def cross_fitted(answers: Answers, config: CalibrationConfig) -> NDArray[np.float64]:
    """Probabilities (N, F), each from a calibration that was fitted without its patient.

    Where the remaining cases are too few for the method, the raw probability.
    """
    probabilities = Calibration().apply(answers.logits_nf)
    patients, index = np.unique(np.asarray(answers.patients, dtype=str), return_inverse=True)
    order = np.random.default_rng(config.seed).permutation(len(patients))
    fold = (order % config.folds)[index]
    for number in range(config.folds):
        rest, held_out = answers.take(fold != number), fold == number
        for name, calibration in fit_calibration(rest, config).items():
            column = answers.names.index(name)
            logits = answers.logits_nf[held_out, column]
            probabilities[held_out, column] = calibration.apply(logits)
    return probabilities


def _scores(truth: Sequence[bool | None], probability: ArrayLike) -> dict[str, Any]:
    return {
        "brier": brier(truth, probability),
        "ece": expected_calibration_error(truth, probability),
        "reliability": [one.as_json() for one in reliability_curve(truth, probability)],
    }
