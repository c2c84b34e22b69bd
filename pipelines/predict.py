"""`medmtl predict`: studies in, masks, diagnoses and their evidence out."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import (
    COULD_NOT_START,
    OK,
    SOME_FAILED,
    JsonLogsOption,
    OutOption,
    QuietOption,
    console,
    set_up_logging,
)
from .deidentify import DeidentifyOption, as_wanted, outside_of, pseudonyms_of
from .engine import AddressOption, EngineOption, check_engine, engine_of
from .model_source import (
    ChannelOption,
    DeviceOption,
    ModelOption,
    SpeedOption,
    TrackingUriOption,
    converted_cache,
    local_model,
)
from .pacs_source import (
    CaFileOption,
    CertificateOption,
    CredentialsOption,
    ImagesOption,
    KeyOption,
    credentials_of,
    images_root,
    open_archive,
    open_archive_input,
    tls_of,
)
from .scan import require_images

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medmtl.core.study import Listing
    from medmtl.inference.batch import CaseOutcome
    from medmtl.pacs.address import PacsQuery

logger = logging.getLogger("medmtl.predict")

SegTypeOption = Annotated[
    str, typer.Option(help="DICOM segmentation: binary (read everywhere) or labelmap (small).")
]

_DICOM_FORMATS = ("seg", "sr", "pm", "rtstruct")


def predict(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="DICOM file, folder, DICOMDIR or zip; NIfTI file or folder of NIfTI files; or "
            "dicomweb+URL?study=UID (or series, patient, date, modality) of an archive.",
            show_default=False,
        ),
    ],
    out: OutOption,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    backend: Annotated[
        str, typer.Option(help="auto, torch, openvino (CPU) or int8 (after `models quantise`).")
    ] = "auto",
    formats: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Of nifti,json,png,seg,sr,pm (all) and rtstruct. case.json always comes. seg, sr, "
            "pm and rtstruct (DICOM segmentation, report, activation maps, contours) need DICOM "
            "input; sr brings seg along.",
        ),
    ] = "nifti,json,png",
    seg_type: SegTypeOption = "binary",
    cam: Annotated[
        str,
        typer.Option(
            metavar="FINDINGS", help="Activation maps for: all, none, or names joined by commas."
        ),
    ] = "all",
    uncertainty: Annotated[
        str,
        typer.Option(
            help="none, tta (the answer compared with those to turned and shifted views) or "
            "ensemble (with those of the bundle's further weights)."
        ),
    ] = "none",
    channel: ChannelOption = None,
    speed: SpeedOption = None,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Compute all cases anew, and fetch their images anew from an archive."
        ),
    ] = False,
    engine: EngineOption = "local",
    address: AddressOption = None,
    deidentify: DeidentifyOption = None,
    credentials: CredentialsOption = None,
    ca_file: CaFileOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    images: ImagesOption = None,
    tracking_uri: TrackingUriOption = None,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """Segment and diagnose every study in INPUT. Finished cases are not computed again."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    check_choices(
        seg_type=seg_type, device=device, backend=backend, uncertainty=uncertainty, speed=speed
    )
    check_engine(engine, address)
    chosen = formats_of(formats, seg_type=seg_type)
    from medmtl.pacs.address import is_pacs_address, parse_address

    pseudonyms = pseudonyms_of(deidentify, out)
    asked = parse_address(source) if is_pacs_address(source) else None
    if asked is None:
        check_places(Path(source), out)
    else:
        _check_query(asked.query)
        outside_of(out, images, pseudonyms)
        secrets = credentials_of(ctx, credentials)
        tls = tls_of(ca_file, certificate, key)
        archive = open_archive(asked.url, credentials=secrets, tls=tls)
    chosen_engine = engine_of(
        engine,
        address,
        None if model is None else local_model(model, tracking_uri=tracking_uri),
        device=device,
        backend=backend,
        cam=cam,
        uncertainty=uncertainty,
        cache=converted_cache(),
        channels=channel or (),
        speed=speed,
    )
    from medmtl.data.intake import open_input
    from medmtl.inference.batch import BatchOptions

    if asked is None:
        place, listing = Path(source), open_input(Path(source))
        require_images(listing)
    else:
        root = images_root(out, asked.query, images=images)
        place, listing = open_archive_input(archive, asked, root=root, anew=restart)
    listing = as_wanted(chosen_engine.arrange(listing), pseudonyms)
    _check_dicom_formats(formats, listing)
    for refusal in listing.refusals:
        logger.error("refused %s: %s. %s", refusal.source, refusal.code, refusal.advice)
    outcomes = chosen_engine.start(
        listing,
        out=out,
        input_path=place,
        options=BatchOptions(formats=chosen, restart=restart),
    )
    failed = len(listing.refusals) + follow(outcomes, total=len(listing.studies))
    raise typer.Exit(SOME_FAILED if failed else OK)


def formats_of(text: str, *, seg_type: str) -> tuple[str, ...]:
    """The formats to write, in their own order; a report cites a segmentation and brings it."""
    from medmtl.core.errors import ConfigError
    from medmtl.inference.write_case import ALL_FORMATS, FORMATS

    names = {name.strip() for name in text.split(",") if name.strip()}
    if "all" in names:
        names = names - {"all"} | set(ALL_FORMATS)
    for name in sorted(names):
        if name not in FORMATS:
            message = f"--formats: found {name!r}, expected a list of {','.join(FORMATS)}, or all."
            raise ConfigError(message)
    if "sr" in names:
        names.add("seg")
    seg = "seg" if seg_type == "binary" else "seg-labelmap"
    return tuple(seg if name == "seg" else name for name in FORMATS if name in names)


def _check_dicom_formats(formats: str, listing: Listing) -> None:
    """DICOM results of NIfTI images would have no patient, study or frame of reference."""
    from medmtl.core.errors import ConfigError

    named = [name.strip() for name in formats.split(",") if name.strip() in _DICOM_FORMATS]
    if named and listing.studies and all(study.kind == "nifti" for study in listing.studies):
        message = (
            f"--formats: {','.join(named)} needs DICOM input, for the patient, study and frame of "
            "reference that a DICOM result shares with its source. Found NIfTI only; use nifti."
        )
        raise ConfigError(message)


def _check_query(query: PacsQuery) -> None:
    """Nobody means to analyse a whole archive by leaving the query out."""
    from medmtl.core.errors import ConfigError

    if query.is_open:
        message = "INPUT names an archive without a query. Add ?study=UID, ?patient=ID or ?date=..."
        raise ConfigError(message)


def check_choices(
    *,
    seg_type: str,
    device: str,
    backend: str = "auto",
    uncertainty: str = "none",
    speed: str | None = None,
) -> None:
    """Refuse a value that an option does not know, before anything heavy is loaded."""
    _one_of("--seg-type", seg_type, ("binary", "labelmap"))
    _one_of("--device", device, ("auto", "cpu", "cuda"))
    _one_of("--backend", backend, ("auto", "torch", "openvino", "int8"))
    if speed is not None:
        _one_of("--speed", speed, ("fast", "balanced", "best"))
    _one_of("--uncertainty", uncertainty, ("none", "tta", "ensemble"))


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    from medmtl.core.errors import ConfigError

    if value not in allowed:
        message = f"{option}: found {value!r}, expected one of {', '.join(allowed)}."
        raise ConfigError(message)


def check_places(source: Path, out: Path, *, is_folder: bool = False) -> None:
    """Refuse a missing input, and results among images: a watched folder would never settle."""
    from medmtl.core.errors import ConfigError

    if not source.exists():
        message = "INPUT does not exist. Give a DICOM or NIfTI file, a folder, a DICOMDIR or a zip."
        raise ConfigError(message)
    if is_folder and not source.is_dir():
        message = "URL_OR_FOLDER is a file. Give a folder, or the address of an archive."
        raise ConfigError(message)
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        message = (
            "the output folder lies inside INPUT, so results would lie among images. Choose one "
            "outside of it with -o."
        )
        raise ConfigError(message)


def follow(outcomes: Iterator[CaseOutcome], *, total: int) -> int:
    """Show progress, and return how many cases failed; a stopped run ends the program here."""
    from medmtl.core.errors import MedmtlError

    decided: list[CaseOutcome] = []
    try:
        for outcome in _shown(outcomes, total=total):
            decided.append(outcome)
            if outcome.failure is not None:
                logger.error("%s failed: %s. %s", outcome.failure.what, outcome.failure.reason,
                             outcome.failure.advice)  # fmt: skip
    except MedmtlError as error:
        sys.stderr.write(f"medmtl: stopped after {len(decided)} of {total} case(s): {error}\n")
        raise typer.Exit(SOME_FAILED if decided else COULD_NOT_START) from None
    return sum(outcome.status == "failed" for outcome in decided)


def _shown(outcomes: Iterator[CaseOutcome], *, total: int) -> Iterator[CaseOutcome]:
    """A bar with the time left on a terminal, else a line per case."""
    if not console.is_terminal or console.quiet:
        for number, outcome in enumerate(outcomes, start=1):
            seconds = outcome.seconds.get("total", 0.0)
            logger.info("%d/%d %s: %s, %.1f s", number, total, outcome.case_id, outcome.status,
                        seconds)  # fmt: skip
            yield outcome
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("studies", total=total)
        for outcome in outcomes:
            progress.update(task, advance=1, description=f"{outcome.case_id} {outcome.status}")
            yield outcome
