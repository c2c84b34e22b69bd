"""Quality flags: what a reader of the result must know, with a stable code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Flag", "Severity"]

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Flag:
    """One quality flag.

    Attributes:
        code: Stable kebab-case reason code, for example "gantry-tilt-resampled".
        severity: "info" (nothing to do), "warning" (look before use), "error" (do not rely on it).
        message: One sentence with numbers and units, without any patient identity.
    """

    code: str
    severity: Severity
    message: str
