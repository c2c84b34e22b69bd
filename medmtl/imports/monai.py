"""A MONAI bundle as a medmtl bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from medmtl.core.errors import BundleError
from medmtl.imports.checkpoint import read_checkpoint
from medmtl.imports.monai_config import MonaiConfig
from medmtl.imports.monai_parts import network_of, preprocessing_of
from medmtl.imports.nnunet_labels import MODALITIES, labels_of, named_channels
from medmtl.imports.writing import (
    check_free,
    fitting_weights,
    input_settings,
    input_text,
    write_imported,
)
from medmtl.inference.bundle_settings import BundleSettings, ChannelSettings
from medmtl.networks.joint import NetworkConfig

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MonaiChoices", "import_monai"]

_NOTICE = "Imported from a MONAI bundle; medmtl has measured nothing on it. For research only."
_LIMITS = "An imported model. What it was trained and tested on is known to its authors only."
_WRAPPED = ("state_dict", "model", "network")


@dataclass(frozen=True)
class MonaiChoices:
    """What the bundle does not say.

    Attributes:
        config: File in `configs/` that describes inference.
        weights: File in `models/`.
        modality: "CT", "MR" or "PT"; None takes that of the metadata.
        name: Of the bundle; None takes that of the metadata.
        channels: Names of the input channels; empty takes those of the metadata.
    """

    config: str = "inference.json"
    weights: str = "model.pt"
    modality: str | None = None
    name: str | None = None
    channels: tuple[str, ...] = ()


def import_monai(folder: Path, out: Path, *, choices: MonaiChoices | None = None) -> BundleSettings:
    """Write a bundle with the network, weights, transforms and window of a MONAI bundle.

    Args:
        folder: Holds `configs/inference.json`, `configs/metadata.json` and `models/model.pt`.
        out: Folder of the bundle; there must be none.
        choices: What the bundle does not say.

    Raises:
        BundleError: If anything is missing, unknown, evaluated or does not fit; no bundle is left.
        OutputError: If the bundle exists or cannot be written.
    """
    chosen = choices or MonaiChoices()
    check_free(out)
    config = MonaiConfig.read(folder / "configs" / chosen.config)
    metadata = MonaiConfig.read(folder / "configs" / "metadata.json").content
    network, inputs, outputs = network_of(config)
    segments = labels_of({"labels": _channels(metadata, outputs)}).segments
    settings = BundleSettings(
        name=chosen.name or str(metadata.get("name", folder.name)),
        version=str(metadata.get("version", "unknown")),
        licence="not stated in the config; see LICENSE of the MONAI bundle",
        intended_use=str(metadata.get("intended_use", "Research.")),
        limits=_LIMITS,
        notice=_NOTICE,
        input=input_settings(_inputs(metadata, inputs, chosen)),
        preprocessing=preprocessing_of(config, channels=inputs),
        network=NetworkConfig(
            backbone=network,
            in_channels=inputs,
            segments=tuple(segment.name for segment in segments),
        ),
        segments=segments,
    )
    path = folder / "models" / chosen.weights
    weights = fitting_weights(
        _state_dict(path), settings.network, prefix="backbone.net.", where=f"Weights {path.name}"
    )
    return write_imported(out, settings, weights, card=_card(settings, folder.name))


def _state_dict(path: Path) -> dict[str, Tensor]:
    content: Any = read_checkpoint(path)
    for name in _WRAPPED:
        if isinstance(content.get(name), dict):
            content = content[name]
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise BundleError(
            f"Weights {path.name}: found no table of tensors, expected a state_dict. Name the file "
            "that holds it with --weights."
        )
    return dict(content)


def _format(metadata: dict[str, Any], side: str, name: str) -> dict[str, Any]:
    try:
        found = metadata["network_data_format"][side][name]
    except (KeyError, TypeError) as error:
        raise BundleError(
            f"metadata.json: found no such entry, expected network_data_format {side} {name}. "
            "Complete it after MONAI's specification."
        ) from error
    return found if isinstance(found, dict) else {}


def _channels(metadata: dict[str, Any], outputs: int) -> dict[str, int]:
    """Names of the classes by number."""
    stated = _format(metadata, "outputs", "pred").get("channel_def")
    found = sorted(stated) if isinstance(stated, dict) else stated
    if not isinstance(stated, dict) or found != sorted(map(str, range(outputs))):
        raise BundleError(
            f"metadata.json: found channel_def of {found!r:.80}, expected a name for each "
            f"of the {outputs} outputs of the network, 0 being the background. "
            "Complete it after MONAI's specification."
        )
    names = {str(name): int(number) for number, name in stated.items()}
    background = next(name for name, number in names.items() if number == 0)
    if len(names) < outputs:
        raise BundleError(
            "metadata.json: found two classes of one name in channel_def, expected different "
            "names. Rename one."
        )
    names.pop(background)
    return {"background": 0, **names}


def _inputs(
    metadata: dict[str, Any], count: int, choices: MonaiChoices
) -> tuple[ChannelSettings, ...]:
    """The one image, or every channel by its name in `channel_def`."""
    if count == 1:
        modality = _modality(metadata, choices.modality)
        return (ChannelSettings(name="image", modality=modality),)
    stated = _format(metadata, "inputs", "image").get("channel_def")
    defined = stated if isinstance(stated, dict) else {}
    names = [str(defined[str(at)]) for at in range(count) if str(at) in defined]
    return named_channels(
        choices.channels or names,
        count=count,
        modality=choices.modality,
        where="metadata.json: channel_def of the image",
    )


def _modality(metadata: dict[str, Any], stated: str | None) -> str:
    found = str(_format(metadata, "inputs", "image").get("modality", "")).upper()
    modality = stated or {"MRI": "MR", "PET": "PT"}.get(found, found)
    if modality not in MODALITIES:
        raise BundleError(
            f"metadata.json: found modality {found!r}, expected CT, MRI or PET. Say it with "
            f"--modality {' or '.join(MODALITIES)}."
        )
    return modality


def _card(settings: BundleSettings, source: str) -> str:
    lines = [
        f"# {settings.name}",
        "",
        f"Imported from the MONAI bundle `{source}`, version {settings.version}.",
        "",
        f"- Input: {input_text(settings.input)}.",
        f"- Segments: {', '.join(segment.name for segment in settings.segments)}.",
        f"- Licence of the weights: {settings.licence}.",
        f"- Limits: {settings.limits}",
        "",
        settings.notice,
        "",
    ]
    return "\n".join(lines)
