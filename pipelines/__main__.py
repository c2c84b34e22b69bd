"""The `medmtl` command line: parse, build, call, print. Heavy imports happen inside commands."""

from __future__ import annotations

import os
import sys
import warnings

import typer

from medmtl import MedmtlError

from .console import COULD_NOT_START
from .convert import convert
from .evaluate import evaluate
from .manifest import manifest
from .models import app as models
from .phantom import phantom
from .predict import predict
from .scan import scan

app = typer.Typer(
    name="medmtl",
    help="Joint medical image segmentation and diagnosis. Research software, no medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback with locals would show patient identities
    pretty_exceptions_show_locals=False,
)

app.command()(convert)
app.command()(evaluate)
app.command()(manifest)
app.command()(phantom)
app.command()(predict)
app.command()(scan)
app.add_typer(models, name="models")


def main() -> None:
    """Run one command; a known error is one line on stderr and exit status 2."""
    if not os.environ.get("PYTHONWARNINGS"):
        warnings.simplefilter("ignore")  # library warnings quote header values
    data_root = os.environ.get("MEDMTL_DATA_ROOT")
    try:
        app(default_map={"evaluate": {"data_root": data_root}} if data_root else {})
    except MedmtlError as error:
        sys.stderr.write(f"medmtl: {error}\n")
        sys.exit(COULD_NOT_START)


if __name__ == "__main__":
    main()
