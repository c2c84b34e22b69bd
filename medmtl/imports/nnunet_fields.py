"""Entries of plans.json by their kind; what is of another kind is refused by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.core.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import ValidationError

__all__ = ["OTHER", "check_known", "list_of", "options_of", "problems_of", "table_of", "whole_of"]

OTHER = "It would give another answer here; predict with nnU-Net itself."
_LARGEST = 65536
"""Of a number of stages or features; beyond it the file is damaged."""


def table_of(found: Any, name: str) -> dict[str, Any]:
    """A table as it is.

    Raises:
        BundleError: If it is something else.
    """
    if not isinstance(found, dict):
        raise _another_kind(name, found, "a table")
    return found


def options_of(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A table that may be missing or null.

    Raises:
        BundleError: If it is something else.
    """
    found = table.get(name)
    return {} if found is None else table_of(found, name)


def list_of(table: Mapping[str, Any], name: str) -> list[Any]:
    """A list.

    Raises:
        BundleError: If it is something else.
        KeyError: If it is missing.
    """
    found = table[name]
    if not isinstance(found, list):
        raise _another_kind(name, found, "a list")
    return found


def whole_of(table: Mapping[str, Any], name: str) -> int:
    """A number of stages or features.

    Raises:
        BundleError: If it is something else.
        KeyError: If it is missing.
    """
    found = table[name]
    if not isinstance(found, int) or not 0 < found <= _LARGEST:
        raise _another_kind(name, found, f"a whole number of 1 to {_LARGEST}")
    return found


def _another_kind(name: str, found: Any, expected: str) -> BundleError:
    return BundleError(
        f"plans.json: found {name} = {repr(found)[:80]}, expected {expected}, as nnU-Net 2 writes "
        "it. Copy the folder again."
    )


def problems_of(error: ValidationError) -> str:
    """All that does not fit, in one line."""
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())


def check_known(name: str, found: Any, known: Sequence[str]) -> None:
    """One of the names that are done here as nnU-Net does them.

    Raises:
        BundleError: If it is another one.
    """
    if found not in known:
        raise BundleError(
            f"plans.json: found {name} = {found!r}, which is not supported; expected "
            f"{' or '.join(known)}. {OTHER}"
        )
