"""Points of curves: the area under them is the number that is reported."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import auc

from medmtl.metrics.classification import auprc, auroc
from medmtl.metrics.curves import precision_recall_points, roc_points

TRUTH = [True, False, True, None, False, True, False, True]
PROBABILITY = [0.9, 0.1, 0.4, 0.99, 0.4, 0.8, 0.6, 0.7]


def test_the_area_under_the_points_is_the_auroc() -> None:
    points = roc_points(TRUTH, PROBABILITY)
    assert points is not None
    assert auc(*points) == pytest.approx(auroc(TRUTH, PROBABILITY))
    assert (points[0][0], points[1][0], points[0][-1], points[1][-1]) == (0, 0, 1, 1)


def test_the_steps_of_precision_give_the_average_precision() -> None:
    points = precision_recall_points(TRUTH, PROBABILITY)
    assert points is not None
    recall, precision = np.array(points[0]), np.array(points[1])
    area = float((np.diff(recall) * precision[1:]).sum())
    assert area == pytest.approx(auprc(TRUTH, PROBABILITY))


def test_one_truth_value_has_no_curve() -> None:
    assert roc_points([True, None, True], [0.1, 0.2, 0.3]) is None
    assert precision_recall_points([False], [0.1]) is None
