"""Which cases of a manifest a program works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from medmtl.data.cases import Case, Manifest

__all__ = ["choose_split"]


def choose_split(manifest: Manifest, split: str | None) -> tuple[str, tuple[Case, ...]]:
    """The cases to evaluate: of the split asked for, else of `test`, else all.

    Returns:
        The name for metrics.json ("all" where nothing was chosen) and the cases.

    Raises:
        ConfigError: If the split does not occur.
    """
    if split is None:
        if "test" in manifest.splits:
            return "test", manifest.in_split("test")
        return "all", manifest.cases
    cases = manifest.in_split(split)
    if not cases:
        known = ", ".join(name or "(none)" for name in manifest.splits)
        message = f"--split: found {split!r}, but manifest {manifest.name} has only: {known}."
        raise ConfigError(message)
    return split, cases
