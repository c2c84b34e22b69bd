"""Which augmentation a run uses, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from medmtl.core.errors import ConfigError
from medmtl.training.augment_planar import PlanarAugment, PlanarMR
from medmtl.training.augment_volume import VolumeAugment, VolumeCT, VolumeMR
from medmtl.training.patches import PatchConfig, PatchCut

if TYPE_CHECKING:
    from medmtl.data.loader import Augment

__all__ = [
    "AugmentationConfig",
    "NoAugmentation",
    "PatchConfig",
    "PlanarMR",
    "VolumeCT",
    "VolumeMR",
    "build_augmentation",
]


class NoAugmentation(BaseModel):
    """Samples as they are; with a patch config, cut out of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["none"] = "none"


AugmentationConfig = Annotated[
    NoAugmentation | PlanarMR | VolumeCT | VolumeMR, Field(discriminator="name")
]


def build_augmentation(
    config: NoAugmentation | PlanarMR | VolumeCT | VolumeMR, *, patch: PatchConfig | None = None
) -> Augment | None:
    """What `StudyLoader` applies to every training sample; None where nothing is done.

    Args:
        config: By the modality of the images.
        patch: Train on patches; None trains on whole volumes.

    Raises:
        ConfigError: If `planar_mr`, which cuts patches of its own, is given a patch.
    """
    if isinstance(config, PlanarMR):
        if patch is not None:
            message = "patch: found one beside augmentation 'planar_mr', which cuts its own."
            raise ConfigError(f"{message} Leave patch out and set augmentation.patch_px.")
        return PlanarAugment(config)
    if isinstance(config, NoAugmentation):
        return None if patch is None else PatchCut(patch)
    return VolumeAugment(config, patch)
