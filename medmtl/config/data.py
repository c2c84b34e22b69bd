"""`[data]`: where the cases come from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt

from medmtl.config.section import Section
from medmtl.training.selection import DEFAULT_VAL_SPLIT

__all__ = ["DataConfig", "ManifestSource"]


class ManifestSource(Section):
    """One manifest folder and which of its cases are used.

    Attributes:
        folder: Of manifest.toml and cases.csv, from where the command is started; a
            `data_manifests/NAME` that is not there is the one that medmtl ships.
        data_root: Folder that the manifest's paths start from, itself from `--data-root`.
        train_splits: Splits to learn from.
        val_splits: Splits to validate on.
        val_fold: Cases of `train_splits` with this fold validate instead of being learned from.
    """

    folder: str
    data_root: str = ""
    train_splits: tuple[str, ...] = ("train",)
    val_splits: tuple[str, ...] = (DEFAULT_VAL_SPLIT,)
    val_fold: NonNegativeInt | None = None


class DataConfig(Section):
    """Where the cases come from.

    Attributes:
        manifests: One or more; each annotates its own segments and findings.
        cache_dir: Of the prepared studies, keyed by the preprocessing; None puts it into the
            output folder.
        label_fraction: Share of the training cases that is used; the others are left out.
    """

    manifests: tuple[ManifestSource, ...] = Field(min_length=1)
    cache_dir: str | None = None
    label_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
