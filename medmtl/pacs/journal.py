"""What a watcher has seen and done: JSON lines that survive a kill at any moment.

A line is `{"key": "study:3f2a...", "state": "seen", "time_s": 1790000000.0}`. Keys are hashes and
case ids, never an identity. The last line of a key counts.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import OutputError, system_reason

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Entry", "Journal"]


@dataclass(frozen=True)
class Entry:
    """The last thing noted of a key; `time_s` in seconds since 1970."""

    state: str
    time_s: float


@dataclass(frozen=True, eq=False)
class Journal:
    """One file, one writer."""

    path: Path
    _entries: dict[str, Entry] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Read what is there and write it anew, without what a kill left half and what is past.

        Raises:
            OutputError: If it cannot be read or written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = path.read_bytes().splitlines() if path.exists() else []
            entries = dict(filter(None, map(_read, lines)))
            aside = path.with_suffix(".tmp")
            _write(aside, "".join(_line(key, entry) for key, entry in entries.items()), mode="wb")
            aside.replace(path)
        except OSError as error:
            raise _not_written(error) from error
        return cls(path, entries)

    def state(self, key: str) -> Entry | None:
        """The last that was noted of a key."""
        return self._entries.get(key)

    def keys(self, *, prefix: str, state: str) -> tuple[str, ...]:
        """The keys in a state, in the order in which they came first."""
        return tuple(
            key
            for key, entry in self._entries.items()
            if entry.state == state and key.startswith(prefix)
        )

    def note(self, key: str, state: str, *, time_s: float) -> None:
        """Note a state; it is on the disk when this returns. Nothing happens where it is the state.

        Raises:
            OutputError: If it cannot be written.
        """
        known = self._entries.get(key)
        if known is not None and known.state == state:
            return
        entry = Entry(state, time_s)
        try:
            _write(self.path, _line(key, entry), mode="ab")
        except OSError as error:
            raise _not_written(error) from error
        self._entries[key] = entry


def _line(key: str, entry: Entry) -> str:
    return json.dumps({"key": key, "state": entry.state, "time_s": entry.time_s}) + "\n"


def _read(line: bytes) -> tuple[str, Entry] | None:
    """An entry, or None for a line that a kill left half."""
    try:
        record: dict[str, Any] = json.loads(line)
        return str(record["key"]), Entry(str(record["state"]), float(record["time_s"]))
    except (ValueError, TypeError, KeyError):
        return None


def _write(path: Path, text: str, *, mode: str) -> None:
    with path.open(mode) as stream:
        stream.write(text.encode())
        stream.flush()
        os.fsync(stream.fileno())


def _not_written(error: OSError) -> OutputError:
    return OutputError(
        f"The watcher's journal could not be written: {system_reason(error)}. Free or change the "
        "output folder and start again; what is done stays done."
    )
