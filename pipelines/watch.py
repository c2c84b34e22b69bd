"""`medmtl watch`: analyse what arrives in an archive or a folder, once each, and send it back."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmtl.pacs.address import PacsAddress

from .console import OK, SOME_FAILED, JsonLogsOption, OutOption, QuietOption, set_up_logging
from .deidentify import DeidentifyOption, outside_of, pseudonyms_of
from .light_imports import import_lightly
from .model_source import (
    ChannelOption,
    DeviceOption,
    ModelOption,
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
    open_archive,
    open_target,
    service_root,
    tls_of,
)
from .predict import SegTypeOption, check_choices, check_places, formats_of
from .watch_rounds import Watcher, watch_archive, watch_folder, watch_received

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medmtl.pacs.dimse_address import DimseListener
    from medmtl.pacs.tls import TlsFiles

logger = logging.getLogger("medmtl.watch")

_LONGEST_WAIT_S = 300.0


def watch(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="URL_OR_FOLDER",
            help="[dicomweb+]URL[?date=RANGE&modality=CT...] of an archive, a folder, or "
            "dimse[s]://HOST:PORT[?aet=OURS&from=AET] to receive what is sent there by C-STORE.",
            show_default=False,
        ),
    ],
    out: OutOption,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Send the results here (DICOMweb, or dimse[s]://AET@HOST:PORT); brings seg,sr "
            "along.",
        ),
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    channel: ChannelOption = None,
    formats: Annotated[str, typer.Option(metavar="LIST", help="As in predict.")] = "nifti,json,png",
    seg_type: SegTypeOption = "binary",
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 10.0,
    settle: Annotated[
        float, typer.Option(min=0.0, help="A study is complete after so many seconds of quiet.")
    ] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, then end (for cron).")] = False,
    forget_images: Annotated[
        bool, typer.Option("--forget-images", help="Remove retrieved images when analysed.")
    ] = False,
    images: ImagesOption = None,
    deidentify: DeidentifyOption = None,
    credentials: CredentialsOption = None,
    push_credentials: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For --push, where that is another server than URL. Without it, nothing secret "
            "goes to the other server.",
            show_default=False,
        ),
    ] = None,
    ca_file: CaFileOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    tracking_uri: TrackingUriOption = None,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """Analyse every study that arrives, once each; goes on after its own and the archive's end."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    check_choices(seg_type=seg_type, device=device)
    chosen = formats_of(_with_results(formats) if push else formats, seg_type=seg_type)
    tls = tls_of(ca_file, certificate, key)
    place = _place(source, out, once=once, forget_images=forget_images)
    pseudonyms = pseudonyms_of(deidentify, out)
    if not isinstance(place, Path):
        outside_of(out, images, pseudonyms)
    mine = credentials_of(ctx, credentials)
    target = None
    if push is not None:
        # A secret goes to the server that it was given for, and to no other.
        is_same = not isinstance(place, PacsAddress) or place.url == service_root(push)
        theirs = mine if is_same else None
        if push_credentials is not None:
            theirs = credentials_of(ctx, push_credentials)
        target = open_target(push, credentials=theirs, tls=tls)
    import_lightly()
    from medmtl.inference.batch import BatchOptions
    from medmtl.inference.cores import networks_at_once
    from medmtl.inference.predictor import choose_device, load_predictor

    chosen_model = None if model is None else local_model(model, tracking_uri=tracking_uri)
    analyser = load_predictor(
        chosen_model,
        device=device,
        backend="auto",
        cache=converted_cache(),
        channels=channel or (),
    )
    with Watcher.open(
        out,
        analyser=analyser,
        options=BatchOptions(formats=chosen, networks=networks_at_once(choose_device(device))),
        target=target,
        pseudonyms=pseudonyms,
    ) as watcher:
        if isinstance(place, PacsAddress):
            archive = open_archive(place.url, credentials=mine, tls=tls)
            look = watch_archive(
                watcher, archive, place.query, settle_s=settle, forget_images=forget_images,
                images=images,
            )  # fmt: skip
            failed = _look_again(look, interval_s=interval, once=once)
        elif isinstance(place, Path):
            look = watch_folder(watcher, place, settle_s=settle)
            failed = _look_again(look, interval_s=interval, once=once)
        else:
            with _received(place, images or out / ".medmtl" / "received", tls) as folder:
                look = watch_received(watcher, folder, settle_s=settle)
                failed = _look_again(look, interval_s=interval, once=False)
    raise typer.Exit(SOME_FAILED if failed else OK)


def _place(
    source: str, out: Path, *, once: bool, forget_images: bool
) -> Path | PacsAddress | DimseListener:
    """What is watched, checked as far as it can be without asking anybody."""
    from medmtl.core.errors import ConfigError
    from medmtl.pacs.address import is_pacs_address, parse_address
    from medmtl.pacs.dimse_address import is_dimse_address, parse_listener

    if is_pacs_address(source):
        return parse_address(source)
    if not is_dimse_address(source):
        check_places(Path(source), out, is_folder=True)
        return Path(source)
    if once or forget_images:
        message = (
            "--once and --forget-images do not go with dimse://: nobody sends while nobody "
            "listens, and what was sent once cannot be fetched again when the study grows."
        )
        raise ConfigError(message)
    return parse_listener(source)


@contextmanager
def _received(listener: DimseListener, folder: Path, tls: TlsFiles) -> Iterator[Path]:
    """Receive into a folder while the block runs."""
    from medmtl.inference.case_store import output_errors
    from medmtl.pacs.receiver import Receiver

    if not listener.callers and not listener.is_local:
        logger.warning("any program on the network may send here; name those that may with ?from=")
    receiver = Receiver(listener, folder, tls.server_context() if listener.is_tls else None)
    with output_errors("The folder of received images"), receiver.listening() as port:
        logger.info("listening on port %d as %s", port, listener.title)
        yield folder


def _with_results(formats: str) -> str:
    """What is sent back is DICOM: where none was asked for, masks and report."""
    names = {name.strip() for name in formats.split(",")}
    return formats if names & {"seg", "sr", "pm", "rtstruct", "all"} else f"{formats},seg,sr"


def _look_again(look: Callable[[], int], *, interval_s: float, once: bool) -> int:
    """Look until the program is ended; longer pauses while the archive is away. Failures at end."""
    from medmtl.pacs.errors import PacsError

    wait_s = interval_s
    while True:
        try:
            failed = look()
            wait_s = interval_s if not failed else min(wait_s * 2, _LONGEST_WAIT_S)
        except (PacsError, OSError) as error:
            if once:
                raise _said(error) from None
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            logger.warning("%s Next try in %.0f s.", _said(error), wait_s)
            failed = 0
        if once:
            return failed
        time.sleep(wait_s)


def _said(error: Exception) -> Exception:
    """An error of the system names paths, and they may name patients; its kind is enough."""
    from medmtl.core.errors import MedmtlError

    if isinstance(error, MedmtlError):
        return error
    return MedmtlError(f"The folder could not be read ({type(error).__name__}).")
