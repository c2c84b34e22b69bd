"""The built files of the volume viewer; their address changes with their content."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

__all__ = ["ASSETS", "asset_path", "asset_url"]

_FOLDER = Path(__file__).parents[1] / "components" / "assets"

ASSETS = {"volume_viewer.js": "text/javascript"}
"""Media type of each file that may be asked for."""


def asset_path(name: str) -> Path:
    """Where a file of `ASSETS` lies."""
    return _FOLDER / name


@functools.cache
def asset_url(name: str) -> str:
    """Relative address of a file of `ASSETS`, so that a browser may keep it for ever."""
    digest = hashlib.sha256(asset_path(name).read_bytes()).hexdigest()[:12]
    return f"medmtl/asset/{name}?v={digest}"
