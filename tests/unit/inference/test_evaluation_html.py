"""report.html from scores alone: what was not measured has no section, and nothing breaks."""

from __future__ import annotations

import pytest

from medmtl.core.labels import FindingSpec, LabelSchema, SegmentSpec
from medmtl.core.prediction import ModelIdentity
from medmtl.data.cases import Manifest
from medmtl.inference.evaluation_html import report_page
from medmtl.inference.evaluation_report import FEW_CASES, metrics_record
from medmtl.metrics.scores import CaseScore, FindingScore, SegmentScore
from medmtl.report.table import Failure

SCHEMA = LabelSchema(segments=(SegmentSpec(1, "organ"),), findings=(FindingSpec("ill"),))
MODEL = ModelIdentity("m", "1", "0" * 64)


def page(*results: CaseScore | Failure) -> str:
    manifest = Manifest("tiny", "CC0", "nobody", "generated", "CT", SCHEMA, ())
    record = metrics_record(
        results, model=MODEL, manifest=manifest, manifest_sha256="1" * 64, split="test",
        tolerance_mm=2.0,
    )  # fmt: skip
    return report_page(record, results)


def with_finding(number: int, *, truth: bool | None, probability: float) -> CaseScore:
    finding = FindingScore("ill", truth, probability, decision=probability > 0.5)
    return CaseScore(f"c{number}", f"p{number}", findings=(finding,))


def with_mask(number: int, dice: float) -> CaseScore:
    part = SegmentScore("ct", "organ", dice, 1.0, dice, False, truth_ml=5.0, predicted_ml=6.0)
    return CaseScore(f"c{number}", f"p{number}", segments=(part,))


def test_diagnosis_without_masks() -> None:
    text = page(*(with_finding(n, truth=n % 2 == 0, probability=n / 10) for n in range(10)))
    assert ">Diagnosis</h2>" in text
    assert ">Segmentation</h2>" not in text
    first = text[text.index("Most confident wrong") :]
    assert first.index("<b>c0</b>") < first.index("<b>c9</b>") < first.index("<b>c4</b>")


def test_masks_without_diagnosis() -> None:
    text = page(with_mask(0, 0.9), with_mask(1, 0.4))
    assert ">Segmentation</h2>" in text
    assert ">Diagnosis</h2>" not in text
    assert text.index("<b>c1</b>") < text.index("<b>c0</b>")


def test_unknown_truth_is_never_wrong() -> None:
    text = page(with_finding(0, truth=None, probability=0.99))
    assert "wrong diagnoses" not in text
    assert "no known diagnosis was decided wrongly" in text


def test_cases_that_failed_are_listed_and_nothing_else_is_needed() -> None:
    text = page(Failure("c0", "c0", "read", "not-finite", "found <nan>", "Export again."))
    assert ">Failed cases</h2>" in text
    assert "found &lt;nan&gt;" in text
    assert "Only 0 cases" in text


@pytest.mark.parametrize(("cases", "is_warned"), [(FEW_CASES - 1, True), (FEW_CASES, False)])
def test_the_warning_ends_at_fifty_cases(cases: int, is_warned: bool) -> None:
    text = page(*(with_mask(n, 0.9) for n in range(cases)))
    assert ("cases were measured, fewer than 50" in text) == is_warned
