"""Files that are on the disk when a call returns, and never half of one under its final name."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["durable_file", "replace_file", "sync_folder"]


@contextmanager
def durable_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for writing; flushed to the disk when the block ends, removed if it fails."""
    try:
        with path.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder, so that a rename in it survives a power cut."""
    if os.name == "nt":  # Windows cannot open a folder; its renames are journalled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in one step: readers see the old content or the new, never a part.

    Several may write one path at the same time: one of their contents stands there afterwards,
    whole. What killed writers left beside it is removed.
    """
    aside = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    with durable_file(aside) as stream:
        stream.write(content)
    try:
        aside.replace(path)
    except FileNotFoundError:
        if not path.exists():
            raise
        # Another writer ended meanwhile and cleared ours: as if ours had come just before.
    _clear_left(path)
    sync_folder(path.parent)


def _clear_left(path: Path) -> None:
    """Whatever lies aside now was begun before this write ended, and its writer may lose it."""
    aside = re.compile(rf"\.{re.escape(path.name)}\.(?:[0-9a-f]{{32}}\.)?tmp")
    for name in os.listdir(path.parent):  # noqa: PTH208 - thousands of names, not of paths
        if aside.fullmatch(name):
            with suppress(OSError):  # Windows keeps what is open
                path.with_name(name).unlink()
