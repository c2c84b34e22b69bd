"""What goes wrong with an archive, in words that quote neither addresses, headers nor answers."""

from __future__ import annotations

from medmtl.core.errors import MedmtlError

__all__ = ["PacsError", "PacsUnreachableError"]


class PacsError(MedmtlError):
    """A request that an archive did not fulfil."""


class PacsUnreachableError(PacsError):
    """An archive that cannot be asked at all: down, refused TLS, or refused credentials."""
