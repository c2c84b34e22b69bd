"""Every preprocessing that a bundle can have, and how it takes volumes to the network grid."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from medmtl.transforms.imported_grid import ImportedGrid, MonaiGrid
from medmtl.transforms.monai_plan import MonaiPreprocessing
from medmtl.transforms.plans import PlansPreprocessing
from medmtl.transforms.preprocessing import Preprocessing
from medmtl.transforms.settings import PreprocessingConfig, config_hash

__all__ = ["AnyPreprocessing", "grid_hash", "network_grid"]


def _kind(value: Any) -> str:
    """Own preprocessing has no name: it was there first."""
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return str(name or "medmtl")


AnyPreprocessing = Annotated[
    Annotated[PreprocessingConfig, Tag("medmtl")]
    | Annotated[PlansPreprocessing, Tag("nnunet_plans")]
    | Annotated[MonaiPreprocessing, Tag("monai")],
    Discriminator(_kind),
]


def network_grid(settings: AnyPreprocessing) -> Preprocessing | ImportedGrid | MonaiGrid:
    """What applies the settings, to images and to label maps."""
    if isinstance(settings, MonaiPreprocessing):
        return MonaiGrid(settings)
    if isinstance(settings, PlansPreprocessing):
        return ImportedGrid(settings)
    return Preprocessing(settings)


def grid_hash(settings: AnyPreprocessing) -> str:
    """Hex SHA-256 of the settings, the same on every machine."""
    if isinstance(settings, PreprocessingConfig):
        return config_hash(settings)
    text = json.dumps(settings.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
