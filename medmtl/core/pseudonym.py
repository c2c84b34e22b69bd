"""Names in place of identities: the same for the same secret, and nobody without it can tell whose.

Each is an HMAC-SHA-256 (RFC 2104) over what it stands for, so no table of them is kept anywhere.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError
from medmtl.core.private_file import read_private_toml, write_private_text

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Pseudonyms", "kept_pseudonyms", "read_pseudonyms"]

_DATES = ("shift", "remove")
_LEAST_CHARACTERS = 32
_LONGEST_SHIFT_DAYS = 3650


@dataclass(frozen=True, repr=False)
class Pseudonyms:
    """What stands for names and UIDs.

    Attributes:
        secret: At least 32 characters.
        dates: "shift" moves all dates of a patient into the past by the same 1 to 3650 days;
            "remove" leaves none.
    """

    secret: str
    dates: str = "shift"

    def __post_init__(self) -> None:
        if len(self.secret) < _LEAST_CHARACTERS:
            raise ConfigError(
                f"The key file: expected a secret of at least {_LEAST_CHARACTERS} characters."
            )
        if self.dates not in _DATES:
            raise ConfigError("The key file: dates, expected shift or remove.")

    def __repr__(self) -> str:
        return "Pseudonyms(...)"

    @property
    def fingerprint(self) -> str:
        """Tells one secret and rule from another, without telling anything about them."""
        return self.name("fingerprint", self.dates)

    def name(self, *words: str) -> str:
        """16 hex characters for these words."""
        return self._digest("name", *words).hex()[:16]

    def uid(self, uid: str) -> str:
        """A DICOM UID in place of one (PS3.5 B.2); "" for "", which names nothing."""
        if not uid:
            return ""
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', uid)[:16], version=5).int}"

    def shift_days(self, patient: str) -> int:
        """By how many days the dates of a patient move into the past."""
        number = int.from_bytes(self._digest("shift", patient)[:8], "big")
        return 1 + number % _LONGEST_SHIFT_DAYS

    def _digest(self, *words: str) -> bytes:
        # Lengths keep ("ab", "c") and ("a", "bc") apart.
        text = "".join(f"{len(word)}:{word}" for word in words)
        key, message = self.secret.encode(), text.encode("utf-8", "surrogateescape")
        return hmac.new(key, message, hashlib.sha256).digest()


def kept_pseudonyms(path: Path) -> Pseudonyms:
    """Those of the key file at `path`; where there is none, a secret is drawn and kept there.

    Raises:
        ConfigError: If it cannot be read, holds something else, or others may read it.
        OutputError: If it cannot be written.
    """
    if not path.exists():
        write_private_text(path, f'secret = "{secrets.token_hex(_LEAST_CHARACTERS)}"\n')
    return read_pseudonyms(path, option=path.name)


def read_pseudonyms(path: Path, *, option: str = "--deidentify") -> Pseudonyms:
    """Read a TOML file with `secret` and, if need be, `dates`.

    Args:
        path: The file.
        option: By which the user knows it, for errors.

    Raises:
        ConfigError: If it cannot be read, holds something else, or others may read it.
    """
    values = read_private_toml(path, option=option, keys=("secret", "dates"))
    return Pseudonyms(values.get("secret", ""), values.get("dates", "shift"))
