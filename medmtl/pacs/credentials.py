"""Who asks an archive: a user with a password (basic), or a bearer token. Never shown anywhere."""

from __future__ import annotations

import base64
import os
import stat
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Credentials", "read_credentials"]

_KEYS = frozenset({"user", "password", "token"})


@dataclass(frozen=True, repr=False)
class Credentials:
    """Either `user` and `password`, or `token`; none of them is in the repr."""

    user: str = ""
    password: str = ""
    token: str = ""

    def __post_init__(self) -> None:
        if bool(self.token) == bool(self.user) or bool(self.user) != bool(self.password):
            raise ConfigError(
                "credentials for the archive: expected either user and password, or token alone."
            )
        if any(not value.isprintable() for value in (self.user, self.password, self.token)):
            raise ConfigError("credentials for the archive: expected printable characters.")
        if ":" in self.user or not self.token.isascii():  # RFC 7617 2, RFC 6750 2.1
            raise ConfigError(
                "credentials for the archive: a user has no colon, a token ASCII characters only."
            )

    def __repr__(self) -> str:
        return "Credentials(...)"

    @property
    def header(self) -> str:
        """The value of the Authorization header (RFC 7617, RFC 6750)."""
        if self.token:
            return f"Bearer {self.token}"
        pair = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"


def read_credentials(path: Path) -> Credentials:
    """Read a TOML file with `user` and `password`, or `token`.

    Raises:
        ConfigError: If it cannot be read, holds something else, or others may read it.
    """
    try:
        with path.open("rb") as stream:
            if os.name != "nt" and stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & 0o077:
                raise ConfigError(
                    "--credentials: other users of this machine may read the file. "
                    "Run chmod 600 on it."
                )
            values = tomllib.load(stream)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ConfigError(f"--credentials: the file cannot be read: {reason}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ConfigError("--credentials: the file is no TOML, such as: token = '...'.") from None
    if not set(values) <= _KEYS or not all(isinstance(value, str) for value in values.values()):
        raise ConfigError("--credentials: expected user and password, or token, as texts.")
    return Credentials(**values)
