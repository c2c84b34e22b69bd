"""Operating points by rules, on cases small enough to count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medmtl.core.labels import FindingSpec, LabelSchema
from medmtl.postprocess.decide import decide
from medmtl.training.answers import Answers
from medmtl.training.calibrate import Calibration
from medmtl.training.calibrate_config import (
    CalibrationConfig,
    FixedThreshold,
    RuleThreshold,
    TargetThreshold,
    ThresholdConfig,
)
from medmtl.training.thresholds import choose_exclusive, choose_one, choose_thresholds

#                        absent           present between absent ones
PROBABILITY = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
LABELS = np.array([0, 0, 0, 1, 0, 0, 0, 1, 1], dtype=bool)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (RuleThreshold(name="youden"), 0.75),  # 2/3 + 1 - 1; from 0.35 on it is 1 + 1/2 - 1
        (RuleThreshold(name="f1"), 0.75),  # 4/5; from 0.35 on it is 2/3
        (TargetThreshold(name="sensitivity", at_least=0.9), 0.35),
        (TargetThreshold(name="sensitivity", at_least=2 / 3), 0.75),
        (TargetThreshold(name="specificity", at_least=0.5), 0.35),
        (TargetThreshold(name="specificity", at_least=0.6), 0.75),
        (FixedThreshold(value=0.2), 0.2),
    ],
)
def test_rules_on_paper(rule: ThresholdConfig, expected: float) -> None:
    assert choose_one(PROBABILITY, LABELS, rule) == pytest.approx(expected)


def test_of_equally_good_thresholds_the_most_sensitive_is_taken() -> None:
    labels = np.array([0, 1, 0, 1], dtype=bool)
    # Youden 1/2 at 0.3 (sensitivity 1) and at 0.7 (specificity 1)
    found = choose_one(np.array([0.2, 0.4, 0.6, 0.8]), labels, RuleThreshold(name="youden"))
    assert found == pytest.approx(0.3)


@pytest.mark.parametrize("at_least", [0.5, 0.8, 0.95, 0.999])
@pytest.mark.parametrize("name", ["sensitivity", "specificity"])
def test_a_target_is_always_reached_and_no_more_is_given_up_than_needed(
    name: str, at_least: float, rng: np.random.Generator
) -> None:
    labels = rng.random(200) < 0.3
    probability = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0.01, 0.99)
    rule = TargetThreshold.model_validate({"name": name, "at_least": at_least})
    at = choose_one(probability, labels, rule)

    def reached(threshold: float) -> tuple[float, float]:
        called = probability >= threshold
        values = float(called[labels].mean()), float((~called[~labels]).mean())
        return values if name == "sensitivity" else values[::-1]

    goal, other = reached(at)
    assert goal >= at_least
    better = [t for t in np.linspace(0.001, 0.999, 999) if reached(t)[1] > other]
    assert all(reached(t)[0] < at_least for t in better)


def test_of_thresholds_that_give_up_the_same_the_one_further_beyond_the_target_is_taken() -> None:
    rule = TargetThreshold(name="specificity", at_least=0.6)  # 4/6 at 0.55, 6/6 at 0.75
    assert choose_one(PROBABILITY, LABELS, rule) == pytest.approx(0.75)


def test_where_no_threshold_reaches_the_target_the_nearest_is_taken() -> None:
    rule = TargetThreshold(name="specificity", at_least=0.9)
    labels = np.array([0, 0, 0, 1], dtype=bool)
    at = choose_one(np.array([0.2, 0.4, 1.0, 0.9]), labels, rule)
    assert 0.4 < at < 0.9  # two of three; no threshold below 1 calls the third absent


def test_exclusive_findings_share_the_threshold_with_the_best_accuracy() -> None:
    probability = np.array([[0.6, 0.1], [0.2, 0.5], [0.3, 0.2], [0.4, 0.1]])
    classes = np.array([0, 1, 2, 2])
    at = choose_exclusive(probability, classes, rule_name="exclusive_accuracy")
    assert at == pytest.approx(0.45)
    schema = LabelSchema(findings=(FindingSpec("a"), FindingSpec("b")), findings_exclusive=True)
    for row, truth in zip(probability.tolist(), classes, strict=True):
        decided = decide(schema, dict(zip("ab", row, strict=True)), {"a": at, "b": at})
        assert [*decided.values(), not any(decided.values())][truth]


def test_macro_f1_does_not_give_up_a_rare_class() -> None:
    # Nine without a finding at 0.5, one with it at 0.4: accuracy calls all absent.
    probability = np.array([[0.5]] * 3 + [[0.1]] * 6 + [[0.4]])
    classes = np.array([1] * 9 + [0])
    assert choose_exclusive(probability, classes, rule_name="exclusive_accuracy") > 0.5
    assert choose_exclusive(probability, classes, rule_name="exclusive_f1") == pytest.approx(0.25)


def answers(*, is_exclusive: bool) -> Answers:
    targets = np.zeros((30, 2))
    targets[:10, 0] = 1
    targets[10:20, 1] = 1
    logits = np.where(targets == 1, 1.0, -3.0)
    targets[0, 1] = math.nan
    return Answers(("a", "b"), logits, targets, tuple(map(str, range(30))), is_exclusive)


def test_thresholds_are_of_calibrated_probabilities() -> None:
    config = CalibrationConfig(threshold=RuleThreshold(name="youden"))
    raw = choose_thresholds(answers(is_exclusive=False), {}, config)
    shifted = choose_thresholds(answers(is_exclusive=False), {"a": Calibration(1.0, -1.0)}, config)
    middle = (1 / (1 + math.exp(-1)) + 1 / (1 + math.exp(3))) / 2
    assert raw == pytest.approx({"a": middle, "b": middle})
    assert shifted["a"] == pytest.approx((0.5 + 1 / (1 + math.exp(4))) / 2)


def test_exclusive_rules_want_exclusive_findings() -> None:
    config = CalibrationConfig(threshold=RuleThreshold(name="exclusive_accuracy"))
    with pytest.raises(ValueError, match="exclude each other"):
        choose_thresholds(answers(is_exclusive=False), {}, config)
    found = choose_thresholds(answers(is_exclusive=True), {}, config)
    assert found["a"] == found["b"]


def test_few_known_cases_fall_back() -> None:
    config = CalibrationConfig(
        threshold=RuleThreshold(name="youden"), min_each=11, fallback_threshold=0.4
    )
    assert choose_thresholds(answers(is_exclusive=False), {}, config) == {"a": 0.4, "b": 0.4}
