"""Plots of calibration and of selective answers, as figures without any global state of pyplot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

__all__ = ["reliability_figure", "risk_coverage_figure"]

_PANEL_INCHES = 3.2
_COLUMNS = 3
_DIAGONAL: dict[str, Any] = {"color": "0.6", "linestyle": "--", "linewidth": 1, "label": "perfect"}


def reliability_figure(curves: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> Figure:
    """One panel per finding: frequency against probability, with 95 % intervals.

    Args:
        curves: Finding to series ("before", "after", ...) to bins, each with `mean_probability`,
            `frequency`, `ci95` and `n`, as `metrics.reliability.ReliabilityBin.as_json` gives.
    """
    figure, panels = _panels(list(curves))
    for panel, (name, series) in zip(panels, curves.items(), strict=True):
        panel.plot([0, 1], [0, 1], **_DIAGONAL)
        for label, bins in series.items():
            _draw_bins(panel, label, bins)
        panel.set(title=_words(name), xlim=(0, 1), ylim=(0, 1), aspect="equal")
        panel.set(xlabel="probability", ylabel="share present")
        panel.legend(fontsize=7, loc="upper left")
    return figure


def risk_coverage_figure(curves: Mapping[str, Mapping[str, Any]], *, risk: str) -> Figure:
    """Risk against the share of cases that are answered, most certain first.

    Args:
        curves: Name to `coverage`, `risk` and `aurc`, as
            `metrics.risk_coverage.RiskCoverage.as_json` gives.
        risk: What the risk is, for the axis, such as "share of wrong decisions".
    """
    figure = Figure(figsize=(1.6 * _PANEL_INCHES, 1.2 * _PANEL_INCHES), layout="constrained")
    panel = figure.add_subplot()
    for name, curve in curves.items():
        label = f"{_words(name)}, AURC {curve['aurc']:.3f}"
        panel.step(curve["coverage"], curve["risk"], where="post", label=label)
    panel.set(xlabel="share of cases answered", ylabel=risk, xlim=(0, 1))
    panel.set_ylim(bottom=0)
    if curves:
        panel.legend(fontsize=7)
    return figure


def _panels(names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    columns = max(1, min(_COLUMNS, len(names)))
    rows = max(1, -(-len(names) // columns))
    size = (columns * _PANEL_INCHES, rows * _PANEL_INCHES)
    figure = Figure(figsize=size, layout="constrained")
    return figure, [figure.add_subplot(rows, columns, n) for n in range(1, len(names) + 1)]


def _draw_bins(panel: Axes, label: str, bins: Sequence[Mapping[str, Any]]) -> None:
    at = [one["mean_probability"] for one in bins]
    share = [one["frequency"] for one in bins]
    below = [max(0.0, one["frequency"] - one["ci95"][0]) for one in bins]
    above = [max(0.0, one["ci95"][1] - one["frequency"]) for one in bins]
    count = sum(one["n"] for one in bins)
    panel.errorbar(at, share, yerr=[below, above], marker="o", markersize=3, linewidth=1,
                   capsize=2, label=f"{label} (n = {count})")  # fmt: skip


def _words(name: str) -> str:
    return name.replace("_", " ")
