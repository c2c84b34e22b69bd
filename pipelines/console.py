"""What the programs say: Rich on the screen (stderr), JSON lines where asked for."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

OK = 0
SOME_FAILED = 1
COULD_NOT_START = 2

InputArgument = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        help="DICOM file, folder, DICOMDIR or zip; NIfTI file or folder of NIfTI files.",
        show_default=False,
    ),
]
ManifestOption = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder of manifest.toml and cases.csv.")
]
OutOption = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Output folder.", show_default=False)
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Only errors on the screen.")]
JsonLogsOption = Annotated[
    bool, typer.Option("--json-logs", help="One JSON object per log line on stderr.")
]

# pydicom and highdicom quote tag values in warnings and log lines: patient identities.
# dicomweb_client and urllib3 quote addresses with the query: UIDs and patient ids;
# pynetdicom quotes queries and file names.
SILENCED = ("pydicom", "highdicom", "pylibjpeg", "nibabel", "matplotlib", "dicomweb_client",
            "requests", "retrying", "urllib3", "pynetdicom")  # fmt: skip

console = Console(stderr=True)


class _JsonLines(logging.Formatter):
    """One JSON object per record: time, level, logger, message."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
                "level": record.levelname,
                "logger": record.name,
                "message": record.getMessage(),
            }
        )


def set_up_logging(*, quiet: bool, json_logs: bool) -> None:
    """Send the library's log to stderr; silence loggers that print header values (identities)."""
    handler: logging.Handler
    if json_logs:
        handler = logging.StreamHandler()
        handler.setFormatter(_JsonLines())
    else:
        screen = Console(stderr=True) if quiet else console  # a quiet one would swallow errors
        handler = RichHandler(console=screen, show_path=False, rich_tracebacks=False)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.ERROR if quiet else logging.WARNING)
    logging.getLogger("medmtl").setLevel(logging.ERROR if quiet else logging.INFO)
    for name in SILENCED:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    console.quiet = quiet or json_logs
