"""Order and filters of the worklist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from app.services.case_row import CaseRow, row_of_case
from app.services.worklist import (
    Filters,
    browser_table,
    select_rows,
    without_answers,
    worklist_frame,
)
from tests.app.results import SHA256, case_record, finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.services.review_log import ReviewState


def _row(case_id: str, *findings: dict[str, Any], **further: Any) -> CaseRow:
    return row_of_case(case_record(case_id, *findings, **further), run="")


def _shown(
    rows: Sequence[CaseRow],
    *,
    reviews: dict[str, ReviewState] | None = None,
    order: Any = "urgent",
    **filters: Any,
) -> list[str]:
    known = {(key, SHA256, ""): state for key, state in (reviews or {}).items()}
    frame = worklist_frame(rows)
    return list(select_rows(frame, known, filters=Filters(**filters), order=order).index)


def test_urgency_is_the_place_between_threshold_and_certainty() -> None:
    # 0.6 over a threshold of 0.2 is half of the way to 1; 0.7 over 0.5 is two fifths.
    half = _row("half", finding("a", 0.6, threshold=0.2))
    less = _row("less", finding("a", 0.7, threshold=0.5))
    below = _row("below", finding("a", 0.1, threshold=0.2))
    assert half.urgency == pytest.approx(0.5)
    assert less.urgency == pytest.approx(0.4)
    assert below.urgency == pytest.approx(-0.5)
    assert _shown([below, less, half]) == ["half", "less", "below"]


def test_the_highest_of_several_findings_counts() -> None:
    both = _row("both", finding("a", 0.1), finding("b", 0.9))
    one = _row("one", finding("a", 0.8))
    assert _shown([one, both]) == ["both", "one"]


def test_a_signed_case_goes_to_the_end() -> None:
    rows = [_row("high", finding("a", 0.9)), _row("low", finding("a", 0.1))]
    assert _shown(rows, reviews={"high": "signed"}) == ["low", "high"]
    assert _shown(rows, reviews={"high": "started"}) == ["high", "low"]


def test_a_review_of_another_model_does_not_count() -> None:
    frame = worklist_frame([_row("a", finding("a", 0.9))])
    shown = select_rows(frame, {("a", "f" * 64, ""): "signed"}, filters=Filters(), order="case")
    assert not shown["is_signed"].any()


def test_a_signature_under_an_earlier_result_is_said_and_is_no_signature() -> None:
    row = _row("a", finding("a", 0.9))
    here = (row.identity, SHA256)
    for answer, state in ((row.answer, "● signed"), ("f" * 16, "◌ signed an earlier result")):
        shown = select_rows(
            worklist_frame([row]), {(*here, answer): "signed"}, filters=Filters(), order="case"
        )
        assert shown["review"].tolist() == [state]
        assert shown["is_signed"].tolist() == [answer == row.answer]


def test_a_case_without_its_answer_is_found_by_nothing_that_the_model_said() -> None:
    hidden = _row("hidden", finding("nodule", 0.1), flags={"activation-empty": "warning"})
    frame = without_answers(
        worklist_frame([hidden, _row("seen", finding("nodule", 0.9))]), {"hidden"}
    )

    def found(order: Any = "urgent", **filters: Any) -> list[str]:
        return list(select_rows(frame, {}, filters=Filters(**filters), order=order).index)

    assert found() == ["hidden", "seen"]  # with another answer, too
    assert found("uncertain") == ["hidden", "seen"]
    assert found(text="hidden torso") == ["hidden"]
    assert found(text="empty") == found(is_flagged=True) == []
    assert found(finding="nodule") == ["seen"]


def test_the_most_uncertain_is_first_and_an_unknown_spread_last() -> None:
    rows = [
        _row("sure", finding("a", 0.9, uncertainty={"std": 0.01})),
        _row("unknown", finding("a", 0.9)),
        _row("doubtful", finding("a", 0.5, uncertainty={"std": 0.2})),
    ]
    assert _shown(rows, order="uncertain") == ["doubtful", "sure", "unknown"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["a", "b", "c"]),
        ({"text": "nodule"}, ["a"]),
        ({"text": "LUNG a"}, ["a"]),
        ({"text": "activation empty"}, ["b"]),
        ({"text": "nodule empty"}, []),
        ({"text": "[("}, []),
        ({"finding": "renal_cyst"}, ["c"]),
        ({"finding": "never_heard_of"}, []),
        ({"is_flagged": True}, ["b"]),
        ({"models": ("torso",)}, ["a", "b", "c"]),
        ({"models": ("other",)}, []),
        ({"states": ("signed",)}, ["b"]),
        ({"states": ("open", "signed")}, ["a", "b", "c"]),
    ],
)
def test_filters(filters: dict[str, Any], expected: list[str]) -> None:
    rows = [
        _row("a", finding("lung_nodule", 0.9)),
        _row("b", finding("lung_nodule", 0.1), flags={"activation-empty": "warning"}),
        _row("c", finding("renal_cyst", 0.9), flags={"cine": "info"}),
    ]
    assert _shown(rows, reviews={"b": "signed"}, order="case", **filters) == expected


def test_a_finding_that_a_model_does_not_know_is_empty_and_not_zero() -> None:
    frame = worklist_frame([_row("a", finding("x", 0.0)), _row("b", finding("y", 1.0))])
    assert frame.loc["a", "p:x"] == 0.0
    assert frame["p:x"].isna().tolist() == [False, True]


def test_the_browser_is_sent_the_same_cells_and_a_repeated_text_once() -> None:
    frame = worklist_frame([_row(f"c{n}", finding("a", 0.1 * n)) for n in range(9)])
    columns = ["case", "present", "p:a", "date"]
    sent = browser_table(frame, columns)
    assert sent.to_pandas().astype(object).values.tolist() == frame[columns].values.tolist()
    assert "present" in sent.column_names
    assert str(sent.schema.field("present").type).startswith("dictionary")
    assert not str(sent.schema.field("case").type).startswith("dictionary")
