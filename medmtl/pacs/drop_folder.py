"""A folder into which studies are put: what nobody writes any more, and when that changed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["Dropped", "look_at"]


@dataclass(frozen=True)
class Dropped:
    """The folder at one moment.

    Attributes:
        settled: The entries of the folder (files, zips, subfolders) that are complete: name, and
            a digest that changes with its files.
        key: Of the settled entries and their content, for the journal.
        is_all: Whether every entry is complete.
    """

    settled: Mapping[str, str]
    key: str
    is_all: bool

    def holds(self, source_file: str) -> bool:
        """Whether a file, by its path relative to the folder, belongs to a complete entry."""
        return source_file.replace("\\", "/").split("/", 1)[0] in self.settled


def look_at(folder: Path, *, settle_s: float, now_s: float) -> Dropped:
    """Which entries had no file added or changed for a while, by the times the files carry.

    Args:
        folder: Where studies arrive; names that begin with a dot are left out, for copying tools
            write under such names.
        settle_s: How long nothing may have changed.
        now_s: Seconds since 1970.

    Raises:
        OSError: If the folder cannot be listed.
    """
    settled: dict[str, str] = {}
    is_all = True
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        facts = sorted(_facts(entry))
        newest_s = max((changed_ns for _, _, changed_ns in facts), default=0) / 1e9
        if facts and now_s - newest_s >= settle_s:
            settled[entry.name] = _digest(repr(facts))
        elif facts:
            is_all = False
    return Dropped(settled, f"folder:{_digest(repr((settled, is_all)))}", is_all)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _facts(entry: os.DirEntry[str]) -> Iterator[tuple[str, int, int]]:
    """Path, bytes and time of the last change of each file; a copied file keeps its own mtime.

    The change time of the inode is the later one, for it is set when a file arrives by a move or
    a copy that preserves times. On Windows it is the time of creation, which is as good.
    """
    paths = [entry.path] if entry.is_file() else _files(entry.path)
    for path in paths:
        try:
            facts = os.stat(path)  # noqa: PTH116 - as many calls as files
        except FileNotFoundError:
            continue  # removed between the listing and now
        yield path, facts.st_size, max(facts.st_mtime_ns, facts.st_ctime_ns)


def _files(folder: str) -> Iterator[str]:
    for base, _, names in os.walk(folder):
        yield from (os.path.join(base, name) for name in names)  # noqa: PTH118 - as above
