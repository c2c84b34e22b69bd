"""Figures of calibration: one panel per finding, every series in the legend, no pyplot."""

from __future__ import annotations

import io

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medmtl.report.reliability_plot import reliability_figure, risk_coverage_figure

BINS = [
    {"mean_probability": 0.2, "frequency": 0.1, "ci95": [0.05, 0.3], "n": 10},
    {"mean_probability": 0.8, "frequency": 1.0, "ci95": [0.6, 0.9999], "n": 5},
]
CURVE = {"aurc": 0.125, "coverage": [0.5, 1.0], "risk": [0.0, 0.25]}


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_panel_per_finding(count: int) -> None:
    names = [f"finding_{n}" for n in range(count)]
    figure = reliability_figure({name: {"before": BINS, "after": BINS} for name in names})
    assert [panel.get_title() for panel in figure.axes] == [n.replace("_", " ") for n in names]
    for panel in figure.axes:
        texts = set(legend_texts(panel))
        assert texts == {"perfect", "before (n = 15)", "after (n = 15)"}
    assert len(png(figure)) > 1000


def test_risk_against_coverage() -> None:
    figure = risk_coverage_figure({"edema": CURVE}, risk="share of wrong decisions")
    (panel,) = figure.axes
    assert panel.get_ylabel() == "share of wrong decisions"
    assert legend_texts(panel) == ["edema, AURC 0.125"]
    assert len(png(figure)) > 1000
    assert len(png(risk_coverage_figure({}, risk="error"))) > 1000


def legend_texts(panel: Axes) -> list[str]:
    legend = panel.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
