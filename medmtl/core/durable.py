"""Files that are on the disk when a call returns, and never half of one under its final name."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

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

    The file written aside has a fixed name, so a killed run leaves nothing that a later write does
    not take up; the caller keeps two writers of one path apart.
    """
    aside = path.with_name(f".{path.name}.tmp")
    with durable_file(aside) as stream:
        stream.write(content)
    aside.replace(path)
    sync_folder(path.parent)
