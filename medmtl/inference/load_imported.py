"""Which predictor answers for an imported bundle, and what it may be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from medmtl.core.errors import ConfigError
from medmtl.inference.monai_predictor import MonaiPredictor
from medmtl.inference.parts_predictor import PartsPredictor
from medmtl.inference.plans_predictor import PlansPredictor
from medmtl.inference.plans_speed import PlansSpeed, check_speed
from medmtl.transforms.monai_plan import MonaiPreprocessing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from medmtl.inference.bundle import Bundle

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
    is_monai = isinstance(bundle.settings.preprocessing, MonaiPreprocessing)
    if uncertainty != "none":
        raise ConfigError("--uncertainty: an imported model has none. Leave it out.")
    if is_monai and chosen != "best":
        raise ConfigError("--speed: a model imported from MONAI has one, best. Leave it out.")
    if chosen == "best" and backend not in ("auto", "torch"):
        raise ConfigError(
            "--backend: an imported model gives its authors' answer on torch only. Leave it out, "
            "or allow another answer with --speed balanced (not for MONAI)."
        )
    if is_monai:
        return MonaiPredictor(bundle, device=device, channels=channels)
    run = PlansSpeed(chosen, backend, device, cache)
    kind = PartsPredictor if bundle.settings.parts else PlansPredictor
    return kind(bundle, device=device, channels=channels, speed=run)
