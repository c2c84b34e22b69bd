"""`--engine`: where `predict` works, on this machine or on those of a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .light_imports import import_lightly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medmtl.core.study import Listing
    from medmtl.inference.batch import BatchOptions, CaseOutcome

EngineOption = Annotated[
    str, typer.Option(help="local, or ray: the machines of a Ray cluster share the studies.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Head of the Ray cluster; auto on a machine of it, local to start one here.",
        show_default="auto",
    ),
]


def check_engine(engine: str, address: str | None) -> None:
    """Refuse what cannot be, before anything heavy is loaded.

    Raises:
        ConfigError: If the engine is unknown, not installed, or has no address.
    """
    from medmtl.core.errors import ConfigError

    if engine not in ("local", "ray"):
        raise ConfigError(f"--engine: found {engine!r}, expected one of local, ray.")
    if engine == "local" and address is not None:
        raise ConfigError("--address: it is for --engine ray. Leave it out, or name the engine.")
    if engine == "ray" and find_spec("ray") is None:
        raise ConfigError("--engine ray: Ray is not installed. Run pip install 'medmtl[ray]'.")


@dataclass(frozen=True)
class Engine:
    """Where the work is done.

    Attributes:
        arrange: Joins files that are channels of one case, where the model reads several.
        start: Begins a batch, as `run_batch` does without its analyser.
    """

    arrange: Callable[[Listing], Listing]
    start: Callable[..., Iterator[CaseOutcome]]


def engine_of(
    engine: str, address: str | None, model: str | Path | None, *, device: str, **options: Any
) -> Engine:
    """The engine, with the model loaded here or made ready to be sent.

    Args:
        engine: "local" or "ray".
        address: Of the cluster.
        model: Name or folder; None for the shipped ones.
        device: "auto", "cpu" or "cuda".
        options: Further ones of `load_predictor`.

    Raises:
        BundleError: If the bundle is missing or altered.
        ConfigError: If an option does not fit.
    """
    import_lightly()
    if engine == "ray":
        return _on_ray(address or "auto", model, device=device, **options)
    from medmtl.inference.batch import run_batch
    from medmtl.inference.cores import networks_at_once
    from medmtl.inference.predictor import arranged, choose_device, load_predictor

    analyser = load_predictor(model, device=device, **options)
    networks = networks_at_once(choose_device(device))

    def start(listing: Listing, *, options: BatchOptions, **how: Any) -> Iterator[CaseOutcome]:
        chosen = replace(options, networks=networks)
        return run_batch(listing, analyser, options=chosen, **how)

    return Engine(lambda listing: arranged(listing, analyser), start)


def _on_ray(address: str, model: str | Path | None, *, device: str, **options: Any) -> Engine:
    from medmtl.inference.bundle import find_bundle, read_settings
    from medmtl.inference.bundle_parcel import BundleParcel
    from medmtl.inference.channel_rule import ChannelRule
    from medmtl.inference.channels import parse_channels
    from medmtl.inference.cluster import run_on_ray

    folder = None if model is None else find_bundle(model)
    load = BundleParcel.of(folder, **options).load

    def arrange(listing: Listing) -> Listing:
        if folder is None:
            return listing
        settings, _ = read_settings(folder)
        names = [channel.name for channel in settings.input.channels]
        return ChannelRule(settings, parse_channels(options["channels"], names)).arrange(listing)

    def start(listing: Listing, **how: Any) -> Iterator[CaseOutcome]:
        return run_on_ray(listing, load, address=address, device=device, **how)

    return Engine(arrange, start)
