"""Settings of what is fitted after training; every choice by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "CalibrationConfig",
    "ConformalConfig",
    "FixedThreshold",
    "RuleThreshold",
    "TargetThreshold",
    "ThresholdConfig",
]

Share = Annotated[float, Field(gt=0, lt=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FixedThreshold(_Strict):
    """The same operating point for every finding, whatever the cases say."""

    name: Literal["fixed"] = "fixed"
    value: Share = 0.5


class TargetThreshold(_Strict):
    """The threshold that reaches at least a sensitivity (or specificity) and gives up least."""

    name: Literal["sensitivity", "specificity"]
    at_least: Share = 0.9


class RuleThreshold(_Strict):
    """The threshold with the best value.

    Per finding: "youden" (sensitivity + specificity - 1; Youden 1950) or "f1". One threshold for
    all findings that exclude each other: "exclusive_accuracy" or "exclusive_f1" (macro over the
    findings and none of them).
    """

    name: Literal["youden", "f1", "exclusive_accuracy", "exclusive_f1"]


ThresholdConfig = Annotated[
    FixedThreshold | TargetThreshold | RuleThreshold, Field(discriminator="name")
]


class ConformalConfig(_Strict):
    """Split conformal prediction sets; see `medmtl.postprocess.conformal`.

    Attributes:
        coverage: Share of the sets that hold the truth, at least.
        per_class: Whether the coverage holds within the present and the absent (or each class).
        score: Of exclusive findings.
    """

    coverage: Share = 0.9
    per_class: bool = True
    score: Literal["lac", "aps"] = "lac"


class CalibrationConfig(_Strict):
    """What is fitted on the validation cases after training.

    Attributes:
        method: "none", "temperature" (Guo et al. 2017, arXiv:1706.04599, one temperature per
            finding), "platt" (scale and offset) or "isotonic" (Zadrozny & Elkan 2002); isotonic
            wants hundreds of cases.
        min_each: A finding with fewer known present or absent cases keeps its raw probability and
            the threshold of `fallback_threshold`.
        threshold: Rule of the operating points, on calibrated probabilities.
        fallback_threshold: Where the rule has too few cases.
        conformal: Prediction sets; None for none.
        folds: Of the cross-fitting behind the figures "after"; patients stay together.
        seed: Of these folds.
    """

    method: Literal["none", "temperature", "platt", "isotonic"] = "platt"
    min_each: Annotated[int, Field(ge=1)] = 5
    threshold: ThresholdConfig = Field(default_factory=FixedThreshold)
    fallback_threshold: Share = 0.5
    conformal: ConformalConfig | None = Field(default_factory=ConformalConfig)
    folds: Annotated[int, Field(ge=2)] = 5
    seed: int = 0
