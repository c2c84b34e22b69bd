"""The images of a data set against each other: another scale, the same image twice."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medmtl.data.check_image import Finding, ImageFacts

__all__ = ["FACTOR", "LEAST_IMAGES", "another_scale", "repeated"]

FACTOR = 100.0
"""Two orders of magnitude. Scanners, sequences and 8-bit exports of one modality differ by tens at
most; beyond a hundred it is another unit, a missing rescale slope or a damaged voxel."""

LEAST_IMAGES = 5
"""Of fewer images nobody can say which is the odd one."""

Key = tuple[str, str]
"""case_id and volume_id."""


def another_scale(facts: Mapping[Key, ImageFacts]) -> dict[Key, Finding]:
    """Images whose values are orders of magnitude away from the rest.

    Volumes of one `volume_id` (and modality, where stated) are compared, since sequences differ in
    scale. An image is reported
    where its spread (0.5th to 99.5th percentile) is more than `FACTOR` times above or below the
    median spread, or its largest absolute value more than `FACTOR` times above the median one. The
    median stands as long as less than half of the images are odd.
    """
    found: dict[Key, Finding] = {}
    kinds = {key: (key[1], fact.modality) for key, fact in facts.items()}
    for kind in sorted(set(kinds.values())):
        group = {key: fact for key, fact in facts.items() if kinds[key] == kind}
        if len(group) < LEAST_IMAGES:
            continue
        spread = median(fact.spread for fact in group.values())
        largest = median(fact.largest for fact in group.values())
        for key, fact in group.items():
            text = _odd(fact, spread=spread, largest=largest)
            if text:
                found[key] = ("extreme-intensity", text)
    return found


def _odd(fact: ImageFacts, *, spread: float, largest: float) -> str:
    if spread > 0 and not spread / FACTOR <= fact.spread <= spread * FACTOR:
        return (
            f"values spread over {fact.spread:.6g} (0.5th to 99.5th percentile), "
            f"{_times(fact.spread, spread)} the median of such volumes, {spread:.6g}"
        )
    if largest > 0 and fact.largest > largest * FACTOR:
        return (
            f"values reach {fact.largest:.6g}, {_times(fact.largest, largest)} the median "
            f"of such volumes, {largest:.6g}"
        )
    return ""


def _times(value: float, reference: float) -> str:
    return f"{value / reference:.3g} times"


def repeated(checksums: Mapping[Key, str]) -> dict[Key, Key]:
    """Images that occurred before, and where: later key to first key."""
    first: dict[str, Key] = {}
    again: dict[Key, Key] = {}
    for key, checksum in checksums.items():
        if checksum in first:
            again[key] = first[checksum]
        else:
            first[checksum] = key
    return again
