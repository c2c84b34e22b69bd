"""What a tracking server must not learn: where files lie on this machine, and passwords.

A folder name may hold a patient's name, and a home folder holds a user's. A place is replaced by a
short hash, so that two runs over the same place can still be told from two over different ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePath, PurePosixPath, PureWindowsPath

__all__ = ["without_credentials", "without_places"]

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_FILE_URI = re.compile(r"^(file|sqlite)(\+\w+)?:", re.IGNORECASE)


def without_places(value: object) -> object:
    """The value as JSON types, with every path that leaves the working folder hidden.

    Args:
        value: Mappings, sequences, paths, texts, numbers. A text counts as a path that must be
            hidden where it is absolute (POSIX or Windows), starts with "~", climbs with "..", or
            is a `file:` or `sqlite:` URI. Other texts are only freed from `user:password@`.
    """
    if isinstance(value, Mapping):
        return {str(key): without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [without_places(item) for item in value]
    if isinstance(value, str | PurePath):
        text = str(value)
        return _hidden(text) if _is_place(text) else without_credentials(text)
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def without_credentials(text: str) -> str:
    """The text with `user:password@` taken out of its URIs."""
    return _CREDENTIALS.sub("", text)


def _is_place(text: str) -> bool:
    if "\n" in text or not text:
        return False
    posix, windows = PurePosixPath(text), PureWindowsPath(text)
    is_absolute = posix.is_absolute() or bool(windows.drive) or windows.is_absolute()
    climbs = ".." in posix.parts or ".." in windows.parts
    return is_absolute or climbs or text.startswith(("~", "\\")) or bool(_FILE_URI.match(text))


def _hidden(text: str) -> str:
    return f"place-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
