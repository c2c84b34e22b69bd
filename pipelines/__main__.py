"""The `medmtl` command line: parse, build, call, print. Heavy imports happen inside commands."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from typing import Any

import typer

from medmtl import MedmtlError
from medmtl.core.errors import system_reason

from .compare import compare
from .console import COULD_NOT_START
from .convert import convert
from .evaluate import evaluate
from .interrupt import INTERRUPTED, end_after_interrupt, leave_interrupted
from .manifest import app as manifest
from .models import app as models
from .phantom import phantom
from .predict import predict
from .push import push
from .scan import scan
from .train import train
from .view import view
from .watch import watch

_ARENA_MAX = -8
"""M_ARENA_MAX of glibc's malloc.h."""

app = typer.Typer(
    name="medmtl",
    help="Joint medical image segmentation and diagnosis. Research software, no medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback with locals would show patient identities
    pretty_exceptions_show_locals=False,
)

app.command()(compare)
app.command()(convert)
app.command()(evaluate)
app.command()(phantom)
app.command()(predict)
app.command()(push)
app.command()(scan)
app.command()(train)
app.command()(view)
app.command()(watch)
app.add_typer(manifest, name="manifest")
app.add_typer(models, name="models")


def _defaults() -> dict[str, Any]:
    """What the environment gives in place of an option."""
    data_root = os.environ.get("MEDMTL_DATA_ROOT")
    root = {"data_root": data_root} if data_root else {}
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    server = {"tracking_uri": uri} if uri else {}
    secrets = os.environ.get("MEDMTL_PACS_CREDENTIALS")
    pacs = {"credentials": secrets} if secrets else {}
    return {
        "compare": root | server,
        "evaluate": root | server,
        "manifest": {"check": root},
        "models": {"register": server, "promote": server, "rollback": server},
        "predict": server | pacs,
        "push": pacs,
        "train": root | server,
        "view": server,
        "watch": server | pacs,
    }


def _pacs_secrets() -> dict[str, str]:
    """Who asks an archive, as a context object: a default of an option would be shown by --help."""
    given = {
        name: os.environ.get(f"MEDMTL_PACS_{name.upper()}", "")
        for name in ("user", "password", "token")
    }
    return {name: value for name, value in given.items() if value}


def _share_memory_between_threads() -> None:
    """One pool for all threads: glibc's own way keeps what each has freed, a tenth of the peak."""
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every C library
        if mallopt is not None:
            mallopt(_ARENA_MAX, 1)


def main() -> None:
    """Run one command; a known error is one line on stderr and exit status 2.

    So is what the system refuses at a place that has no better words for it: a traceback would
    show paths, and folders are called after patients.
    """
    if not os.environ.get("PYTHONWARNINGS"):
        warnings.simplefilter("ignore")  # library warnings quote header values
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # its import writes an identifier
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports to a server
    # torch's own switch for pages of 2 MiB: making a map of 64 MiB costs a sixth of the time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    _share_memory_between_threads()
    end_after_interrupt()
    try:
        app(default_map=_defaults(), obj=_pacs_secrets())
    except MedmtlError as error:
        sys.stderr.write(f"medmtl: {error}\n")
        sys.exit(COULD_NOT_START)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            leave_interrupted()
        raise
    except OSError as error:
        sys.stderr.write(
            f"medmtl: a file or folder: {system_reason(error)}. Check that the "
            "paths are right and may be read and written, and that the disk is not full.\n"
        )
        sys.exit(COULD_NOT_START)


if __name__ == "__main__":
    main()
