"""Names of the model as words a reader knows."""

from __future__ import annotations

from functools import cache

__all__ = ["plain", "sentence"]


_SHORT = frozenset({"auprc", "auroc", "ct", "ece", "ed", "es", "hd95", "lv", "mr", "nsd", "rv"})
"""Written in capitals."""


@cache
def plain(name: str) -> str:
    """`lung_nodule` and `lv-ed-volume` as "lung nodule" and "LV ED volume"."""
    words = name.replace("_", " ").replace("-", " ").split(" ")
    return " ".join(word.upper() if word in _SHORT else word for word in words)


def sentence(name: str) -> str:
    """The same with a capital at its start, for labels."""
    words = plain(name)
    return words[:1].upper() + words[1:]
