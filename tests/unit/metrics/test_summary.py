"""metrics.json from hand-made rows."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from medmtl.core.geometry import Geometry
from medmtl.metrics.intervals import patient_weights
from medmtl.metrics.lesions import LesionCounts
from medmtl.metrics.paired import compare_scores
from medmtl.metrics.scores import CaseScore, FindingScore, SegmentScore, score_segment
from medmtl.metrics.summary import summarise
from medmtl.metrics.summary_diagnosis import brief_diagnosis
from medmtl.metrics.summary_exclusive import exclusive_class
from medmtl.metrics.summary_segmentation import brief_segmentation
from medmtl.metrics.weighted import mean_of_means, weighted_auroc


def segment(name: str, dice: float | None, *, volume: str = "ed") -> SegmentScore:
    return SegmentScore(
        volume, name, dice, 2.0 if dice else None, dice, dice == 0.0, truth_ml=1.0, predicted_ml=1.0
    )


def finding(name: str, truth: bool | None, probability: float) -> FindingScore:
    return FindingScore(name, truth, probability, decision=probability >= 0.5)


def case(number: int, *parts: SegmentScore | FindingScore) -> CaseScore:
    return CaseScore(
        case_id=f"c{number}",
        patient_id=f"p{number}",
        segments=tuple(part for part in parts if isinstance(part, SegmentScore)),
        findings=tuple(part for part in parts if isinstance(part, FindingScore)),
    )


def test_every_segment_weighs_the_same_in_the_mean_dice() -> None:
    cases = [
        case(n, segment("organ", 1.0), segment("lesion", 0.5 if n == 0 else None)) for n in range(4)
    ]
    part = summarise(cases, findings=())["segmentation"]
    assert part["mean_dice"]["value"] == 0.75
    assert part["per_segment"]["organ"]["dice"] == {"value": 1.0, "ci95": [1.0, 1.0], "n": 4}
    assert part["per_segment"]["lesion"]["dice"]["n"] == 1


def test_a_missed_segment_counts_as_zero_and_is_named() -> None:
    cases = [case(0, segment("organ", 0.0)), case(1, segment("organ", 1.0))]
    organ = summarise(cases, findings=())["segmentation"]["per_segment"]["organ"]
    assert organ["dice"]["value"] == 0.5
    assert organ["hd95_mm"]["value"] == 2.0
    assert organ["hd95_mm"]["missed"] == 1


def test_phases_are_told_apart() -> None:
    cases = [case(0, segment("organ", 0.9), segment("organ", 0.7, volume="es"))]
    part = summarise(cases, findings=())["segmentation"]
    assert part["mean_dice"]["value"] == pytest.approx(0.8)
    assert part["per_volume_id"]["ed"]["mean_dice"]["value"] == 0.9
    assert part["per_volume_id"]["es"]["per_segment"]["organ"]["dice"]["value"] == 0.7


def test_accuracy_counts_the_findings_and_none_of_them() -> None:
    names = ("a", "b")
    cases = [
        case(0, finding("a", True, 0.9), finding("b", False, 0.6)),
        case(1, finding("a", False, 0.1), finding("b", True, 0.2)),
        case(2, finding("a", False, 0.1), finding("b", False, 0.2)),
        case(3, finding("a", None, 0.9), finding("b", False, 0.2)),
    ]
    part = summarise(cases, findings=names, is_exclusive=True)["diagnosis"]
    assert part["accuracy"]["value"] == pytest.approx(2 / 3)
    assert part["accuracy"]["n"] == 3
    assert part["confusion"]["classes"] == ["a", "b", "none"]
    assert part["confusion"]["matrix"] == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert "accuracy" not in summarise(cases, findings=names)["diagnosis"]


def test_of_several_decided_findings_the_most_probable_is_the_class() -> None:
    findings = [finding("a", None, 0.7), finding("b", None, 0.8)]
    assert exclusive_class(findings, ("a", "b"), of_truth=False) == "b"
    assert exclusive_class(findings, ("a", "b"), of_truth=True) is None


@pytest.mark.parametrize(
    ("truths", "expected"),
    [
        ({}, None),
        ({"a": False}, None),
        ({"a": False, "b": None}, None),
        ({"a": False, "b": False}, "none"),
        ({"b": True}, "b"),
        ({"a": False, "b": False, "other": True}, "none"),
    ],
)
def test_the_true_class_is_unknown_unless_a_finding_is_present_or_all_are_absent(
    truths: dict[str, bool | None], expected: str | None
) -> None:
    findings = [finding(name, truth, 0.1) for name, truth in truths.items()]
    assert exclusive_class(findings, ("a", "b"), of_truth=True) == expected


def test_a_case_without_answers_enters_no_class() -> None:
    cases = [case(0, finding("a", True, 0.2), finding("b", False, 0.1)), case(1)]
    part = summarise(cases, findings=("a", "b"), is_exclusive=True)
    assert part["diagnosis"]["accuracy"]["value"] == 0
    assert part["diagnosis"]["accuracy"]["n"] == 1
    assert part["uncertainty"]["classes"]["by_probability"]["n"] == 1


def test_macro_auroc_leaves_out_what_has_one_truth_value() -> None:
    cases = [case(n, finding("a", n > 2, n / 10), finding("b", False, 0.1)) for n in range(6)]
    part = summarise(cases, findings=("a", "b"))["diagnosis"]
    assert part["macro_auroc"]["value"] == 1.0
    assert part["per_finding"]["a"]["auroc"]["ci95"] == [1.0, 1.0]
    assert part["per_finding"]["b"]["auroc"]["value"] is None
    assert part["per_finding"]["b"]["n_absent"] == 6


def test_macro_auroc_draws_as_one_table_of_all_findings_does() -> None:
    """To the last digit, though its weights are drawn per patient and not per answer."""
    rng = np.random.default_rng(5)
    cases = [
        case(
            n, *(finding(name, (True, False, None)[rng.integers(3)], rng.random()) for name in "ab")
        )
        for n in range(40)
    ]
    tables = [
        [(one.patient_id, part.truth, part.probability) for one in cases for part in one.findings
         if part.name == name and part.truth is not None]
        for name in "ab"
    ]  # fmt: skip
    weights = patient_weights([patient for table in tables for patient, _, _ in table])
    parts = np.split(weights, [len(tables[0])], axis=1)
    aurocs = [
        weighted_auroc(part, np.array([row[1] for row in table]), np.array([r[2] for r in table]))
        for part, table in zip(parts, tables, strict=True)
    ]
    expected = np.percentile(mean_of_means(aurocs), [2.5, 97.5]).tolist()
    assert summarise(cases, findings="ab")["diagnosis"]["macro_auroc"]["ci95"] == expected


def test_many_findings_and_segments_need_the_memory_of_their_patients() -> None:
    names = [f"n{number}" for number in range(20)]
    cases = [
        case(n, *(finding(name, n % 2 == 0, 0.5) for name in names),
             *(segment(name, 0.5) for name in names))
        for n in range(100)
    ]  # fmt: skip
    tracemalloc.start()
    brief_diagnosis(cases, names=names)
    brief_segmentation(cases)
    compare_scores(cases, cases, findings=names)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2000 * 20 * 100 * 8  # bytes of one weight per replicate, name and case


def test_predictions_of_unknown_findings_enter_no_number() -> None:
    def cases(unknown: float) -> list[CaseScore]:
        scores = np.random.default_rng(3).random(12)
        truths = [True, False, None] * 4
        return [
            case(n, finding("a", t, unknown if t is None else float(s)))
            for n, (t, s) in enumerate(zip(truths, scores, strict=True))
        ]

    assert summarise(cases(0.01), findings=("a",), is_exclusive=True) == summarise(
        cases(0.99), findings=("a",), is_exclusive=True
    )


def test_evidence_is_asked_only_where_the_finding_is_present() -> None:
    hit = replace(finding("a", True, 0.9), pointing_game=1.0, energy_in_segments=0.4)
    miss = replace(hit, pointing_game=0.0, energy_in_segments=None)
    absent = replace(hit, truth=False)
    cases = [case(n, part) for n, part in enumerate((hit, miss, absent))]
    evidence = summarise(cases, findings=("a",))["evidence"]["per_finding"]["a"]
    assert (evidence["pointing_game"]["value"], evidence["pointing_game"]["n"]) == (0.5, 2)
    assert (evidence["energy_in_segments"]["value"], evidence["energy_in_segments"]["n"]) == (
        0.4,
        1,
    )


def test_nothing_to_measure_gives_no_numbers() -> None:
    part = summarise([case(0)], findings=())
    assert part["segmentation"]["mean_dice"]["value"] is None
    assert part["diagnosis"]["macro_auroc"]["value"] is None


def test_volumes_are_measured_in_millilitres() -> None:
    geometry = Geometry.from_parts(shape=(10, 10, 10), spacing_mm=(2, 2, 5))
    truth = np.zeros(geometry.shape, dtype=bool)
    truth[:5] = True
    score = score_segment(truth, truth, geometry=geometry, volume_id="ed", segment="organ")
    assert score.truth_ml == pytest.approx(500 * 20 / 1000)
    assert score.dice == 1.0
    assert not score.is_missed


def test_volume_errors_and_limits_of_agreement_are_those_of_the_paper() -> None:
    errors = [-4.0, 0.0, 1.0, 3.0]
    cases = [
        case(n, replace(segment("organ", 0.9), truth_ml=10.0, predicted_ml=10.0 + error))
        for n, error in enumerate(errors)
    ]
    organ = summarise(cases, findings=())["segmentation"]["per_segment"]["organ"]
    assert organ["volume_error_ml"]["value"] == 0.0
    assert organ["volume_error_percent"]["value"] == 0.0
    agreement = organ["bland_altman"]
    sd = float(np.std(errors, ddof=1))
    assert agreement["sd_ml"]["value"] == pytest.approx(sd)
    assert agreement["upper_ml"]["value"] == pytest.approx(1.96 * sd)
    assert agreement["lower_ml"]["value"] == pytest.approx(-1.96 * sd)
    low, high = agreement["upper_ml"]["ci95"]
    assert low < agreement["upper_ml"]["value"] < high


def test_volumes_of_nothing_agree_on_nothing() -> None:
    empty = replace(segment("organ", None), truth_ml=0.0, predicted_ml=0.0)
    invented = replace(segment("organ", 0.0), truth_ml=0.0, predicted_ml=5.0)
    part = summarise([case(0, empty), case(1, invented)], findings=())["segmentation"]
    organ = part["per_segment"]["organ"]
    assert (organ["volume_error_ml"]["value"], organ["volume_error_ml"]["n"]) == (5.0, 1)
    assert organ["volume_error_percent"]["value"] is None
    assert organ["bland_altman"]["upper_ml"]["value"] is None


def test_lesions_are_counted_over_all_volumes() -> None:
    def scored(n: int, counts: LesionCounts) -> CaseScore:
        return case(n, replace(segment("lesion", 0.5), lesions=counts))

    cases = [scored(0, LesionCounts(3, 2, 2, 1.2)), scored(1, LesionCounts(0, 2, 0, 0.0))]
    lesions = summarise(cases, findings=())["segmentation"]["per_segment"]["lesion"]["lesions"]
    assert lesions["f1"]["value"] == pytest.approx(2 * 2 / (3 + 4))
    assert lesions["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert lesions["precision"]["value"] == pytest.approx(2 / 4)
    assert lesions["panoptic_quality"]["value"] == pytest.approx(1.2 / 3.5)
    assert lesions["false_positives_per_volume"]["value"] == 1.0
    organ = summarise([case(0, segment("organ", 1.0))], findings=())["segmentation"]
    assert "lesions" not in organ["per_segment"]["organ"]


def test_sensitivity_by_the_size_of_the_lesion() -> None:
    counts = [
        LesionCounts(3, 2, 2, 1.2, (4.0, 12.0, 25.0), (False, True, True)),
        LesionCounts(2, 1, 1, 0.8, (4.9, 5.0), (True, False)),
    ]
    cases = [case(n, replace(segment("lesion", 0.5), lesions=one)) for n, one in enumerate(counts)]
    lesions = summarise(cases, findings=())["segmentation"]["per_segment"]["lesion"]["lesions"]
    found = {
        (band["from_mm"], band["to_mm"]): (band["sensitivity"]["value"], band["sensitivity"]["n"])
        for band in lesions["sensitivity_by_diameter"]
    }
    assert found == {(0, 5): (0.5, 2), (5, 10): (0.0, 1), (10, 20): (1.0, 1), (20, None): (1.0, 1)}


def test_balanced_accuracy_and_confusion_of_one_finding() -> None:
    probabilities = [0.9, 0.8, 0.2, 0.1, 0.7, 0.3]
    truths = [True, True, True, True, False, False]
    cases = [
        case(n, finding("a", truth, p))
        for n, (truth, p) in enumerate(zip(truths, probabilities, strict=True))
    ]
    part = summarise(cases, findings=("a",))["diagnosis"]["per_finding"]["a"]
    decisions = [p >= 0.5 for p in probabilities]
    assert part["balanced_accuracy"]["value"] == pytest.approx(
        balanced_accuracy_score(truths, decisions)
    )
    assert part["confusion"] == {"classes": ["present", "absent"], "matrix": [[2, 2], [1, 1]]}
    assert sum(row["n"] for row in part["reliability"]) == 6
    gap = sum(r["n"] * abs(r["frequency"] - r["mean_probability"]) for r in part["reliability"])
    assert part["ece"]["value"] == pytest.approx(gap / 6)


def test_balanced_accuracy_of_classes_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(5)
    truths, decided = generator.integers(0, 3, (2, 40))  # the third class is none of the findings
    cases = [
        case(
            n,
            FindingScore("a", bool(t == 0), 0.6, decision=bool(d == 0)),
            FindingScore("b", bool(t == 1), 0.6, decision=bool(d == 1)),
        )
        for n, (t, d) in enumerate(zip(truths, decided, strict=True))
    ]
    part = summarise(cases, findings=("a", "b"), is_exclusive=True)["diagnosis"]
    assert part["balanced_accuracy"]["value"] == pytest.approx(
        balanced_accuracy_score(truths, decided)
    )
    assert part["accuracy"]["value"] == pytest.approx(float((truths == decided).mean()))


def test_balanced_accuracy_looks_no_better_where_the_hard_class_was_not_drawn() -> None:
    wrong = FindingScore("a", True, 0.4, decision=False)
    right = FindingScore("a", False, 0.4, decision=False)
    cases = [case(0, wrong), *(case(n, right) for n in range(1, 12))]
    part = summarise(cases, findings=("a",), is_exclusive=True)["diagnosis"]
    assert part["balanced_accuracy"] == {"value": 0.5, "ci95": [0.5, 0.5], "n": 12}
