"""Which folders hold what medmtl made: their masks, maps and DICOM objects are no images."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["holds_results", "is_below", "result_folders"]

_NOTES = ".medmtl"
"""Where a run keeps its notes; there from its first moment, before any table."""
_MARKS = frozenset({_NOTES, "run.json"})
_EVALUATION = "metrics.json"
"""`medmtl evaluate` keeps notes too, but holds no case."""
_CASE = "case.json"


def holds_results(names: Collection[str]) -> bool:
    """Whether a folder with these entries is the result folder of a run."""
    return not _MARKS.isdisjoint(names) and _EVALUATION not in names


def result_folders(files: Iterable[str]) -> frozenset[str]:
    """Result folders among files, and single cases that were copied out of one.

    Args:
        files: Paths with "/", relative to one place.

    Returns:
        Each by its path, "" for the place itself; none lies below another.
    """
    entries: dict[str, set[str]] = {}
    for file in files:
        *parents, name = file.split("/")
        if name in _MARKS or name in (_EVALUATION, _CASE):
            entries.setdefault("/".join(parents), set()).add(name)
        if _NOTES in parents:
            entries.setdefault("/".join(parents[: parents.index(_NOTES)]), set()).add(_NOTES)
    found = {folder for folder, names in entries.items() if _CASE in names or holds_results(names)}
    return frozenset(folder for folder in found if not is_below(folder, found - {folder}))


def is_below(path: str, folders: Collection[str]) -> bool:
    """Whether a path is one of these folders, or lies in one; all are relative to one place."""
    if "" in folders or path in folders:
        return True
    parts = path.split("/")
    return any("/".join(parts[:depth]) in folders for depth in range(1, len(parts)))
