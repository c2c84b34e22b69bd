"""Which predictor answers for an imported bundle, and what it may be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from medmtl.core.errors import ConfigError
from medmtl.inference.imported_speed import ImportedSpeed, check_speed
from medmtl.inference.monai_predictor import MonaiPredictor
from medmtl.inference.parts_predictor import PartsPredictor
from medmtl.inference.plans_predictor import PlansPredictor
from medmtl.transforms.monai_plan import MonaiPreprocessing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from medmtl.inference.bundle import Bundle
    from medmtl.inference.bundle_settings import BundleSettings

__all__ = ["ImportedPredictor", "load_imported"]

ImportedPredictor: TypeAlias = PlansPredictor | PartsPredictor | MonaiPredictor


def load_imported(
    bundle: Bundle,
    *,
    device: torch.device,
    channels: Mapping[str, str],
    speed: str | None = None,
    backend: str = "auto",
    uncertainty: str = "none",
    cache: Path | None = None,
) -> ImportedPredictor:
    """The predictor of an imported bundle that gives masks only.

    Args:
        bundle: The loaded bundle.
        device: Where its networks run.
        channels: Series by name of channel, where the user says.
        speed: "fast", "balanced" or "best"; None is best, the answer of its authors.
        backend: Of `BACKENDS`; best runs on torch.
        uncertainty: "none"; an imported network has no other.
        cache: Folder of converted networks.

    Raises:
        ConfigError: If it is asked for what it has not.
    """
    chosen = check_speed(speed or "best")
    if uncertainty != "none":
        raise ConfigError("--uncertainty: an imported model has none. Leave it out.")
    if chosen == "best" and backend not in ("auto", "torch"):
        raise ConfigError(
            "--backend: an imported model gives its authors' answer on torch only. Leave it out, "
            "or allow another answer with --speed balanced."
        )
    run = ImportedSpeed(chosen, backend, device, cache)
    return _kind(bundle.settings)(bundle, device=device, channels=channels, speed=run)


def _kind(settings: BundleSettings) -> type[ImportedPredictor]:
    if isinstance(settings.preprocessing, MonaiPreprocessing):
        return MonaiPredictor
    return PartsPredictor if settings.parts else PlansPredictor
