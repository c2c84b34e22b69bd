"""`medmtl models import`: somebody else's trained network as a bundle."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import JsonLogsOption, QuietOption, set_up_logging

if TYPE_CHECKING:
    from medmtl.inference.bundle_settings import BundleSettings

app = typer.Typer(
    help="Networks of others as bundles; nothing in them is executed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
)

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False)]
BundleOption = Annotated[
    Path, typer.Option("--out", "-o", metavar="BUNDLE", help="Folder of the new bundle.")
]


class Modality(StrEnum):
    """What the image is, where the model does not say."""

    CT = "CT"
    MR = "MR"
    PT = "PT"


class Orientation(StrEnum):
    """How the axes lay in training."""

    SOURCE = "source"
    RAS = "RAS"


ModalityOption = Annotated[
    Modality | None, typer.Option(help="Of the images; else the name of the channel says it.")
]
ChannelsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME,...",
        help="Names of several input channels, in their order, where the model does not say.",
    ),
]
NameOption = Annotated[str | None, typer.Option(help="Name of the bundle.")]


@app.command("nnunet")
def nnunet(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...",
            help="One model folder, or several that share a grid and name different structures.",
            show_default=False,
        ),
    ],
    out: BundleOption,
    folds: Annotated[
        str | None,
        typer.Option(metavar="0,1,...", help="Folds whose answers are averaged. Default: all."),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="FILE", help="Default: checkpoint_final.pth, else best.")
    ] = None,
    modality: ModalityOption = None,
    orientation: Annotated[
        Orientation | None,
        typer.Option(help="Axes of the training images. Default: as nnU-Net's reader takes them."),
    ] = None,
    mirroring: Annotated[
        bool, typer.Option(help="Average over mirrored views, as nnU-Net does.")
    ] = True,
    channels: ChannelsOption = None,
    name: NameOption = None,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """A model folder of nnU-Net v2: plans.json, dataset.json, fold_*/checkpoint_*.pth."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from medmtl.imports.nnunet import NnunetChoices, import_nnunet
    from medmtl.imports.nnunet_parts import import_nnunet_parts

    choices = NnunetChoices(
        folds=_parts(folds),
        checkpoint=checkpoint,
        modality=modality.value if modality else None,
        orientation=orientation.value if orientation else None,
        has_mirroring=mirroring,
        name=name,
        channels=_parts(channels),
    )
    if len(folders) == 1:
        _say(import_nnunet(folders[0], out, choices=choices), out)
    else:
        _say(import_nnunet_parts(folders, out, choices=choices), out)


@app.command("monai")
def monai(
    folder: FolderArgument,
    out: BundleOption,
    config: Annotated[
        str, typer.Option(metavar="FILE", help="In configs/, JSON, describes inference.")
    ] = "inference.json",
    weights: Annotated[str, typer.Option(metavar="FILE", help="In models/.")] = "model.pt",
    modality: ModalityOption = None,
    channels: ChannelsOption = None,
    name: NameOption = None,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """A MONAI bundle: SegResNet, SegResNetDS, DynUNet, UNet or SwinUNETR with literal settings."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from medmtl.imports.monai import MonaiChoices, import_monai

    choices = MonaiChoices(
        config, weights, modality.value if modality else None, name, _parts(channels)
    )
    _say(import_monai(folder, out, choices=choices), out)


def _parts(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _say(settings: BundleSettings, out: Path) -> None:
    """What was imported, so that a mistake is seen before the first case."""
    typer.echo(f"{settings.name} ({settings.network.backbone.name}) -> {out}")
    channels = settings.input.channels
    if not channels:
        typer.echo(f"input: {settings.input.modality}, channel 0 is the one volume of a study")
    for number, channel in enumerate(channels):
        typer.echo(f"input: channel {number} is {channel.name} ({channel.modality})")
    for segment in settings.segments:
        code = f"  {segment.code.scheme} {segment.code.value}" if segment.code else ""
        typer.echo(f"  {segment.label:>4}  {segment.name}{code}")
    for number, part in enumerate(settings.parts, start=1):
        averaged = _averaged(len(part.weights), part.source)
        typer.echo(f"part {number}: {len(part.network.segments)} segments, {averaged}")
    if not settings.parts:
        typer.echo(_averaged(1 + len(settings.folds or ()), settings.source))


def _averaged(count: int, source: str | None) -> str:
    return f"networks averaged: {count}" + (f" ({source})" if source else "")
