"""`medmtl scan`: what an input holds, what would be analysed, what is refused and why."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import (
    OK,
    SOME_FAILED,
    InputArgument,
    JsonLogsOption,
    QuietOption,
    set_up_logging,
)

if TYPE_CHECKING:
    from medmtl.core.study import Listing, VolumeRef

logger = logging.getLogger("medmtl.scan")

JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the listing as JSON.")
]


def _volume_json(ref: VolumeRef) -> dict[str, Any]:
    return {
        "id": ref.id,
        "series_uid": ref.series_uid,
        "series_key": ref.series_key,
        "modality": ref.modality,
        **ref.geometry.as_json(),
        "phase": ref.phase,
        "time_ms": ref.time_ms,
        "source_files": list(ref.source_files),
        "flags": [vars(flag) for flag in ref.flags],
    }


def as_json(listing: Listing) -> dict[str, Any]:
    """The listing with the fields of the contract."""
    return {
        "studies": [
            {
                "case_id": study.case_id,
                "kind": study.kind,
                "study_uid": study.study_uid,
                "volumes": [_volume_json(ref) for ref in study.volumes],
            }
            for study in listing.studies
        ],
        "refusals": [vars(refusal) for refusal in listing.refusals],
        "skipped": [vars(entry) for entry in listing.skipped],
    }


def require_images(listing: Listing) -> None:
    """Raise MedmtlError where an input holds nothing that is, or should have been, an image."""
    if not listing.studies and not listing.refusals:
        from medmtl.core.errors import MedmtlError

        message = (
            f"No image volume in the input ({len(listing.skipped)} other entries). "
            "Give a DICOM file, folder, DICOMDIR or zip, or NIfTI files."
        )
        raise MedmtlError(message)


def _print(listing: Listing) -> None:
    """Tables on standard output."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    screen = Console()
    for study in listing.studies:
        table = Table("volume", "modality", "i x j x k", "spacing mm", "axes", "flags")
        table.title = f"case {escape(study.case_id)}"
        for ref in study.volumes:
            table.add_row(
                escape(ref.id),
                ref.modality or "-",
                " x ".join(map(str, ref.geometry.shape)),
                " x ".join(f"{value:.3g}" for value in ref.geometry.spacing_mm),
                ref.geometry.axis_code,
                escape(", ".join(flag.code for flag in ref.flags)),
            )
        screen.print(table)
    if listing.refusals:
        table = Table("refused", "why", "found", "expected", "what to do")
        for one in listing.refusals:
            row = (one.source, one.code, one.found, one.expected, one.advice)
            table.add_row(*map(escape, row))
        screen.print(table)
    if listing.skipped:
        counts: dict[str, int] = {}
        for entry in listing.skipped:
            counts[entry.reason] = counts.get(entry.reason, 0) + 1
        table = Table("skipped", "entries")
        for reason, count in sorted(counts.items()):
            table.add_row(escape(reason), str(count))
        screen.print(table)


def scan(
    source: InputArgument,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """List studies and series: which would be analysed, which are refused, and why."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from medmtl.data.intake import open_input

    listing = open_input(source)
    if json_file is not None:
        from .write_json import write_json

        write_json(json_file, as_json(listing))
    if not quiet:
        _print(listing)
    require_images(listing)
    for one in listing.refusals if quiet or json_logs else ():  # else the tables say it
        logger.error("refused %s: %s. %s", one.source, one.code, one.advice)
    raise typer.Exit(SOME_FAILED if listing.refusals else OK)
