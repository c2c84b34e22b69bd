"""Plots of an evaluation from plain numbers, as figures without any global state of pyplot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    Points = tuple[Sequence[float], Sequence[float]]

__all__ = [
    "agreement_figure",
    "confusion_figure",
    "curves_figure",
    "efficiency_figure",
    "forest_figure",
    "strip_figure",
]

# Okabe and Ito (2008), those that stand out on black and on white; told apart by colour-blind eyes.
_COLOURS = ("#2b8cd6", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#8c8c8c")
_PANEL_INCHES = 3.1
_COLUMNS = 3
_MANY = 1500  # more dots than this become a picture inside the SVG


def strip_figure(values: Mapping[str, Sequence[float]], *, label: str) -> Figure:
    """One row per name: every value as a dot, the quartiles as a line, the median as a bar.

    Args:
        values: Name to values; a name without values is left out.
        label: Of the axis of values.
    """
    known = {name: list(numbers) for name, numbers in values.items() if len(numbers)}
    figure = Figure(figsize=(6.6, 0.7 + 0.42 * max(1, len(known))), layout="constrained")
    axes = figure.add_subplot()
    generator = np.random.default_rng(1)  # only where the dots lie across
    rows = range(len(known), 0, -1)
    for row, numbers in zip(rows, known.values(), strict=True):
        noise = generator.uniform(-0.22, 0.22, len(numbers))
        _dots(axes, numbers, row + noise, _COLOURS[0])
        low, middle, high = np.quantile(numbers, (0.25, 0.5, 0.75))
        axes.plot([low, high], [row, row], color=_COLOURS[3], linewidth=2)
        axes.plot([middle, middle], [row - 0.3, row + 0.3], color=_COLOURS[3], linewidth=2)
    axes.set_yticks(list(rows), [_plain(name) for name in known])
    axes.set_xlabel(label)
    return _quiet(figure)


def agreement_figure(
    volumes_ml: Mapping[str, Points], limits_ml: Mapping[str, Mapping[str, float | None]]
) -> Figure:
    """Bland-Altman: difference of predicted and true volume against their mean, per name.

    Args:
        volumes_ml: Name to (true, predicted) volumes.
        limits_ml: Name to `bias_ml`, `lower_ml` and `upper_ml`; a line is left out where None.
    """
    figure, panels = _panels(list(volumes_ml))
    for panel, (name, (true, predicted)) in zip(panels, volumes_ml.items(), strict=True):
        truth, answer = np.asarray(true, dtype=float), np.asarray(predicted, dtype=float)
        _dots(panel, (truth + answer) / 2, answer - truth, _COLOURS[0])
        for key, style in (("bias_ml", "-"), ("lower_ml", "--"), ("upper_ml", "--")):
            value = limits_ml[name].get(key)
            if value is not None:
                panel.axhline(value, color=_COLOURS[3], linestyle=style, linewidth=1.2)
                panel.annotate(f"{value:.1f}", (1, value), xycoords=("axes fraction", "data"),
                               ha="right", va="bottom", fontsize=8)  # fmt: skip
        panel.axhline(0, color="#8c8c8c", linewidth=0.6)
        panel.set_title(_plain(name), fontsize=10)
        panel.set_xlabel("mean of both, mL")
        panel.set_ylabel("predicted - true, mL")
    return _quiet(figure)


def curves_figure(
    curves: Mapping[str, Points], *, labels: tuple[str, str], has_diagonal: bool
) -> Figure:
    """ROC or precision-recall curves in one square.

    Args:
        curves: Legend to horizontal and vertical positions in 0..1.
        labels: Of the horizontal and the vertical axis.
        has_diagonal: Whether chance lies on the diagonal, as it does for ROC.
    """
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    if has_diagonal:
        axes.plot([0, 1], [0, 1], color="#8c8c8c", linestyle="--", linewidth=1)
    for number, (name, (across, up)) in enumerate(curves.items()):
        turn, place = divmod(number, len(_COLOURS))
        style = ("-", "--", ":", "-.")[turn % 4]
        axes.step(across, up, where="post", color=_COLOURS[place], linestyle=style,
                  label=_plain(name))  # fmt: skip
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set(xlabel=labels[0], ylabel=labels[1])
    if curves:
        axes.legend(fontsize=7.5, loc="lower right" if has_diagonal else "lower left")
    return _quiet(figure)


def confusion_figure(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> Figure:
    """Counts with the share of each row as the tint; rows are truth."""
    counts = np.asarray(matrix, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 1.7 + 0.62 * len(classes)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.add_subplot()
    for row, column in np.ndindex(*counts.shape):
        colour = _COLOURS[2] if row == column else _COLOURS[3]
        axes.add_patch(_tile(row, column, colour, float(shares[row, column])))
        text = f"{counts[row, column]:.0f}" if counts[row, column] else "0"
        axes.text(column, row, text, ha="center", va="center", fontsize=10)
    names = [_plain(name) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal")
    axes.set(xlabel="decided", ylabel="truth")
    return _quiet(figure)


def forest_figure(
    rows: Sequence[tuple[str, Mapping[str, Any]]], *, label: str, reference: float | None = None
) -> Figure:
    """One row per name: value and interval, such as a metric of each group.

    Args:
        rows: Name and `{"value", "ci95"}` of metrics.json; a row without value is left out.
        label: Of the axis of values.
        reference: Where to draw a line, such as the value over all cases.
    """
    known = [(name, part) for name, part in rows if part.get("value") is not None]
    figure = Figure(figsize=(6.4, 0.8 + 0.32 * max(1, len(known))), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, part) in enumerate(reversed(known)):
        low, high = part.get("ci95") or (part["value"], part["value"])
        axes.plot([low, high], [place, place], color=_COLOURS[0], linewidth=2)
        axes.plot([part["value"]], [place], marker="o", color=_COLOURS[0])
    if reference is not None:
        axes.axvline(reference, color="#8c8c8c", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(known)), [_plain(name) for name, _ in reversed(known)], fontsize=8.5)
    axes.set_ylim(-0.6, len(known) - 0.4)
    axes.set_xlabel(label)
    return _quiet(figure)


def efficiency_figure(
    lines: Mapping[str, Sequence[tuple[float, Mapping[str, Any]]]], *, label: str
) -> Figure:
    """A metric against the share of labels, a line per name, intervals as bars.

    Args:
        lines: Name to (share in 0..1, `{"value", "ci95"}`), shares ascending.
        label: Of the axis of values.
    """
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        across = [100 * share + 0.8 * number for share, _ in points]  # bars beside each other
        axes.plot(across, [part["value"] for _, part in points], marker="o", color=colour,
                  label=_plain(name))  # fmt: skip
        for place, (_, part) in zip(across, points, strict=True):
            low, high = part.get("ci95") or (part["value"], part["value"])
            axes.plot([place, place], [low, high], color=colour, linewidth=1.2, alpha=0.7)
    axes.set(xlabel="share of the labels, %", ylabel=label)
    if lines:
        axes.legend(fontsize=8)
    return _quiet(figure)


def _panels(names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    columns = max(1, min(_COLUMNS, len(names)))
    rows = max(1, -(-len(names) // columns))
    size = (columns * _PANEL_INCHES, rows * 0.85 * _PANEL_INCHES)
    figure = Figure(figsize=size, layout="constrained")
    return figure, [figure.add_subplot(rows, columns, n) for n in range(1, len(names) + 1)]


def _dots(axes: Axes, across: Any, up: Any, colour: str) -> None:
    many = len(across) > _MANY
    axes.scatter(across, up, s=9, alpha=0.55, color=colour, linewidths=0, rasterized=many)


def _tile(row: int, column: int, colour: str, share: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, alpha=0.75 * share,
                     edgecolor="#8c8c8c", linewidth=0.5)  # fmt: skip


def _quiet(figure: Figure) -> Figure:
    """No box around the data, a light grid: nothing that is not a number."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(visible=True, color="#8c8c8c", alpha=0.25, linewidth=0.6)
    return figure


def _plain(name: str) -> str:
    """Words instead of underscores; a dollar sign would start a formula."""
    return name.replace("_", " ").replace("$", r"\$")
