"""A case id is the name of a folder: which ids can be one, and which cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmtl.report.table import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["unusable_names"]

_RESERVED_NAMES = frozenset({"cases.csv", "failures.csv", "run.json"})


def unusable_names(case_ids: Iterable[str]) -> dict[int, Failure]:
    """Case ids that cannot be folders of their own, by their place in the given order."""
    seen: set[str] = set()
    refused: dict[int, Failure] = {}
    for place, case_id in enumerate(case_ids):
        if not _is_plain(case_id):
            refused[place] = _unusable(repr(case_id), "cannot be the name of a result folder")
        elif case_id in seen:
            refused[place] = _unusable(case_id, "is the name of an earlier case of this input")
        seen.add(case_id)
    return refused


def _is_plain(case_id: str) -> bool:
    is_plain = case_id.isprintable() and not set(case_id) & set('/\\:*?"<>|')
    return is_plain and not case_id.startswith(".") and case_id not in _RESERVED_NAMES | {""}


def _unusable(name: str, reason: str) -> Failure:
    return Failure(
        case_id="",
        what=name,
        stage="select",
        code="unusable-case-name",
        reason=f"unusable-case-name: it {reason}",
        advice="Rename the input file and run the command again.",
    )
