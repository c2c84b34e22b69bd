"""The model of every command: a shipped name, a folder, or an address of the MLflow registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundleArgument = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="A bundle's folder, or a shipped bundle.")
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Name, folder or models:/NAME@ALIAS. Without it, each study goes to the shipped "
        "model that fits it.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
TrackingUriOption = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="MLflow server or database; else MLFLOW_TRACKING_URI, else runs/mlflow/mlflow.db.",
        show_default=False,
    ),
]

ChannelOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=SERIES",
        help="Which series is an input channel of an imported model: its UID, description or "
        "volume id; for NIfTI the end of the file name. Repeat it for each channel.",
    ),
]
SpeedOption = Annotated[
    str | None,
    typer.Option(
        help="fast, balanced or best. A trained model does balanced unless asked, and its card "
        "says what each costs; an imported one best, its authors' labels.",
        show_default=False,
    ),
]


def converted_cache() -> Path:
    """Where networks converted for a backend are kept, by checksum."""
    return Path.home() / ".cache" / "medmtl" / "converted"


def bundle_cache() -> Path:
    """Where bundles of the registry are kept, by checksum."""
    return Path.home() / ".cache" / "medmtl" / "bundles"


def local_model(model: str, *, tracking_uri: str | None = None) -> str | Path:
    """A name or bundle as it is; `models:/NAME@ALIAS` and folders of nnU-Net as a cached bundle.

    Raises:
        MedmtlError: If the registry has no such model, what it gives is damaged, or a folder
            cannot be imported.
    """
    from medmtl.tracking.model_uri import is_model_uri, parse_model_uri

    if not is_model_uri(model):
        folder = Path(model)
        if folder.is_dir() and not (folder / "bundle.toml").exists():
            from medmtl.imports.cached import cached_import, is_nnunet_folder

            if is_nnunet_folder(folder):
                return cached_import(folder, cache=bundle_cache())
        return model
    uri = parse_model_uri(model)
    from medmtl.inference.bundle import verify_bundle
    from medmtl.tracking.bundle_cache import fetch
    from medmtl.tracking.mlflow_store import LOCAL_STORE, connect
    from medmtl.tracking.registry import find_version

    connection = connect(tracking_uri, store=LOCAL_STORE, may_create=False)
    fetched = fetch(connection, find_version(connection, uri), cache=bundle_cache()).folder
    verify_bundle(fetched)
    return fetched
