"""A link reopens what it names, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from app.services.case_view import CaseView, view_of_case
from app.services.places import Link, link_from_parameters
from tests.app.results import case_record, finding


@pytest.fixture
def case() -> CaseView:
    return view_of_case(case_record("a", finding("nodule", 0.9)), None)


def test_a_link_reads_back_as_it_was_written(case: CaseView) -> None:
    link = Link("nodule", "ct", (1.5, -20.0, 300.2), "axial", (-160.0, 240.0))
    assert link_from_parameters(link.as_parameters(), case) == link
    assert link_from_parameters(Link().as_parameters(), case) == Link()


@pytest.mark.parametrize(
    "parameters",
    [
        {"finding": "other"},
        {"volume": "../../etc"},
        {"layout": "<script>"},
        {"at": "1,2"},
        {"at": "1,2,nan"},
        {"at": "1,2,1e99"},
        {"at": "a,b,c"},
        {"window": "240,-160"},
        {"window": "5"},
    ],
)
def test_what_is_not_of_this_case_is_left_out(case: CaseView, parameters: dict[str, Any]) -> None:
    assert link_from_parameters(parameters, case) == Link()
