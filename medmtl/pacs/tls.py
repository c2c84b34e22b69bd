"""TLS as a user sets it: whom to trust, and the certificate by which this program is known."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError
from medmtl.core.private_file import check_private

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TlsFiles"]


@dataclass(frozen=True)
class TlsFiles:
    """PEM files, checked when this is made.

    Attributes:
        ca_file: Authorities to trust in place of the usual ones.
        certificate: Of this program, with the chain up to its authority.
        key: Its private key, unencrypted; None where it stands in the file of the certificate.

    Raises:
        ConfigError: If a file is absent, no PEM, does not fit the other, or lets others read a key.
    """

    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if self.ca_file is not None and not self.ca_file.is_file():
            raise ConfigError("--ca-file: there is no such file.")
        if self.key is not None and self.certificate is None:
            raise ConfigError("--key: it needs the certificate it belongs to, with --certificate.")
        if self.certificate is not None:
            check_private(self.key or self.certificate, option="--certificate, --key")
        self.client_context()

    def client_context(self) -> ssl.SSLContext:
        """To call a server: its certificate and host name are always checked."""
        context = ssl.create_default_context()
        if self.ca_file is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return self._filled(context)

    def server_context(self) -> ssl.SSLContext:
        """To be called; with `ca_file`, only by programs that have a certificate of it.

        Raises:
            ConfigError: If there is no certificate.
        """
        if self.certificate is None:
            raise ConfigError("dimses:// needs the certificate of this machine: --certificate.")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.ca_file is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return self._filled(context)

    def _filled(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # PS3.15 B.9, BCP 195
        try:
            if self.ca_file is not None:
                context.load_verify_locations(self.ca_file)
        except (ssl.SSLError, OSError):
            raise ConfigError("--ca-file: the file holds no certificates in PEM form.") from None
        try:
            if self.certificate is not None:
                # Without this answer OpenSSL would ask the terminal for a pass phrase.
                context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except (ssl.SSLError, OSError):
            raise ConfigError(
                "--certificate, --key: expected a certificate and its own private key, "
                "unencrypted, in PEM form."
            ) from None
        return context
