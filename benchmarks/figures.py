"""Plots of the records: each benchmark's seconds, memory or ratios as bars with their spread."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_NUMBER = r"([\d.]+)"
_MEASURED = re.compile(
    rf"^{_NUMBER} ?(s|GiB|MiB|kB|%)?(?: \({_NUMBER} to {_NUMBER}\))?(?:, {_NUMBER} (GiB))?"
)
_UNITS = {"s": "seconds", "GiB": "GiB", "": "ratio"}
_WIDTH_IN, _ROW_IN = 9.0, 0.3
_OURS, _OTHERS = "#0072B2", "#999999"  # Okabe and Ito
_RIVALS = ("nnU-Net", "pydicom", "SimpleITK", "MONAI", "TotalSegmentator", "niivue", "scipy")
MOST_BARS = 40


@dataclass(frozen=True)
class Bar:
    """One number of a record."""

    what: str
    value: float
    low: float
    high: float
    unit: str


def number_of(measured: str) -> float:
    """The first number of a measured value.

    Raises:
        ValueError: If it begins with none.
    """
    found = _MEASURED.match(measured)
    if found is None:
        raise ValueError(f"no number: {measured!r}")
    return float(found[1])


def bars_of(record: Mapping[str, Any]) -> list[Bar]:
    """The numbers of a record that a bar can show; peak memory is a bar of its own."""
    bars = []
    for row in record["rows"]:
        found = _MEASURED.match(row["measured"])
        unit = (found[2] or "") if found else None
        if found is None or unit not in _UNITS:
            continue
        value = float(found[1])
        low, high = float(found[3] or value), float(found[4] or value)
        bars.append(Bar(row["what"], value, low, high, unit or ""))
        if found[5]:
            gib = float(found[5])
            bars.append(Bar(row["what"], gib, gib, gib, "GiB"))
    return bars


def plot(record: Mapping[str, Any], folder: Path) -> list[tuple[str, Path]]:
    """One picture per unit; ratios only where there is nothing else. Equal records, equal bytes."""
    bars = bars_of(record)
    units = [unit for unit in ("s", "GiB") if sum(bar.unit == unit for bar in bars) > 1] or [""]
    pictures = []
    for unit in units:
        chosen = [bar for bar in bars if bar.unit == unit][:MOST_BARS]
        if len(chosen) < 2:
            continue
        name = f"{record['name']}-{_UNITS[unit].lower()}"
        path = folder / f"{name}.png"
        _draw(chosen, path, unit=_UNITS[unit])
        pictures.append((f"{record['name']}, {_UNITS[unit]}", path))
    return pictures


def _is_a_rival(bar: Bar) -> bool:
    return any(bar.what.startswith(one) or f", {one}" in bar.what for one in _RIVALS)


def _draw(bars: Sequence[Bar], path: Path, *, unit: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, 0.8 + _ROW_IN * len(bars)), layout="constrained", dpi=100)
    axes = figure.subplots()
    places = range(len(bars), 0, -1)
    colours = [_OTHERS if _is_a_rival(bar) else _OURS for bar in bars]
    errors = [[bar.value - bar.low for bar in bars], [bar.high - bar.value for bar in bars]]
    axes.barh(list(places), [bar.value for bar in bars], xerr=errors, color=colours, capsize=2)
    axes.set_yticks(list(places), [bar.what[:80] for bar in bars], fontsize=7)
    for place, bar in zip(places, bars, strict=True):
        axes.annotate(f" {bar.value:g}", (bar.high, place), va="center", fontsize=7)
    values = [bar.value for bar in bars if bar.value > 0]
    if values and max(values) > 30 * min(values):
        axes.set_xscale("log")
    axes.set_xlabel(f"{unit} (grey: others)", fontsize=8)
    axes.margins(x=0.15)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
