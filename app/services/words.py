"""Names of the model as words a reader knows."""

from __future__ import annotations

from functools import cache

__all__ = ["plain", "sentence"]


@cache
def plain(name: str) -> str:
    """`lung_nodule` and `activation-empty` as "lung nodule" and "activation empty"."""
    return name.replace("_", " ").replace("-", " ")


def sentence(name: str) -> str:
    """The same with a capital at its start, for labels."""
    words = plain(name)
    return words[:1].upper() + words[1:]
