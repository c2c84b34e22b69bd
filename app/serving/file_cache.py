"""Files made once and kept while there is room; private to this process's user."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["FileCache"]


class FileCache:
    """Least recently used files go first. Safe to use from several threads.

    Args:
        folder: Where the files lie; only this process writes there.
        max_bytes: What they may take together; the newest file is always kept.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._makers: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, name: str, make: Callable[[Path], None]) -> Path:
        """The file called `name`, made by `make` where it is not there yet.

        Two callers of one name wait for one making; a failure leaves nothing behind.
        """
        path = self._folder / name
        with self._lock:
            maker = self._makers.setdefault(name, threading.Lock())
        with maker:
            if name not in self._sizes:
                make(path)
                self._sizes[name] = path.stat().st_size
            with self._lock:
                self._sizes.move_to_end(name)
                self._make_room()
        return path

    def _make_room(self) -> None:
        while sum(self._sizes.values()) > self._max_bytes and len(self._sizes) > 1:
            oldest, _ = self._sizes.popitem(last=False)
            (self._folder / oldest).unlink(missing_ok=True)
