"""`medmtl models register`, `promote` and `rollback`: bundles in the MLflow registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import OK, SOME_FAILED, JsonLogsOption, QuietOption, set_up_logging
from .model_source import BundleArgument, TrackingUriOption, bundle_cache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.tracking.criterion import Criterion, Evidence
    from medmtl.tracking.mlflow_store import Connection
    from medmtl.tracking.registry import Version

RegisteredName = Annotated[str, typer.Argument(metavar="NAME", help="Registered name.")]
AliasOption = Annotated[str, typer.Option("--to", metavar="ALIAS", help="Such as champion.")]
NO_REASON = "no reason given"
WhyOption = Annotated[str, typer.Option(help="The reason, in a sentence; it is recorded.")]
ByOption = Annotated[
    str | None, typer.Option(help="Who decides; the user of this machine if not given.")
]
EvaluationOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Results of `medmtl evaluate`; else the bundle's own."),
]


def register(
    bundle: BundleArgument,
    name: Annotated[
        str | None, typer.Option(help="Registered name; that of the bundle if not given.")
    ] = None,
    tracking_uri: TrackingUriOption = None,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """Make a bundle a version in the MLflow registry, after its checksums were recomputed."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from medmtl.inference.bundle import find_bundle, verify_bundle
    from medmtl.tracking.mlflow_store import LOCAL_STORE, connect
    from medmtl.tracking.registry import register as register_bundle

    folder = find_bundle(bundle)
    verify_bundle(folder)
    connection = connect(tracking_uri, store=LOCAL_STORE)
    version = register_bundle(connection, folder, name=name)
    typer.echo(f"{version}, sha256 {version.sha256}")
    typer.echo(f"Next: medmtl models promote {version.name} --to champion --why ...")


def promote(
    name: RegisteredName,
    to: AliasOption,
    why: WhyOption = NO_REASON,
    by: ByOption = None,
    version: Annotated[
        str | None, typer.Option(metavar="N", help="Which version; the newest if not given.")
    ] = None,
    gate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Gate in TOML; else the shipped one.")
    ] = None,
    evaluation: EvaluationOption = None,
    champion_evaluation: EvaluationOption = None,
    tracking_uri: TrackingUriOption = None,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """Give a version an alias, if it passes the gate; exit status 1 where it does not."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from medmtl.tracking.gate import judge
    from medmtl.tracking.gate_settings import load_gate
    from medmtl.tracking.mlflow_store import LOCAL_STORE, connect
    from medmtl.tracking.model_uri import ModelUri
    from medmtl.tracking.promotion import champion_metrics, record_decision, set_alias
    from medmtl.tracking.registry import check_alias, find_version, holder

    check_alias(to)
    operator, reason = _who(by), _reason(why)
    settings = load_gate(gate)
    connection = connect(tracking_uri, store=LOCAL_STORE, may_create=False)
    candidate = find_version(connection, ModelUri(name, version=version))
    champion = holder(connection, name, to)
    if champion is not None and champion.number == candidate.number:
        typer.echo(f"{candidate} has the alias {to} already.")
        raise typer.Exit(OK)
    mine = _evidence(connection, candidate, _metrics(evaluation))
    theirs = None
    if champion is not None and champion_evaluation is not None:
        theirs = _evidence(connection, champion, _metrics(champion_evaluation))
    elif champion is not None:
        recorded = champion_metrics(connection, champion, to)
        theirs = replace(_evidence(connection, champion, recorded), is_evaluation=False)
    criteria = judge(mine, theirs, settings)
    run_id = record_decision(
        connection,
        candidate,
        alias=to,
        by=operator,
        why=reason,
        evidence=mine,
        criteria=criteria,
        settings=settings,
    )
    _show(criteria)
    if not all(criterion.is_met for criterion in criteria):
        typer.echo(f"{candidate} does not become {to}; the alias stays as it was.", err=True)
        raise typer.Exit(SOME_FAILED)
    set_alias(
        connection,
        candidate,
        alias=to,
        by=operator,
        why=reason,
        champion=champion,
        run_id=run_id,
    )
    typer.echo(f"{candidate} is {to} (before: {champion or 'nobody'}).")


def rollback(
    name: RegisteredName,
    to: AliasOption,
    why: WhyOption,
    by: ByOption = None,
    tracking_uri: TrackingUriOption = None,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """Give an alias back to the version that had it before."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from medmtl.tracking.mlflow_store import LOCAL_STORE, connect
    from medmtl.tracking.promotion import rollback as give_back

    connection = connect(tracking_uri, store=LOCAL_STORE, may_create=False)
    previous = give_back(connection, name, alias=to, by=_who(by), why=_reason(why))
    typer.echo(f"{previous} is {to} again.")


def _who(by: str | None) -> str:
    import getpass

    from medmtl.core.errors import ConfigError

    try:
        operator = (by or getpass.getuser()).strip()
    except (OSError, KeyError):  # a container without a user entry; OSError from Python 3.13
        operator = ""
    if not operator:
        message = "--by: found no name, expected who decides. Give it, for example --by a.lee."
        raise ConfigError(message)
    return operator


def _reason(why: str) -> str:
    from medmtl.core.errors import ConfigError

    if not why.strip():
        message = "--why: found nothing, expected the reason in a sentence; it is recorded."
        raise ConfigError(message)
    return why.strip()


def _metrics(folder: Path | None) -> dict[str, Any] | None:
    """The metrics.json of a folder that `medmtl evaluate` wrote."""
    if folder is None:
        return None
    import json

    from medmtl.core.errors import ConfigError

    try:
        content = json.loads((folder / "metrics.json").read_bytes())
    except (OSError, ValueError) as error:
        content = type(error).__name__
    if not isinstance(content, dict):
        message = (
            f"Evaluation {folder.name}: found no readable metrics.json ({content}), expected the "
            "output folder of `medmtl evaluate`."
        )
        raise ConfigError(message)
    return content


def _evidence(connection: Connection, version: Version, metrics: Any) -> Evidence:
    """The bundle of a version, checked whole, with the figures that speak for it."""
    from medmtl.inference.bundle import verify_bundle
    from medmtl.tracking.bundle_cache import fetch
    from medmtl.tracking.gate import Evidence

    bundle = fetch(connection, version, cache=bundle_cache())
    verify_bundle(bundle.folder)
    if metrics is None:
        return Evidence(bundle, bundle.metrics)
    return Evidence(bundle, metrics, is_evaluation=True)


def _show(criteria: Sequence[Criterion]) -> None:
    """The whole gate as a table on standard output, what failed as lines on stderr."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("criterion", "met", "found", "expected")
    for one in criteria:
        row = (one.name, "yes" if one.is_met else "NO", one.found, one.expected)
        table.add_row(*map(escape, row))
    Console().print(table)
    for one in criteria:
        if not one.is_met:
            typer.echo(f"refused: {one}", err=True)
