"""`medmtl models`: the bundles that are installed, and those of the MLflow registry."""

from __future__ import annotations

from typing import Annotated

import typer

from . import models_import
from .model_source import converted_cache
from .models_quantise import quantise
from .models_registry import promote, register, rollback

app = typer.Typer(help="Model bundles: installed ones, and the registry.", no_args_is_help=False)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A shipped bundle's name, or a bundle's folder.")
]


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List the installed model bundles."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
def list_models() -> None:
    """Name, version, input and licence of every installed bundle."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from medmtl.inference.bundle import read_settings, shipped_bundles

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for column in ("model", "reads", "segments", "findings"):
        table.add_column(column, no_wrap=True)  # 80 columns hold them; a name in two is no name
    table.add_column("weights' licence")
    for folder in shipped_bundles().values():
        settings, identity = read_settings(folder)
        table.add_row(
            f"{identity.name}\n{identity.version}",
            f"{settings.input.modality}: {', '.join(settings.network.volumes)}",
            str(len(settings.segments)),
            "\n".join(finding.name for finding in settings.findings) or "-",
            settings.licence,
            end_section=True,
        )
    Console().print(table)


@app.command("show")
def show(name: NameArgument) -> None:
    """Print a bundle's card."""
    from medmtl.inference.bundle import find_bundle, verify_bundle

    folder = find_bundle(name)
    verify_bundle(folder)
    typer.echo((folder / "card.md").read_text(encoding="utf-8"))


@app.command("verify")
def verify(name: NameArgument) -> None:
    """Recompute a bundle's checksums; exit status 2 where a file is missing or altered.

    Where the network was quantised, its parity report must hold as well.
    """
    from medmtl.inference.backend import verify_quantised
    from medmtl.inference.bundle import find_bundle, load_bundle, verify_bundle

    folder = find_bundle(name)
    settings = verify_bundle(folder)
    for file, digest in settings.sha256.items():
        typer.echo(f"{file}  {digest}")
    typer.echo(f"{settings.name} {settings.version}: all checksums match.")
    if report := verify_quantised(load_bundle(folder), cache=converted_cache()):
        typer.echo(f"int8: parity holds; {report}")


app.command("quantise")(quantise)
app.command("register")(register)
app.command("promote")(promote)
app.command("rollback")(rollback)
app.add_typer(models_import.app, name="import")
