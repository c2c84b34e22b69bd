"""Activation maps prepared before a reader asks for them."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from medmtl.core.errors import MedmtlError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from app.serving.sources import VolumeSource

__all__ = ["MapsAhead"]


class MapsAhead:
    """Prepares the maps of an image in one thread: reading one takes longer than a reader waits.

    Args:
        prepare: Makes one file, or finds it made.
    """

    def __init__(self, prepare: Callable[[VolumeSource], object]) -> None:
        self._prepare = prepare
        self._noted: dict[str, tuple[VolumeSource, ...]] = {}
        self._begun: set[str] = set()
        self._jobs: queue.SimpleQueue[VolumeSource] = queue.SimpleQueue()
        self._lock = threading.Lock()
        threading.Thread(target=self._work, daemon=True, name="maps-ahead").start()

    def note(self, image_key: str, maps: Iterable[VolumeSource]) -> None:
        """These belong to the image, whose own file comes first."""
        with self._lock:
            self._noted[image_key] = tuple(maps)
            is_late = image_key in self._begun
        if is_late:
            self.start(image_key)

    def start(self, image_key: str) -> None:
        """The image is there: now its maps."""
        with self._lock:
            self._begun.add(image_key)
            maps = self._noted.pop(image_key, ())
        for source in maps:
            self._jobs.put(source)

    def _work(self) -> None:
        while True:
            source = self._jobs.get()
            try:
                self._prepare(source)
            except (MedmtlError, OSError):
                continue  # whoever asks for it is told why
