"""The errors of medmtl.

MedmtlError
├── InputRefusedError    an image, series or file that cannot be read safely
├── ConfigError          a setting, manifest or argument that is wrong
├── BundleError          a model bundle that is missing, incomplete or altered
└── OutputError          a result that could not be written (disk full, read-only folder)
"""

from __future__ import annotations

import os

__all__ = [
    "BundleError", "ConfigError", "InputRefusedError", "MedmtlError", "OutputError",
    "system_reason",
]  # fmt: skip


class MedmtlError(Exception):
    """Every error that medmtl raises on purpose; its text is one line and names no person."""


class InputRefusedError(MedmtlError):
    """An input that cannot be read or analysed without risking a silently wrong answer.

    Args:
        source: The file (relative to the input) or `series <short hash>` that is refused.
        stage: Where it was refused: "scan", "select", "sort", "decode", "read", "preprocess".
        code: A short kebab-case reason, for example "missing-slices".
        found: What was found, with numbers and units.
        expected: What would have been accepted.
        advice: What the user can do about it.
    """

    def __init__(
        self, source: str, *, stage: str, code: str, found: str, expected: str, advice: str
    ) -> None:
        self.source = source
        self.stage = stage
        self.code = code
        self.found = found
        self.expected = expected
        self.advice = advice
        super().__init__(
            f"{source}: {code}: found {found}, expected {expected}. {advice}".replace("\n", " ")
        )


class ConfigError(MedmtlError):
    """A configuration, manifest or command-line argument that cannot be used."""


class BundleError(MedmtlError):
    """A model bundle that is missing, incomplete, or whose checksum does not match."""


class OutputError(MedmtlError):
    """A result that could not be written; nothing partial is left behind."""


def system_reason(error: OSError) -> str:
    """What the system says went wrong, without the path: folders are called after patients."""
    return os.strerror(error.errno) if error.errno else type(error).__name__
