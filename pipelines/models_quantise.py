"""`medmtl models quantise`: a bundle's network in int8, proven on the cases of a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from .console import (
    OK,
    SOME_FAILED,
    JsonLogsOption,
    ManifestOption,
    QuietOption,
    set_up_logging,
)
from .model_source import BundleArgument, TrackingUriOption, converted_cache, local_model


def quantise(
    bundle: BundleArgument,
    manifest: ManifestOption,
    data_root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where its paths start; the manifest's folder if not given."
        ),
    ] = None,
    calibration: Annotated[
        str, typer.Option(metavar="NAME", help="Split whose cases set the ranges.")
    ] = "train",
    validation: Annotated[
        str, typer.Option(metavar="NAME", help="Split on which the answers are compared.")
    ] = "val",
    tracking_uri: TrackingUriOption = None,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """Make BUNDLE's network in int8 for the CPU; exit status 1 where its answers differ too much.

    For `medmtl predict --backend int8`. The network is kept with its report in the folder of
    converted networks.
    """
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from medmtl.data.manifest import read_manifest
    from medmtl.data.splits import choose_split
    from medmtl.inference.evaluate import Evaluation
    from medmtl.inference.imported import ImportedModel
    from medmtl.inference.predictor import Predictor, load_predictor
    from medmtl.inference.quantise import quantise as make

    known = read_manifest(manifest)
    chosen = {name: choose_split(known, name)[1] for name in (calibration, validation)}
    _check_apart(calibration, validation)
    cache = converted_cache()
    predictor = load_predictor(
        local_model(bundle, tracking_uri=tracking_uri),
        device="cpu",
        backend="openvino",
        speed="balanced",
        cam="none",
        cache=cache,
    )
    if not isinstance(predictor, Predictor | ImportedModel):
        _refuse("name one model")
    if predictor.bundle.settings.folds or predictor.bundle.settings.parts:
        _refuse(
            "one network at a time; this model has several. Import one fold, or one folder, alone"
        )
    evaluation = Evaluation(
        analyser=predictor, manifest=known, data_root=manifest if data_root is None else data_root
    )
    problems = ["nothing was tried"]
    for report in make(
        predictor,
        evaluation,
        calibration=chosen[calibration],
        validation=chosen[validation],
        split=validation,
        cache=cache,
    ):
        problems = report.problems()
        typer.echo(str(report))
        typer.echo("parity holds" if not problems else f"parity fails: {'; '.join(problems)}")
    raise typer.Exit(SOME_FAILED if problems else OK)


def _check_apart(calibration: str, validation: str) -> None:
    if calibration == validation:
        _refuse("the cases that set the ranges cannot prove them; name two splits")


def _refuse(reason: str) -> NoReturn:
    from medmtl.core.errors import ConfigError

    raise ConfigError(f"models quantise: {reason}.")
