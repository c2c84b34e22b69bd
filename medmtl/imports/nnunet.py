"""A trained nnU-Net v2 as a medmtl bundle."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from medmtl.core.errors import BundleError, OutputError
from medmtl.imports.nnunet_folder import read_nnunet_folder
from medmtl.imports.nnunet_labels import channel_modality, labels_of
from medmtl.imports.nnunet_plans import (
    network_of,
    plans_configuration,
    preprocessing_of,
    window_of,
)
from medmtl.inference.bundle import BundleSettings, InputSettings, load_bundle, write_bundle
from medmtl.networks.joint import JointNet, NetworkConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from medmtl.imports.nnunet_folder import Fold, NnunetFolder

__all__ = ["NnunetChoices", "import_nnunet"]

_LICENCE = "not stated by the model folder; see its authors"
_NOTICE = "Imported from nnU-Net; medmtl has measured nothing on it. For research only."
_LIMITS = (
    "An imported model. What it was trained and tested on is known to its authors only. nnU-Net "
    "states no orientation of its training images."
)


@dataclass(frozen=True)
class NnunetChoices:
    """What the folder does not say.

    Attributes:
        folds: Names of folds; empty takes all.
        checkpoint: File name in each fold; None the final one.
        modality: "CT", "MR" or "PT"; None lets the channel's name decide.
        orientation: "source" or "RAS"; None does what the plans' reader does.
        has_mirroring: Whether views are mirrored, where the training allows it.
        name: Of the bundle; None takes that of the data set.
    """

    folds: tuple[str, ...] = ()
    checkpoint: str | None = None
    modality: str | None = None
    orientation: str | None = None
    has_mirroring: bool = True
    name: str | None = None


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
    if out.exists():
        raise OutputError(f"Bundle {out.name} exists already. Give another -o, or delete it.")
    source = read_nnunet_folder(folder, folds=chosen.folds, checkpoint=chosen.checkpoint)
    settings = _settings(source, chosen)
    weights = [_fitting(fold, settings) for fold in source.folds]
    card = _card(source, settings)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as aside:
            place = Path(aside) / "bundle"
            complete = write_bundle(
                place,
                settings,
                weights[0],
                card=card,
                metrics_json=json.dumps({"note": _NOTICE}),
                folds={
                    f"fold{fold.name}": values
                    for fold, values in zip(source.folds[1:], weights[1:], strict=True)
                },
                is_half=False,
            )
            load_bundle(place)
            shutil.move(place, out)
    except OSError as error:
        raise OutputError(f"Bundle {out.name}: cannot be written ({error.strerror}).") from error
    return complete


def _settings(source: NnunetFolder, choices: NnunetChoices) -> BundleSettings:
    fold = source.folds[0]
    configuration = plans_configuration(source.plans, fold.configuration)
    channel, modality = channel_modality(source.dataset, choices.modality)
    labels = labels_of(source.dataset)
    axes = fold.mirror_axes if choices.has_mirroring else ()
    return BundleSettings(
        name=choices.name or str(source.plans.get("dataset_name", source.name)),
        version=f"{fold.trainer}-{fold.configuration}",
        licence=_LICENCE,
        intended_use=f"Segmentation of {channel} images for research.",
        limits=_LIMITS,
        notice=_NOTICE,
        input=InputSettings(modality=modality),
        preprocessing=preprocessing_of(
            source.plans, configuration, orientation=choices.orientation
        ),
        network=NetworkConfig(
            backbone=network_of(configuration),
            segments=tuple(segment.name for segment in labels.segments),
            has_background=not labels.regions,
        ),
        segments=labels.segments,
        regions=labels.regions,
        sliding_window=window_of(configuration, axes),
    )


def _fitting(fold: Fold, settings: BundleSettings) -> dict[str, Tensor]:
    """Weights under the bundle's names.

    Raises:
        BundleError: Naming the first weight that the plans do not explain.
    """
    with torch.device("meta"):
        expected = JointNet(settings.network).state_dict()
    found = {f"backbone.{name}": value for name, value in fold.weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if _shape(found, name) != _shape(expected, name):
            raise BundleError(
                f"Fold {fold.name}: weight {name.removeprefix('backbone.')}: found "
                f"{_shape(found, name)}, expected {_shape(expected, name)} from plans.json and "
                "dataset.json. Copy all three from the same training."
            )
    if not all(bool(value.isfinite().all()) for value in found.values()):
        raise BundleError(f"Fold {fold.name}: found weights that are no numbers. Train it again.")
    return found


def _shape(weights: Mapping[str, Tensor], name: str) -> str:
    return " x ".join(map(str, weights[name].shape)) if name in weights else "none"


def _card(source: NnunetFolder, settings: BundleSettings) -> str:
    """What is known of an imported model; everything else is said to be unknown."""
    return "\n".join(
        [
            f"# {settings.name}",
            "",
            f"Imported from nnU-Net v2: `{source.name}`, trainer `{source.folds[0].trainer}`, "
            f"configuration `{source.folds[0].configuration}`, "
            f"folds {_listed(fold.name for fold in source.folds)}.",
            "",
            f"- Input: {settings.input.modality}, one volume.",
            f"- Segments: {_listed(segment.name for segment in settings.segments)}.",
            f"- Licence of the weights: {_LICENCE}.",
            f"- Limits: {_LIMITS}",
            "",
            _NOTICE,
            "",
        ]
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
