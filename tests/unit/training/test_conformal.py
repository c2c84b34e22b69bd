"""Prediction sets hold the truth as often as they say, on cases nobody fitted them on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from medmtl.postprocess.conformal import ABSENT, PRESENT, predict_class, predict_finding
from medmtl.training.answers import Answers
from medmtl.training.calibrate_config import CalibrationConfig, ConformalConfig
from medmtl.training.conformal import conformal_quantile, fit_binary, fit_conformal

INF = math.inf
TRIALS, N_FIT, N_NEW = 300, 99, 60


@pytest.mark.parametrize(
    ("n", "coverage", "expected"),
    [(9, 0.9, 9), (8, 0.9, INF), (19, 0.9, 18), (99, 0.95, 95), (1, 0.5, 1), (0, 0.9, INF)],
)  # fmt: skip
def test_the_quantile_is_the_order_statistic_of_the_theorem(
    n: int, coverage: float, expected: float, rng: np.random.Generator
) -> None:
    scores = rng.permutation(np.arange(1.0, n + 1))
    assert conformal_quantile(scores, coverage=coverage) == expected


def study(
    rng: np.random.Generator, n: int, prevalence: float = 0.3
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A weak, badly calibrated model of a finding."""
    labels = rng.random(n) < prevalence
    return 5 * rng.normal(labels - 0.8, 1.0), labels


def holds(logits: NDArray[np.float64], labels: NDArray[np.bool_], settings: object) -> list[bool]:
    return [
        (PRESENT if label else ABSENT) in predict_finding(float(z), settings).members  # type: ignore[arg-type]
        for z, label in zip(logits, labels, strict=True)
    ]


@pytest.mark.parametrize("per_class", [False, True])
def test_sets_of_a_finding_cover_as_stated(per_class: bool) -> None:
    rng = np.random.default_rng(5)
    config = ConformalConfig(coverage=0.9, per_class=per_class)
    inside, present = [], []
    for _ in range(TRIALS):
        settings = fit_binary(*study(rng, N_FIT), config=config)
        logits, labels = study(rng, N_NEW)
        inside += holds(logits, labels, settings)
        present += labels.tolist()
    covered, is_present = np.array(inside), np.array(present)
    if not per_class:  # with continuous scores exactly 90 / 100 on average
        assert covered.mean() == pytest.approx(0.9, abs=0.01)
        assert covered[is_present].mean() < 0.88  # which says nothing of the present alone
    else:
        assert covered[is_present].mean() > 0.895
        assert covered[~is_present].mean() > 0.895
        assert covered.mean() < 0.95


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize("per_class", [False, True])
def test_sets_of_exclusive_classes_cover_as_stated(score: str, per_class: bool) -> None:
    rng = np.random.default_rng(6)
    conformal = ConformalConfig.model_validate(
        {"coverage": 0.8, "per_class": per_class, "score": score}
    )
    config = CalibrationConfig(conformal=conformal)

    def cases(n: int) -> Answers:
        classes = rng.choice(3, size=n, p=[0.5, 0.2, 0.3])
        targets = np.eye(3)[classes][:, :2]
        logits = 3 * (targets + rng.normal(0, 0.8, (n, 2)) - 0.5)
        return Answers(("a", "b"), logits, targets, tuple(map(str, range(n))), is_exclusive=True)

    inside, truth = [], []
    for _ in range(TRIALS):
        fitted = fit_conformal(cases(N_FIT), config).classes
        assert fitted is not None
        new = cases(40)
        for row, name in zip(new.logits_nf, new.classes(), strict=True):
            members = predict_class(row.tolist(), ("a", "b"), fitted).members
            inside.append(("a", "b", "none")[name] in members)
        truth += new.classes().tolist()
    covered, classes = np.array(inside), np.array(truth)
    assert covered.mean() > 0.79
    if per_class:
        assert all(covered[classes == index].mean() > 0.785 for index in range(3))
    elif score == "lac":
        assert covered.mean() == pytest.approx(0.8, abs=0.01)


def test_too_few_cases_rule_nothing_out() -> None:
    config = ConformalConfig(coverage=0.9, per_class=True)
    labels = np.array([True] * 8 + [False] * 9)
    fitted = fit_binary(np.linspace(-1, 1, 17), labels, config=config)
    assert fitted.present_from is None  # 8 present cannot give 90 %
    assert fitted.absent_to is not None  # 9 absent can: their largest
    assert predict_finding(-1e9, fitted).members == (PRESENT, ABSENT)
    assert predict_finding(1e9, fitted).members == (PRESENT,)


def test_more_coverage_never_makes_a_set_smaller(rng: np.random.Generator) -> None:
    logits, labels = study(rng, 200)
    sizes = [
        sum(
            len(predict_finding(z, fitted).members)
            for z in np.linspace(-20, 20, 200).tolist()
        )
        for fitted in (
            fit_binary(logits, labels, config=ConformalConfig(coverage=coverage))
            for coverage in (0.6, 0.8, 0.9, 0.95, 0.99)
        )
    ]  # fmt: skip
    assert sizes == sorted(sizes)


def test_unknown_labels_change_nothing(rng: np.random.Generator) -> None:
    logits = rng.normal(size=(60, 1))
    targets = (rng.random((60, 1)) < 0.5).astype(float)
    known = Answers(("a",), logits, targets, tuple(map(str, range(60))))
    more = Answers(
        ("a",),
        np.concatenate([logits, np.full((9, 1), 99.0)]),
        np.concatenate([targets, np.full((9, 1), math.nan)]),
        tuple(map(str, range(69))),
    )
    config = CalibrationConfig()
    assert fit_conformal(more, config) == fit_conformal(known, config)
    assert fit_conformal(known, CalibrationConfig(conformal=None)).per_finding == {}


def test_answers_that_contradict_themselves_are_refused() -> None:
    logits = np.zeros((1, 2))
    with pytest.raises(ValueError, match="two of them"):
        Answers(("a", "b"), logits, np.ones((1, 2)), ("p",), is_exclusive=True)
    with pytest.raises(ValueError, match="0, 1 or NaN"):
        Answers(("a", "b"), logits, np.full((1, 2), 0.5), ("p",))
    with pytest.raises(ValueError, match="finite"):
        Answers(("a", "b"), np.full((1, 2), math.nan), np.ones((1, 2)), ("p",))
    with pytest.raises(ValueError, match="must be"):
        Answers(("a", "b"), logits, np.ones((1, 2)), ("p", "q"))


def test_a_class_is_known_where_one_finding_is_present_or_all_are_absent() -> None:
    unknown = math.nan
    targets = np.array([[1.0, unknown], [0, 0], [0, unknown], [unknown, unknown], [0, 1]])
    table = Answers(("a", "b"), np.zeros((5, 2)), targets, tuple("vwxyz"), is_exclusive=True)
    assert table.classes().tolist() == [0, 2, -1, -1, 1]
