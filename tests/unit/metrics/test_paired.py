"""Paired comparison: equal models differ by nothing, better ones are called better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medmtl.metrics.paired import Comparison, compare_scores
from medmtl.metrics.scores import CaseScore, FindingScore, SegmentScore


def case(number: int, *, dice: float, probability: float, truth: bool | None = None) -> CaseScore:
    present = number % 2 == 0 if truth is None else truth
    return CaseScore(
        case_id=f"c{number}",
        patient_id=f"p{number}",
        segments=(SegmentScore("ct", "liver", dice, 3.0, 1.0, False, 10.0, 10.0),),
        findings=(FindingScore("effusion", present, probability, probability >= 0.5),),
    )


def rows_of(rows: list[Comparison]) -> dict[tuple[str, str], Comparison]:
    return {(row.metric, row.part): row for row in rows}


def better(score: SegmentScore, step: float) -> SegmentScore:
    return replace(score, dice=None if score.dice is None else score.dice + step)


def compare(first: list[CaseScore], second: list[CaseScore]) -> dict[tuple[str, str], Comparison]:
    return rows_of(compare_scores(first, second, findings=["effusion"], is_exclusive=True))


def noisy(seed: int, *, dice: float = 0.8) -> list[CaseScore]:
    rng = np.random.default_rng(seed)
    return [
        case(n, dice=dice + rng.normal(0, 0.05), probability=float(rng.random())) for n in range(40)
    ]


def test_a_model_against_itself_makes_no_difference_at_all() -> None:
    scores = noisy(0)
    rows = compare(scores, scores).values()
    assert {row.difference.value for row in rows} == {0}
    assert {row.difference.ci95 for row in rows} == {(0, 0)}
    assert {row.verdict for row in rows} == {"no difference"}


def test_an_equal_step_in_every_case_has_no_uncertainty_however_cases_vary() -> None:
    """What both models share cancels: the interval has no width, though cases spread by 0.05."""
    first = noisy(1)
    second = [replace(one, segments=(better(one.segments[0], 0.01),)) for one in first]
    row = compare(first, second)["dice", "liver"]
    assert row.difference.value == pytest.approx(0.01)
    assert row.difference.ci95 == pytest.approx((0.01, 0.01))
    assert row.verdict == "gain"
    assert compare(second, first)["dice", "mean"].verdict == "loss"


def test_perfect_against_reversed_probabilities() -> None:
    right = [case(n, dice=0.9, probability=0.9 if n % 2 == 0 else 0.1) for n in range(20)]
    wrong = [case(n, dice=0.9, probability=0.1 if n % 2 == 0 else 0.9) for n in range(20)]
    rows = compare(wrong, right)
    assert rows["auroc", "effusion"].difference.value == 1
    assert rows["auroc", "mean"].other == 1
    assert rows["accuracy", "mean"].difference.value == 1
    # (0.1)^2 instead of (0.9)^2: lower is better, so the fall is a gain.
    assert rows["brier", "effusion"].difference.value == pytest.approx(0.01 - 0.81)
    assert rows["brier", "effusion"].verdict == "gain"


def test_a_structure_that_one_model_invents_is_a_loss() -> None:
    """Ten of thirty cases have a liver, equally good in both; the other model draws one in all."""
    first = [
        case(n, dice=0.8, probability=0.5)
        if n < 10
        else replace(
            case(n, dice=0.0, probability=0.5),
            segments=(SegmentScore("ct", "liver", None, None, None, False, 0.0, 0.0),),
        )
        for n in range(30)
    ]
    invented = SegmentScore("ct", "liver", 0.0, None, 0.0, True, 0.0, 5.0)
    second = [one if n < 10 else replace(one, segments=(invented,)) for n, one in enumerate(first)]
    row = compare(first, second)["dice", "liver"]
    assert (row.difference.n, row.verdict) == (30, "loss")
    assert row.difference.value == pytest.approx(-20 / 30)
    assert compare(first, first)["dice", "liver"].difference.n == 10  # nothing to draw, twice


def test_only_what_both_have_is_compared() -> None:
    first, second = noisy(2), noisy(3)[:30]
    rows = compare(first, second)
    assert rows["dice", "liver"].difference.n == 30
    blind = [replace(one, findings=()) for one in second]
    assert not {metric for metric, _ in compare(first, blind)} & {"auroc", "brier", "accuracy"}


def test_a_missed_structure_has_no_distance_and_is_counted() -> None:
    first = noisy(2)
    gone = replace(first[0].segments[0], dice=0.0, hd95_mm=None, is_missed=True)
    second = [replace(first[0], segments=(gone,)), *first[1:]]
    rows = compare(first, second)
    assert rows["hd95_mm", "liver"].difference.n == 39
    assert rows["hd95_mm", "liver"].missed == rows["hd95_mm", "mean"].missed == (0, 1)
    assert rows["dice", "liver"].missed is None


def test_unknown_truth_enters_nothing() -> None:
    first = noisy(4)
    unknown = tuple(replace(finding, truth=None) for finding in first[0].findings)
    without = [replace(first[0], findings=unknown), *first[1:]]
    assert compare(without, noisy(5))["auroc", "effusion"].difference.n == 39


@pytest.mark.parametrize("count", [20, 12], ids=["as many", "fewer"])
def test_the_mean_of_partly_labelled_findings_draws_each_ones_own_patients(count: int) -> None:
    """One patient has all cases of the second finding: a replicate holds them all, or none."""

    def nodule(number: int, *, is_right: bool) -> CaseScore:
        one = case(number, dice=0.8, probability=0.9 if is_right == (number % 2 == 0) else 0.1)
        finding = replace(one.findings[0], name="nodule")
        return replace(one, patient_id="has all", findings=(finding,))

    first = [case(n, dice=0.8, probability=0.5) for n in range(20)]
    wrong, right = (
        [*first, *(nodule(n, is_right=is_right) for n in range(20, 20 + count))]
        for is_right in (False, True)
    )
    mean = rows_of(compare_scores(wrong, right, findings=["effusion", "nodule"]))["auroc", "mean"]
    assert (mean.reference, mean.other) == (0.25, 0.75)
    assert mean.difference.ci95 == (0, 0.5)


def test_noise_alone_is_rarely_called_a_difference() -> None:
    verdicts = [compare(noisy(s), noisy(s + 500))["dice", "liver"].verdict for s in range(20)]
    assert verdicts.count("no difference") >= 16


def test_a_case_twice_is_an_error() -> None:
    scores = noisy(6)
    with pytest.raises(ValueError, match="twice"):
        compare([*scores, scores[0]], scores)
