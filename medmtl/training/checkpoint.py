"""Checkpoints: written whole or not at all, and read without running anything in them."""

from __future__ import annotations

from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch

from medmtl.core.durable import durable_file, sync_folder
from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write aside, flush, rename: a kill or a full disk leaves the checkpoint before it.

    Args:
        path: In a folder that is made where it is missing.
        state: Tensors and plain values.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.tmp")
    with durable_file(aside) as stream:
        torch.save(dict(state), stream)
    aside.replace(path)
    sync_folder(path.parent)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """What was saved, on the CPU; None where nothing was.

    Raises:
        ConfigError: If the file is damaged, or no checkpoint.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, UnpicklingError) as error:
        message = f"{path.name}: no checkpoint can be read ({type(error).__name__})."
        raise ConfigError(f"{message} Remove it, or start the run anew elsewhere.") from error
    return state
