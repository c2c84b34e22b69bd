"""Reviews that a blind reader has begun: they tell nothing, and show nothing, until complete."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.services.case_row import CaseRow
    from app.services.review_log import Entry
    from medmtl.core.review import Review

__all__ = ["half_read_cases", "is_half_read", "is_whole"]


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def is_whole(review: Review, findings: Iterable[_Named]) -> bool:
    """Whether a review answers every finding of its case."""
    answered = {verdict.finding for verdict in review.findings}
    return {finding.name for finding in findings} <= answered


def is_half_read(entry: Entry, row: CaseRow) -> bool:
    """Whether a blind review of this case still lacks a finding."""
    return entry.is_blind and not is_whole(entry.review, row.findings)


def half_read_cases(entries: Iterable[Entry], cases: Mapping[str, CaseRow]) -> frozenset[str]:
    """Keys of the cases of such reviews, under every name that the same answer has.

    Args:
        entries: Of one reader.
        cases: All of them, by key.
    """
    blind: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.is_blind:
            blind[entry.case.place, entry.case.model_sha256].append(entry)
    if not blind:
        return frozenset()
    return frozenset(
        key
        for key, row in cases.items()
        for place in (row.identity, key)
        for entry in blind.get((place, row.model_sha256), ())
        if entry.case.is_about(row.answer) and is_half_read(entry, row)
    )
