"""`medmtl manifest`: write and check a manifest for a data set found on this machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .console import (
    OK,
    SOME_FAILED,
    JsonLogsOption,
    OutOption,
    QuietOption,
    console,
    set_up_logging,
)


class Dataset(StrEnum):
    """Public data sets whose layout is known."""

    ACDC = "acdc"


def manifest(
    dataset: Annotated[Dataset, typer.Argument(help="Which public layout lies at --root.")],
    root: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Copy of the data set; becomes --data-root later."),
    ],
    out: OutOption,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """Write manifest.toml and cases.csv for a public data set; name what cannot be used."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    import logging

    from medmtl.data.builders.acdc import build_acdc_manifest
    from medmtl.data.manifest import read_manifest, write_manifest

    builders = {Dataset.ACDC: build_acdc_manifest}
    built, problems = builders[dataset](root)
    write_manifest(built, out)
    checked = read_manifest(out)
    for problem in problems:
        logging.getLogger("medmtl.manifest").warning("%s", problem)
    counts = ", ".join(f"{len(checked.in_split(split))} {split}" for split in checked.splits)
    console.print(
        f"{checked.name}: {len(checked.cases)} cases ({counts}), {len(problems)} problems"
    )
    raise typer.Exit(SOME_FAILED if problems else OK)
