"""`models:/NAME@ALIAS` and `models:/NAME/VERSION`: a bundle by its place in the registry."""

from __future__ import annotations

import re
from dataclasses import dataclass

from medmtl.core.errors import ConfigError

__all__ = ["ModelUri", "is_model_uri", "parse_model_uri"]

_SCHEME = "models:"
_PATTERN = re.compile(r"models:/(?P<name>[^/@:]+)(@(?P<alias>[\w-]+)|/(?P<version>\d+|latest))")


@dataclass(frozen=True)
class ModelUri:
    """A registered name with an alias, a version, or neither for the newest version."""

    name: str
    alias: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        if self.alias is not None:
            return f"models:/{self.name}@{self.alias}"
        return f"models:/{self.name}/{self.version or 'latest'}"


def is_model_uri(text: str) -> bool:
    """Whether a text means a model of the registry, rightly written or not."""
    return text.startswith(_SCHEME)


def parse_model_uri(text: str) -> ModelUri:
    """Read such an address.

    Raises:
        ConfigError: If it is written otherwise.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        message = (
            f"Model {text!r}: found an address that cannot be read, expected models:/NAME@ALIAS, "
            "models:/NAME/VERSION (a number) or models:/NAME/latest."
        )
        raise ConfigError(message)
    version = match["version"]
    return ModelUri(match["name"], match["alias"], None if version == "latest" else version)
