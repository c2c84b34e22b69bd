"""Files with a secret: nobody but their owner may read them, and nothing in them is ever quoted."""

from __future__ import annotations

import os
import stat
import tomllib
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

__all__ = ["check_private", "read_private_toml", "write_private_text"]


def check_private(path: Path, *, option: str) -> None:
    """Refuse a file that other users of this machine may read.

    Raises:
        ConfigError: If so, or if it is not there.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise _unread(option, error) from None
    if os.name != "nt" and mode & 0o077:
        raise ConfigError(
            f"{option}: other users of this machine may read the file. Run chmod 600 on it."
        )


def read_private_toml(path: Path, *, option: str, keys: Collection[str]) -> dict[str, str]:
    """Read a TOML file of texts.

    Args:
        path: The file.
        option: By which the user named it, for errors.
        keys: That it may hold.

    Raises:
        ConfigError: If it cannot be read, holds something else, or others may read it.
    """
    check_private(path, option=option)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unread(option, error) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ConfigError(f"{option}: the file is no TOML, such as: name = '...'.") from None
    if not set(values) <= set(keys) or not all(isinstance(text, str) for text in values.values()):
        raise ConfigError(f"{option}: expected only {', '.join(sorted(keys))}, as texts.")
    return values


def write_private_text(path: Path, text: str) -> None:
    """Write a new file that nobody but its owner may read; folders above it are made.

    Raises:
        OutputError: If it cannot be written, or is there already.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path.name}: could not be written ({error.strerror}).") from error


def _unread(option: str, error: OSError) -> ConfigError:
    return ConfigError(f"{option}: the file cannot be read: {os.strerror(error.errno or 0)}.")
