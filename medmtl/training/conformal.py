"""Fitting the quantiles of prediction sets on cases that the network was not trained on.

The guarantee of Vovk et al. 2005 (Angelopoulos & Bates 2021, arXiv:2107.07511, theorem 1) needs
cases that are exchangeable with the future ones, answered by the very network that will answer.
Answers out of the folds of a cross-validation come from other networks than the final one: the
coverage is then approximate (the cross-conformal bound is 1 - 2 * (1 - coverage), Vovk 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from medmtl.postprocess.conformal import (
    BinaryConformal,
    ClassConformal,
    class_probabilities,
    class_scores,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from medmtl.training.answers import Answers
    from medmtl.training.calibrate_config import CalibrationConfig, ConformalConfig

    Array = NDArray[np.float64]

__all__ = ["ConformalFit", "conformal_quantile", "fit_binary", "fit_classes", "fit_conformal"]


@dataclass(frozen=True)
class ConformalFit:
    """Either one set per finding, or one set of classes where findings exclude each other."""

    per_finding: Mapping[str, BinaryConformal] = field(default_factory=dict)
    classes: ClassConformal | None = None


def fit_conformal(answers: Answers, config: CalibrationConfig) -> ConformalFit:
    """Fit the configured prediction sets on raw logits.

    Args:
        answers: Of validation cases, one case per patient for the guarantee to hold.
        config: Its `conformal`.

    Returns:
        Nothing in it where `config.conformal` is None.
    """
    wanted = config.conformal
    if wanted is None or not answers.names:
        return ConformalFit()
    if answers.is_exclusive:
        known = answers.classes() >= 0
        probabilities = class_probabilities(answers.logits_nf[known])
        return ConformalFit(classes=fit_classes(probabilities, answers.classes()[known], wanted))
    return ConformalFit(
        {name: fit_binary(*answers.known(name), config=wanted) for name in answers.names}
    )


def conformal_quantile(scores: Array, *, coverage: float) -> float:
    """The ceil((n + 1) * coverage)-th smallest score; inf where n is too small to have one."""
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)  # 0.9 * 10 is not quite 9
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def fit_binary(
    logits: Array, labels: NDArray[np.bool_], *, config: ConformalConfig
) -> BinaryConformal:
    """The limits of one finding.

    Args:
        logits: (N,) raw logits of known cases.
        labels: (N,) whether it is present.
        config: Coverage, and whether it holds in each class.
    """
    scores = np.where(labels, -logits, logits)  # the larger, the less like its own class
    present = absent = conformal_quantile(scores, coverage=config.coverage)
    if config.per_class:
        present = conformal_quantile(scores[labels], coverage=config.coverage)
        absent = conformal_quantile(scores[~labels], coverage=config.coverage)
    return BinaryConformal(
        coverage=config.coverage,
        per_class=config.per_class,
        present_from=None if math.isinf(present) else -present,
        absent_to=None if math.isinf(absent) else absent,
        n_present=int(labels.sum()),
        n_absent=int((~labels).sum()),
    )


def fit_classes(
    probabilities_nc: Array, classes: NDArray[np.intp], config: ConformalConfig
) -> ClassConformal:
    """The quantile of each exclusive class.

    Args:
        probabilities_nc: (N, C) of `class_probabilities`.
        classes: (N,) true class.
        config: Coverage, score, and whether the coverage holds in each class.
    """
    all_scores = class_scores(probabilities_nc, score=config.score)
    scores = np.take_along_axis(all_scores, classes[:, None], axis=1)[:, 0]
    count = probabilities_nc.shape[1]
    groups = [scores[classes == index] if config.per_class else scores for index in range(count)]
    quantiles = [min(1.0, conformal_quantile(g, coverage=config.coverage)) for g in groups]
    return ClassConformal(
        coverage=config.coverage,
        per_class=config.per_class,
        score=config.score,
        quantiles=tuple(quantiles),
        n=tuple(np.bincount(classes, minlength=count).tolist()),
    )
