"""Who asks an archive: a user with a password (basic), or a bearer token. Never shown anywhere."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError
from medmtl.core.private_file import read_private_toml

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
    return Credentials(**read_private_toml(path, option="--credentials", keys=_KEYS))
