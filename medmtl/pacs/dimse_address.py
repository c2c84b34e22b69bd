"""`dimse://AET@HOST:PORT`: an archive, or this program, as a DICOM application entity (PS3.8)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["DimseListener", "DimsePeer", "is_dimse_address", "parse_listener", "parse_peer"]

_SCHEMES = ("dimse", "dimses")
_TITLE = re.compile(r"(?! )[\x20-\x5b\x5d-\x7e]{1,16}(?<! )")  # PS3.5 6.2, AE
_OURS = "MEDMTL"
_LOOPBACK = "127.0.0.1"
_MB = 1_000_000
_LARGEST_MB = 1024


@dataclass(frozen=True)
class DimsePeer:
    """Who is called, where, and under which title of ours; `is_tls` for `dimses://`."""

    called: str
    host: str
    port: int
    calling: str = _OURS
    is_tls: bool = False


@dataclass(frozen=True)
class DimseListener:
    """What this program answers to.

    Attributes:
        title: Our AE title; a caller that asks for another one is rejected.
        host: Address to listen on; this machine alone unless told otherwise.
        port: 0 takes any free one.
        callers: AE titles that may call; empty for all.
        max_bytes: A larger instance is cut off.
        is_tls: For `dimses://`.
    """

    title: str = _OURS
    host: str = _LOOPBACK
    port: int = 0
    callers: tuple[str, ...] = ()
    max_bytes: int = _LARGEST_MB * _MB
    is_tls: bool = False

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can call."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def is_dimse_address(text: str) -> bool:
    """Whether this names an application entity, not a web service, file or folder."""
    return text.lower().startswith(tuple(f"{scheme}://" for scheme in _SCHEMES))


def parse_peer(text: str) -> DimsePeer:
    """Read `dimse[s]://AET@HOST:PORT[?calling=AET]`.

    Raises:
        ConfigError: If it is malformed. The text is never quoted.
    """
    parts, keys = _parts(text, known=("calling",))
    if not parts.username or not parts.hostname or not parts.port:
        raise ConfigError(
            "the archive's address: expected dimse://AET@HOST:PORT, with the AE title of the "
            "archive and, if it is not MEDMTL, ours as ?calling=AET."
        )
    return DimsePeer(
        called=_title(unquote(parts.username)),
        host=parts.hostname,
        port=parts.port,
        calling=_title(_only("calling", keys["calling"], default=_OURS)),
        is_tls=parts.scheme == "dimses",
    )


def parse_listener(text: str) -> DimseListener:
    """Read `dimse[s]://[HOST]:PORT[?aet=OURS&from=AET&from=AET&max_mb=N]`; `OURS@` works as well.

    Raises:
        ConfigError: If it is malformed. The text is never quoted.
    """
    parts, keys = _parts(text, known=("aet", "from", "max_mb"))
    if parts.port is None:
        raise ConfigError(
            "the address to listen on: expected dimse://HOST:PORT?aet=OURS, such as "
            "dimse://:11112?aet=MEDMTL for this machine or dimse://0.0.0.0:11112 for all."
        )
    title = _only("aet", keys["aet"], default=unquote(parts.username or _OURS))
    megabytes = _only("max_mb", keys["max_mb"], default=str(_LARGEST_MB))
    if not megabytes.isascii() or not megabytes.isdigit() or int(megabytes) < 1:
        raise ConfigError("the address to listen on: max_mb, expected a whole number above 0.")
    return DimseListener(
        title=_title(title),
        host=parts.hostname or _LOOPBACK,
        port=parts.port,
        callers=tuple(_title(value) for value in keys["from"]),
        max_bytes=int(megabytes) * _MB,
        is_tls=parts.scheme == "dimses",
    )


def _parts(text: str, *, known: tuple[str, ...]) -> tuple[SplitResult, dict[str, list[str]]]:
    parts = urlsplit(text)
    try:
        is_good = parts.scheme in _SCHEMES and parts.path in {"", "/"} and not parts.fragment
        is_good = is_good and parts.password is None and (parts.port is None or True)
    except ValueError:  # a port that is no number
        is_good = False
    if not is_good:
        raise ConfigError(
            "the address: expected dimse://AET@HOST:PORT or dimses://..., without a path."
        )
    keys: dict[str, list[str]] = {key: [] for key in known}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in keys:
            raise ConfigError(
                f"the address: found {key[:20]!r} in the query, expected one of {', '.join(known)}."
            )
        keys[key].append(value)
    return parts, keys


def _only(key: str, values: list[str], *, default: str) -> str:
    if len(values) > 1:
        raise ConfigError(f"the address: {key} is given twice, expected once.")
    return values[0] if values else default


def _title(text: str) -> str:
    if _TITLE.fullmatch(text) is None:
        raise ConfigError(
            "the address: an AE title is malformed, expected 1 to 16 ASCII characters without "
            "backslash."
        )
    return text
