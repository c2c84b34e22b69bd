"""Where images from an archive lie: names are hashes, a file is whole or not there."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TYPE_CHECKING

from medmtl.core.durable import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["image_path", "short_hash", "whole_file"]


def short_hash(*uids: str) -> str:
    """A name for UIDs that may stand in file names, logs and errors."""
    return hashlib.sha256("\n".join(uids).encode()).hexdigest()[:16]


def image_path(root: Path, *, study_uid: str, series_uid: str, sop_uid: str) -> Path:
    """`ROOT/<study>/<series>/<instance>.dcm`."""
    return root / short_hash(study_uid) / short_hash(series_uid) / f"{short_hash(sop_uid)}.dcm"


@contextmanager
def whole_file(path: Path, *, aside: Path) -> Iterator[IO[bytes]]:
    """Write a file that appears when the block ends, on the disk; nothing is left of a failure.

    Args:
        path: The file; its folders are made.
        aside: An existing folder of the same file system, for the file while it is not whole.

    Raises:
        OSError: If it cannot be written.
    """
    part = None
    try:
        with NamedTemporaryFile(dir=aside, suffix=".part", delete=False) as stream:
            part = Path(stream.name)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        path.parent.mkdir(parents=True, exist_ok=True)
        part.replace(path)
        part = None
        sync_folder(path.parent)
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
