"""An authority of its own for each test, a server and a client that it vouches for."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Certificates", "make_certificates"]

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


@dataclass(frozen=True)
class Certificates:
    """PEM files; keys are readable by the owner alone."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    """Skips where openssl is absent."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed; it makes the certificates")
    folder.mkdir(parents=True, exist_ok=True)
    _openssl(folder, "req", "-x509", *_new("ca"), "-subj", "/CN=test authority", "-days", "2")
    for name in ("server", "client"):
        _openssl(folder, "req", *_new(name), "-subj", f"/CN={name}")
        extension = folder / f"{name}.ext"
        extension.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", encoding="ascii")
        _openssl(folder, "x509", "-req", "-in", f"{name}.pem", "-CA", "ca.pem", "-CAkey",
                 "ca.key", "-CAcreateserial", "-days", "2", "-extfile", extension.name,
                 "-out", f"{name}.pem")  # fmt: skip
    return Certificates(
        folder / "ca.pem", folder / "server.pem", folder / "server.key",
        folder / "client.pem", folder / "client.key",
    )  # fmt: skip


def _new(name: str) -> tuple[str, ...]:
    return (*_KEY, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem")


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["openssl", *arguments],  # noqa: S607 - wherever it is installed
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
