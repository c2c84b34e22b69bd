"""What is left in a prediction set, and when that is no answer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medmtl.core.prediction import PredictionSet
from medmtl.postprocess.conformal import (
    ABSENT,
    PRESENT,
    BinaryConformal,
    ClassConformal,
    class_probabilities,
    class_scores,
    predict_class,
    predict_finding,
    restrict_to_finding,
)

LIMITS = BinaryConformal(coverage=0.9, present_from=-1.0, absent_to=0.5)


@pytest.mark.parametrize(
    ("logit", "members"),
    [(-1.1, (ABSENT,)), (-1.0, (PRESENT, ABSENT)), (0.5, (PRESENT, ABSENT)), (0.6, (PRESENT,))],
)
def test_between_the_limits_both_are_left(logit: float, members: tuple[str, ...]) -> None:
    found = predict_finding(logit, LIMITS)
    assert found == PredictionSet(members, 0.9)
    assert found.abstains == (len(members) == 2)


def test_a_logit_like_neither_class_leaves_nothing_and_abstains() -> None:
    apart = BinaryConformal(coverage=0.9, present_from=2.0, absent_to=-2.0)
    assert predict_finding(0.0, apart).members == ()
    assert predict_finding(0.0, apart).abstains


def test_exclusive_probabilities_are_a_softmax_with_none() -> None:
    found = class_probabilities([[math.log(3)], [0.0]])
    np.testing.assert_allclose(found, [[0.75, 0.25], [0.5, 0.5]])


def test_scores_on_paper() -> None:
    probabilities = np.array([[0.5, 0.2, 0.3]])
    np.testing.assert_allclose(class_scores(probabilities, score="lac"), [[0.5, 0.8, 0.7]])
    np.testing.assert_allclose(class_scores(probabilities, score="aps"), [[0.5, 1.0, 0.8]])


def test_each_class_has_its_own_quantile() -> None:
    logits = [math.log(2.5), math.log(1.0)]  # probabilities 5/9, 2/9, none 2/9
    settings = ClassConformal(coverage=0.9, quantiles=(0.4, 0.8, 0.7))
    assert predict_class(logits, ("a", "b"), settings).members == ("b",)
    everything = ClassConformal(coverage=0.9, quantiles=(1.0, 1.0, 1.0))
    for score in ("lac", "aps"):
        wide = everything.model_copy(update={"score": score})
        assert predict_class([50.0, -50.0], ("a", "b"), wide).members == ("a", "b", "none")


def test_quantiles_of_another_number_of_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="3 quantiles"):
        predict_class([0.0, 0.0], ("a", "b"), ClassConformal(coverage=0.9, quantiles=(1.0, 1.0)))


@pytest.mark.parametrize(
    ("classes", "members"),
    [
        (("a",), (PRESENT,)),
        (("a", "none"), (PRESENT, ABSENT)),
        (("b", "none"), (ABSENT,)),
        ((), ()),
    ],
)
def test_a_set_of_classes_speaks_of_each_finding(
    classes: tuple[str, ...], members: tuple[str, ...]
) -> None:
    assert restrict_to_finding(PredictionSet(classes, 0.9), "a").members == members
