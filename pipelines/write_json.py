"""JSON files that are whole or not there."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from medmtl.core.errors import OutputError


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON aside and move it into place.

    Raises:
        OutputError: If the file cannot be written.
    """
    text = json.dumps(content, indent=1, sort_keys=False, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".medmtl-", suffix=".json")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text + "\n")
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        message = f"Could not write {path.name}: {error.strerror}. Check the folder and free space."
        raise OutputError(message) from error
