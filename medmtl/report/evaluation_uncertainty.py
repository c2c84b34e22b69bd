"""Uncertainty in an evaluation report: what is gained by leaving doubtful cases to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.report.html_figure import inline_figure
from medmtl.report.html_markup import join, tag
from medmtl.report.html_page import Section, interval_cell, number_text, paragraph, table
from medmtl.report.reliability_plot import risk_coverage_figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from medmtl.report.html_markup import Html

__all__ = ["uncertainty_section"]

_ORDERS = {
    "by_probability": "by probability",
    "by_spread": "by spread",
    "by_pairwise_dice": "by agreement of the masks",
}


def uncertainty_section(record: Mapping[str, Any]) -> Section | None:
    """Curves and tables; None where nothing was measured."""
    part = record.get("uncertainty") or {}
    answers = dict(part.get("findings", {}))
    if part.get("classes"):
        answers["all findings"] = part["classes"]
    blocks = [
        _curves(answers, risk="share of wrong decisions", name="risk-findings"),
        _curves(part.get("segments", {}), risk="1 - Dice", name="risk-segments"),
        _sets(answers),
    ]
    shown = [block for block in blocks if block is not None]
    return Section("uncertainty", "Uncertainty", join(shown)) if shown else None


def _curves(parts: Mapping[str, Any], *, risk: str, name: str) -> Html | None:
    curves = {label: curve for label, curve in _named(parts) if curve["n"] > 1}
    if not curves:
        return None
    figure = inline_figure(
        risk_coverage_figure(curves, risk=risk),
        name=name,
        alt=f"Risk ({risk}) against the share of cases answered",
        caption="The most certain cases first: a curve that rises to the right means that the "
        "doubtful cases are the wrong ones. Its last point is the risk over all cases.",
    )
    rows = [
        (label, str(curve["n"]), number_text(curve["aurc"]), number_text(curve["excess_aurc"]))
        for label, curve in curves.items()
    ]
    heads = ["curve", "n", "AURC", "excess over the best order"]
    return join([tag("h3", f"Risk and coverage: {risk}"), figure, table(heads, rows)])


def _named(parts: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, part in parts.items():
        for key, words in _ORDERS.items():
            if key in part:
                yield f"{name.replace('_', ' ')}, {words}", part[key]


def _sets(parts: Mapping[str, Any]) -> Html | None:
    rows = [
        (
            name.replace("_", " "),
            interval_cell(part["prediction_sets"]["holds_truth"]),
            interval_cell(part["prediction_sets"]["abstains"]),
        )
        for name, part in parts.items()
        if "prediction_sets" in part
    ]
    if not rows:
        return None
    note = (
        "Share of prediction sets that hold the truth, to be compared with the coverage that the "
        "model states, and share of cases without a single answer."
    )
    heads = ["finding", "set holds the truth", "abstains"]
    return join([tag("h3", "Prediction sets"), table(heads, rows), paragraph(note, soft=True)])
