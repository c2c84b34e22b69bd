"""Operating thresholds, chosen on validation cases by a stated rule.

Candidates lie halfway between neighbouring probabilities, so that a small change of a case does
not cross them. Of equally good thresholds the lowest, the most sensitive, is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medmtl.postprocess.calibration import Calibration
from medmtl.training.calibrate_config import FixedThreshold, TargetThreshold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from medmtl.training.answers import Answers
    from medmtl.training.calibrate_config import CalibrationConfig, ThresholdConfig

    Array = NDArray[np.float64]

__all__ = ["choose_exclusive", "choose_one", "choose_thresholds"]


def choose_thresholds(
    answers: Answers, calibrations: Mapping[str, Calibration], config: CalibrationConfig
) -> dict[str, float]:
    """The operating point of each finding on its calibrated probability.

    Args:
        answers: Of validation cases.
        calibrations: Of `fit_calibration`; raw probabilities where one is missing.
        config: Its `threshold`, `min_each` and `fallback_threshold`.

    Returns:
        In (0, 1), by finding name.

    Raises:
        ValueError: If an exclusive rule is asked of findings that do not exclude each other.
    """
    rule, names = config.threshold, answers.names
    if isinstance(rule, FixedThreshold):
        return dict.fromkeys(names, rule.value)
    probabilities = {
        name: calibrations.get(name, Calibration()).apply(answers.logits_nf[:, column])
        for column, name in enumerate(names)
    }
    if rule.name in _EXCLUSIVE:
        if not answers.is_exclusive:
            raise ValueError(f"Threshold rule {rule.name} needs findings that exclude each other.")
        stacked = np.stack([probabilities[name] for name in names], axis=1)
        classes = answers.classes()
        known = classes >= 0
        value = config.fallback_threshold
        if np.bincount(classes[known], minlength=len(names) + 1).min() >= config.min_each:
            value = choose_exclusive(stacked[known], classes[known], rule_name=rule.name)
        return dict.fromkeys(names, value)
    chosen = {}
    for column, name in enumerate(names):
        target = answers.targets_nf[:, column]
        is_known, present = ~np.isnan(target), target == 1
        chosen[name] = config.fallback_threshold
        if min(present.sum(), (target == 0).sum()) >= config.min_each:
            chosen[name] = choose_one(probabilities[name][is_known], present[is_known], rule)
    return chosen


def choose_one(probability: Array, labels: NDArray[np.bool_], rule: ThresholdConfig) -> float:
    """The threshold of one finding.

    Args:
        probability: (N,) calibrated.
        labels: (N,) whether it is present; both values must occur.
        rule: Any but the exclusive ones.
    """
    if isinstance(rule, FixedThreshold):
        return rule.value
    candidates = _candidates(probability)
    hits = _reaching(probability[labels], candidates)
    false_calls = _reaching(probability[~labels], candidates)
    sensitivity = hits / labels.sum()
    absent = (~labels).sum()
    specificity = (absent - false_calls) / absent
    if isinstance(rule, TargetThreshold):
        pair = (sensitivity, specificity)
        goal, other = pair if rule.name == "sensitivity" else pair[::-1]
        reached = np.minimum(goal, rule.at_least)  # where none reaches it, the nearest
        return float(candidates[np.lexsort((goal, other, reached))[-1]])
    value = sensitivity + specificity - 1
    if rule.name == "f1":
        value = 2 * hits / (hits + false_calls + labels.sum())
    return float(candidates[int(value.argmax())])


def _reaching(probability: Array, thresholds: Array) -> Array:
    """How many probabilities reach each threshold."""
    below = np.searchsorted(np.sort(probability), thresholds, side="left")
    return np.asarray(len(probability) - below, dtype=np.float64)


def choose_exclusive(probability_nf: Array, classes: NDArray[np.intp], *, rule_name: str) -> float:
    """One threshold for all findings that exclude each other, as `decide` applies it.

    Args:
        probability_nf: (N, F) calibrated.
        classes: (N,) index of the finding that is present, F for none.
        rule_name: "exclusive_accuracy" or "exclusive_f1".
    """
    best, largest = probability_nf.argmax(axis=1), probability_nf.max(axis=1)
    candidates = _candidates(largest)
    none = probability_nf.shape[1]
    score = _EXCLUSIVE[rule_name]
    values = [score(np.where(largest >= at, best, none), classes, none + 1) for at in candidates]
    return float(candidates[int(np.argmax(values))])


def _accuracy(decided: NDArray[np.intp], classes: NDArray[np.intp], count: int) -> float:
    del count
    return float((decided == classes).mean())


def _macro_f1(decided: NDArray[np.intp], classes: NDArray[np.intp], count: int) -> float:
    """Mean over the classes that occur."""
    scores = []
    for index in range(count):
        is_class, is_called = classes == index, decided == index
        if is_class.any():
            scores.append(2 * (is_class & is_called).sum() / (is_class.sum() + is_called.sum()))
    return float(np.mean(scores))


_EXCLUSIVE: Mapping[str, Callable[[NDArray[np.intp], NDArray[np.intp], int], float]] = {
    "exclusive_accuracy": _accuracy,
    "exclusive_f1": _macro_f1,
}


def _candidates(probability: Array) -> Array:
    """Ascending: below all probabilities, between neighbours, above all; inside (0, 1)."""
    edges = np.concatenate([[0.0], np.unique(probability), [1.0]])
    middles = (edges[1:] + edges[:-1]) / 2
    return np.asarray(middles[(middles > 0) & (middles < 1)])
