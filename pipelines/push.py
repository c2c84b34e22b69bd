"""`medmtl push`: the DICOM results of a result folder into an archive."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import OK, SOME_FAILED, JsonLogsOption, QuietOption, set_up_logging
from .deidentify import DeidentifyOption, pseudonyms_of
from .pacs_source import (
    CaFileOption,
    CertificateOption,
    CredentialsOption,
    KeyOption,
    credentials_of,
    open_target,
    tls_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pydicom.dataset import Dataset

    from medmtl.core.pseudonym import Pseudonyms
    from medmtl.pacs.push import Target

logger = logging.getLogger("medmtl.push")


def push(
    ctx: typer.Context,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Result folder of predict.", show_default=False)
    ],
    to: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Root of the DICOMweb service, or dimse[s]://AET@HOST:PORT[?calling=AET].",
            show_default=False,
        ),
    ],
    credentials: CredentialsOption = None,
    ca_file: CaFileOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    deidentify: DeidentifyOption = None,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """Send the DICOM results (seg, sr, pm) in OUT. What the archive holds is not sent again."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    cases = _cases_with_results(out)
    target = open_target(
        to, credentials=credentials_of(ctx, credentials), tls=tls_of(ca_file, certificate, key)
    )
    failed = push_cases(target, cases, root=out, pseudonyms=pseudonyms_of(deidentify))
    raise typer.Exit(SOME_FAILED if failed else OK)


def push_cases(
    target: Target, cases: Iterable[Path], *, root: Path, pseudonyms: Pseudonyms | None = None
) -> int:
    """Send what is missing of these cases, say what was done, and return how many files failed."""
    from medmtl.pacs.push import push_files, result_files

    counts: Counter[str] = Counter()
    files = [path for case in cases for path in result_files(case)]
    change = None if pseudonyms is None else _without_person(pseudonyms)
    for outcome in push_files(target, files, root=root, change=change):
        counts[outcome.status] += 1
        if outcome.status == "failed":
            logger.error("%s failed: %s", outcome.file, outcome.reason)
    logger.info("%d result(s) sent, %d there before, %d failed", counts["sent"], counts["present"],
                counts["failed"])  # fmt: skip
    return counts["failed"]


def _without_person(pseudonyms: Pseudonyms) -> Callable[[Dataset], None]:
    from medmtl.dicom.identity import pseudonymous_result

    return lambda result: pseudonymous_result(result, pseudonyms)


def _cases_with_results(out: Path) -> list[Path]:
    from medmtl.core.errors import ConfigError
    from medmtl.pacs.push import result_files

    if not out.is_dir():
        raise ConfigError("OUT is no folder. Give the result folder of medmtl predict.")
    cases = [path for path in sorted(out.iterdir()) if path.is_dir() and result_files(path)]
    if not cases:
        raise ConfigError(
            "OUT holds no DICOM results. Run medmtl predict with --formats seg,sr (or all); cases "
            "that are done are computed anew for the further formats."
        )
    return cases
