"""From probabilities to decisions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medmtl.core.labels import LabelSchema

__all__ = ["decide"]


def decide(
    schema: LabelSchema, probabilities: Mapping[str, float], thresholds: Mapping[str, float]
) -> dict[str, bool]:
    """Call each finding present or absent.

    A finding is present where its probability reaches its threshold. Where findings exclude each
    other, only the one with the largest ratio of probability to threshold can be; of equals, the
    first of the schema.

    Args:
        schema: Findings, and whether they exclude each other.
        probabilities: In 0..1, by finding name.
        thresholds: Operating point in (0, 1], by finding name.

    Returns:
        Decision by finding name, in schema order.

    Raises:
        ValueError: If a probability or a threshold is missing or out of range.
    """
    ratios = {name: _ratio(name, probabilities, thresholds) for name in schema.finding_names}
    decisions = {name: ratio >= 1 for name, ratio in ratios.items()}
    if not schema.findings_exclusive or not ratios:
        return decisions
    best = max(ratios, key=ratios.__getitem__)
    return {name: is_present and name == best for name, is_present in decisions.items()}


def _ratio(name: str, probabilities: Mapping[str, float], thresholds: Mapping[str, float]) -> float:
    probability, threshold = probabilities.get(name, math.nan), thresholds.get(name, math.nan)
    if not (0 <= probability <= 1 and 0 < threshold <= 1):
        message = (
            f"Finding {name}: needs a probability in 0..1 and a threshold in (0, 1]. "
            f"Found {probability} and {threshold}."
        )
        raise ValueError(message)
    return probability / threshold
