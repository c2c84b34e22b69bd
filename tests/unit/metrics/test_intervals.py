"""The bootstrap over patients: width, reproducibility, and what one draw keeps together."""

from __future__ import annotations

import numpy as np
import pytest

from medmtl.metrics.intervals import Interval, bootstrap, patient_weights, shared_patients
from medmtl.metrics.summary_segmentation import mean_interval


def names(count: int) -> list[str]:
    return [f"p{number:03d}" for number in range(count)]


def width(interval: Interval) -> float:
    assert interval.ci95 is not None
    return interval.ci95[1] - interval.ci95[0]


def test_a_constant_has_an_interval_of_no_width() -> None:
    interval = mean_interval(names(20), [0.25] * 20)
    assert (interval.value, interval.ci95, interval.n) == (0.25, (0.25, 0.25), 20)


def test_the_interval_narrows_with_the_square_root_of_the_patients(
    rng: np.random.Generator,
) -> None:
    few = mean_interval(names(25), [float(v) for v in rng.normal(size=25)])
    many = mean_interval(names(400), [float(v) for v in rng.normal(size=400)])
    assert width(few) / width(many) == pytest.approx(4.0, rel=0.3)


def test_the_width_is_that_of_the_normal_theory(rng: np.random.Generator) -> None:
    values = rng.normal(size=200)
    interval = mean_interval(names(200), [float(v) for v in values])
    assert width(interval) == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.1)


def test_volumes_of_one_patient_are_drawn_together(rng: np.random.Generator) -> None:
    values = [float(v) for v in rng.normal(size=30)]
    once = mean_interval(names(30), values)
    twice = mean_interval(
        [name for name in names(30) for _ in range(2)], [v for v in values for _ in range(2)]
    )
    assert twice.ci95 == pytest.approx(once.ci95)
    assert (once.n, twice.n) == (30, 60)


def test_every_replicate_draws_as_many_patients_as_there_are() -> None:
    weights = patient_weights(["b", "a", "b", "c"], resamples=50)
    assert weights.shape == (50, 4)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_groups_of_observations_share_the_draw_of_their_patients() -> None:
    groups = [["b", "a", "b"], ["c", "a"]]
    direct = np.split(patient_weights([*groups[0], *groups[1]]), [3], axis=1)
    patients, places = shared_patients(groups)
    weights = patient_weights(patients)
    assert patients == ["a", "b", "c"]
    for place, own in zip(places, direct, strict=True):
        assert np.array_equal(weights[:, place], own)


def test_the_same_call_gives_the_same_interval(rng: np.random.Generator) -> None:
    values = [float(v) for v in rng.normal(size=12)]
    assert mean_interval(names(12), values) == mean_interval(names(12), values)


def test_values_that_do_not_exist_are_left_out() -> None:
    interval = mean_interval(names(4), [0.5, None, 0.5, None])
    assert (interval.value, interval.n) == (0.5, 2)
    assert mean_interval(names(1), [None]).as_json() == {"value": None, "ci95": None, "n": 0}


def test_replicates_without_a_value_are_dropped() -> None:
    interval = bootstrap(lambda w: np.full(len(w), np.nan), ["a"], value=0.5)
    assert interval.ci95 is None
