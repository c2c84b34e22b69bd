"""A trained nnU-Net v2 as a medmtl bundle."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from operator import mod
from typing import TYPE_CHECKING

from medmtl.core.errors import BundleError
from medmtl.imports.nnunet_folder import read_nnunet_folder
from medmtl.imports.nnunet_labels import channels_of, labels_of
from medmtl.imports.nnunet_network import network_of
from medmtl.imports.nnunet_plans import (
    plans_configuration,
    preprocessing_of,
    window_of,
)
from medmtl.imports.writing import (
    check_free,
    fitting_weights,
    input_settings,
    input_text,
    write_imported,
)
from medmtl.inference.bundle_settings import BundleSettings
from medmtl.networks.joint import NetworkConfig

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from medmtl.imports.nnunet_folder import NnunetFolder
    from medmtl.imports.nnunet_network import NnunetNetwork
    from medmtl.inference.plans_window import SlidingWindow

__all__ = ["LIMITS", "NOTICE", "NnunetChoices", "import_nnunet", "nnunet_card", "nnunet_settings"]

_LICENCE = "not stated by the model folder; see its authors"
NOTICE = "Imported from nnU-Net; medmtl has measured nothing on it. For research only."
LIMITS = (
    "An imported model. What it was trained and tested on is known to its authors only. nnU-Net "
    "states no orientation of its training images."
)


@dataclass(frozen=True)
class NnunetChoices:
    """What the folder does not say.

    Attributes:
        folds: Names of folds; empty takes all.
        checkpoint: File name in each fold; None the final one, or the best one if none is final.
        modality: "CT", "MR" or "PT"; None lets the channel's name decide.
        orientation: "source" or "RAS"; None does what the plans' reader does.
        has_mirroring: Whether views are mirrored, where the training allows it.
        name: Of the bundle; None takes that of the data set.
        channels: Names of the input channels; empty takes those of the data set.
    """

    folds: tuple[str, ...] = ()
    checkpoint: str | None = None
    modality: str | None = None
    orientation: str | None = None
    has_mirroring: bool = True
    name: str | None = None
    channels: tuple[str, ...] = ()


def import_nnunet(
    folder: Path, out: Path, *, choices: NnunetChoices | None = None
) -> BundleSettings:
    """Write a bundle with the same answers as nnU-Net's own prediction.

    Args:
        folder: Holds `plans.json`, `dataset.json` and `fold_*/checkpoint_*.pth`.
        out: Folder of the bundle; there must be none.
        choices: What the folder does not say.

    Returns:
        The settings of the bundle.

    Raises:
        BundleError: If anything is missing, unknown or does not fit; no bundle is left behind.
        OutputError: If the bundle exists or cannot be written.
    """
    chosen = choices or NnunetChoices()
    check_free(out)
    source = read_nnunet_folder(folder, folds=chosen.folds, checkpoint=chosen.checkpoint)
    settings = nnunet_settings(source, chosen)
    weights = [
        fitting_weights(
            fold.weights, settings.network, prefix="backbone.", where=f"Fold {fold.name}"
        )
        for fold in source.folds
    ]
    names = [f"fold{fold.name}" for fold in source.folds]
    return write_imported(
        out,
        settings,
        weights[0],
        card=nnunet_card(source, settings),
        folds=dict(zip(names[1:], weights[1:], strict=True)),
    )


def nnunet_settings(source: NnunetFolder, choices: NnunetChoices) -> BundleSettings:
    """What the folder says, as settings of a bundle.

    Raises:
        BundleError: If anything is missing, unknown or does not fit.
    """
    fold = source.folds[0]
    configuration = plans_configuration(source.plans, fold.configuration)
    channels = channels_of(source.dataset, modality=choices.modality, names=choices.channels)
    labels = labels_of(source.dataset)
    window = window_of(configuration, fold.mirror_axes if choices.has_mirroring else ())
    backbone = network_of(configuration)
    _check_patch(window, backbone)
    return BundleSettings(
        name=choices.name or str(source.plans.get("dataset_name", source.name)),
        version=f"{fold.trainer}-{fold.configuration}",
        licence=_LICENCE,
        intended_use="Segmentation of "
        f"{_listed(one.name for one in channels)} images for research.",
        limits=LIMITS,
        notice=NOTICE,
        input=input_settings(channels),
        preprocessing=preprocessing_of(
            source.plans,
            configuration,
            channels=len(channels),
            orientation=choices.orientation or _known_orientation(source),
        ),
        network=NetworkConfig(
            backbone=backbone,
            in_channels=len(channels),
            segments=tuple(segment.name for segment in labels.segments),
            has_background=not labels.regions,
        ),
        segments=labels.segments,
        regions=labels.regions,
        sliding_window=window,
        source=source.networks,
    )


def _check_patch(window: SlidingWindow, backbone: NnunetNetwork) -> None:
    """Refuse a patch that the network does not halve without a remainder."""
    steps = [prod(along) for along in zip(*backbone.strides, strict=True)]
    patch = window.patch_size
    if len(patch) != len(steps) or any(map(mod, patch, steps)):
        raise BundleError(
            f"plans.json: found a patch_size of {patch}, expected multiples of {tuple(steps)}, as "
            "the strides of its network ask for. Copy the folder again."
        )


def _known_orientation(source: NnunetFolder) -> str | None:
    """TotalSegmentator turns images to the closest canonical axes before nnU-Net sees them."""
    is_total = "totalseg" in str(source.plans.get("dataset_name", "")).casefold()
    return "RAS" if is_total else None


def nnunet_card(source: NnunetFolder, settings: BundleSettings) -> str:
    """What is known of an imported model; everything else is said to be unknown."""
    return "\n".join(
        [
            f"# {settings.name}",
            "",
            f"Imported from nnU-Net v2: `{source.name}`, trainer `{source.folds[0].trainer}`, "
            f"configuration `{source.folds[0].configuration}`, "
            f"{source.networks}.",
            "",
            f"- Input: {input_text(settings.input)}.",
            f"- Segments: {_listed(segment.name for segment in settings.segments)}.",
            f"- Licence of the weights: {_LICENCE}.",
            f"- Limits: {LIMITS}",
            "",
            NOTICE,
            "",
        ]
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
