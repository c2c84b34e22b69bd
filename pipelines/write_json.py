"""JSON files that are whole or not there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from medmtl.core.durable import replace_file
from medmtl.core.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON aside and move it into place.

    Raises:
        OutputError: If the file cannot be written.
    """
    text = json.dumps(content, indent=1, sort_keys=False, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, f"{text}\n".encode())
    except OSError as error:
        message = f"Could not write {path.name}: {error.strerror}. Check the folder and free space."
        raise OutputError(message) from error
