"""A bundle as files with checksums: what tracking needs to know of it, without any network.

The full check of `bundle.toml` belongs to `medmtl.inference.bundle.verify_bundle`.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BundleRecord", "read_bundle"]

SETTINGS_FILE = "bundle.toml"
_REQUIRED = ("weights.safetensors", "card.md", "metrics.json")


@dataclass(frozen=True)
class BundleRecord:
    """What a bundle says of itself, after its checksums were recomputed.

    Attributes:
        folder: Where it lies.
        name: As in `bundle.toml`.
        version: As in `bundle.toml`.
        licence: Of the weights.
        sha256: Identity of the model: that of `bundle.toml`, which holds those of the others.
        files: Every file that belongs to the bundle; others in the folder do not.
        segments: Names in label order.
        findings: Names, each with whether its probability is calibrated.
    """

    folder: Path
    name: str
    version: str
    licence: str
    sha256: str
    files: tuple[str, ...]
    segments: tuple[str, ...]
    findings: Mapping[str, bool]

    @property
    def card(self) -> str:
        """Text of the model card."""
        return (self.folder / "card.md").read_text(encoding="utf-8")

    @property
    def metrics(self) -> dict[str, Any]:
        """Content of the bundle's own metrics.json; empty where it holds no table."""
        content = json.loads((self.folder / "metrics.json").read_bytes())
        return content if isinstance(content, dict) else {}


def read_bundle(folder: Path) -> BundleRecord:
    """Recompute the checksums of a bundle and read what it says of itself.

    Raises:
        BundleError: If it is no bundle, or a file is missing or altered.
    """
    content = _read(folder, SETTINGS_FILE)
    try:
        settings = tomllib.loads(content.decode("utf-8"))
        digests = {str(name): str(digest) for name, digest in settings["sha256"].items()}
        record = BundleRecord(
            folder=folder,
            name=str(settings["name"]),
            version=str(settings["version"]),
            licence=str(settings["licence"]),
            sha256=hashlib.sha256(content).hexdigest(),
            files=(SETTINGS_FILE, *sorted(digests)),
            segments=tuple(str(entry["name"]) for entry in settings.get("segments", ())),
            findings={
                str(entry["name"]): bool(entry.get("calibrated", False))
                for entry in settings.get("findings", ())
            },
        )
        json.loads(_read(folder, "metrics.json"))
    except (UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = (
            f"Bundle {folder.name}: {SETTINGS_FILE} or metrics.json cannot be understood "
            f"({type(error).__name__}). Write the bundle again."
        )
        raise BundleError(message) from error
    for name in dict.fromkeys((*_REQUIRED, *digests)):
        _check(folder, name, digests.get(name))
    return record


def _check(folder: Path, name: str, expected: str | None) -> None:
    if name != PureWindowsPath(name).name:  # knows both kinds of slash
        message = f"Bundle {folder.name}: {name!r} names a file outside of the bundle."
        raise BundleError(message)
    found = hashlib.sha256(_read(folder, name)).hexdigest()
    if found != expected:
        message = (
            f"Bundle {folder.name}: {name} has SHA-256 {found[:12]}.., expected "
            f"{(expected or 'none')[:12]}... The file was altered or damaged; get it again."
        )
        raise BundleError(message)


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        message = (
            f"Bundle {folder.name}: {name} cannot be read ({type(error).__name__}), expected a "
            f"folder with {SETTINGS_FILE}, {', '.join(_REQUIRED)}. Name such a folder."
        )
        raise BundleError(message) from error
