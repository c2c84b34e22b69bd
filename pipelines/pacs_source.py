"""An archive as the user names it: its credentials, and its studies as an input."""

from __future__ import annotations

import ipaddress
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medmtl.core.study import Listing, Refusal
    from medmtl.pacs.address import PacsAddress, PacsQuery
    from medmtl.pacs.archive import Archive, StudyEntry
    from medmtl.pacs.credentials import Credentials
    from medmtl.pacs.errors import PacsError
    from medmtl.pacs.push import Target
    from medmtl.pacs.tls import TlsFiles

logger = logging.getLogger("medmtl.pacs")

CredentialsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="TOML file with user and password, or token, for the archive. Else "
        "MEDMTL_PACS_CREDENTIALS names it, or MEDMTL_PACS_USER and MEDMTL_PACS_PASSWORD, or "
        "MEDMTL_PACS_TOKEN.",
        show_default=False,
    ),
]
CaFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="PEM", help="Certificates of the authorities to trust.", show_default=False
    ),
]


CertificateOption = Annotated[
    Path | None,
    typer.Option(
        metavar="PEM",
        help="Certificate of this machine, for an archive that asks for one and for dimses://.",
        show_default=False,
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        metavar="PEM", help="Its private key, where it is in another file.", show_default=False
    ),
]

ImagesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where images of an archive are kept, so that they are fetched once; they are as "
        "they came, with the patient's name. Else a folder in OUT/.medmtl.",
        show_default=False,
    ),
]


def tls_of(ca_file: Path | None, certificate: Path | None, key: Path | None) -> TlsFiles:
    """The three options as one, checked."""
    from medmtl.pacs.tls import TlsFiles

    return TlsFiles(ca_file, certificate, key)


def credentials_of(ctx: typer.Context, path: Path | None) -> Credentials | None:
    """From the file, else from what the environment gave (pipelines/__main__.py), else None."""
    from medmtl.pacs.credentials import Credentials, read_credentials

    if path is not None:
        return read_credentials(path)
    secrets: Mapping[str, str] = ctx.obj or {}
    return Credentials(**secrets) if secrets else None


def open_archive(url: str, *, credentials: Credentials | None, tls: TlsFiles) -> Archive:
    """Prepare the questions to an archive; nothing is sent yet."""
    from medmtl.pacs.archive import Archive

    if credentials is not None and url.startswith("http://") and not is_this_machine(_host(url)):
        logger.warning("credentials and images go unencrypted over http; use https if you can")
    return Archive.connect(url, credentials=credentials, tls=tls)


def open_target(address: str, *, credentials: Credentials | None, tls: TlsFiles) -> Target:
    """Prepare to send to an archive, by its address; nothing is sent yet."""
    from medmtl.pacs.dimse_address import is_dimse_address, parse_peer

    if not is_dimse_address(address):
        return open_archive(service_root(address), credentials=credentials, tls=tls)
    from medmtl.pacs.dimse_target import DimseTarget

    peer = parse_peer(address)
    if not peer.is_tls and not is_this_machine(peer.host):
        logger.warning("results go unencrypted over DIMSE; use dimses:// if the archive can")
    return DimseTarget(peer, tls=tls.client_context() if peer.is_tls else None)


def service_root(address: str) -> str:
    """The URL of a web service to send to; a query makes no sense here."""
    from medmtl.core.errors import ConfigError
    from medmtl.pacs.address import parse_address

    target = parse_address(address)
    if not target.query.is_open:
        message = "the address to send to holds a query; give the root of the DICOMweb service."
        raise ConfigError(message)
    return target.url


def is_this_machine(host: str) -> bool:
    """Whether what is sent to this host leaves the machine not at all."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def images_root(out: Path, query: PacsQuery, *, images: Path | None = None) -> Path:
    """Where retrieved images lie; parts of studies lie apart from whole ones."""
    from medmtl.pacs.image_files import short_hash

    base = images if images is not None else out / ".medmtl" / "images"
    if not query.series and not query.modality:
        return base / "studies"
    return base / f"selection-{short_hash(query.modality, *sorted(query.series))}"


def open_archive_input(
    archive: Archive, address: PacsAddress, *, root: Path, anew: bool = False
) -> tuple[Path, Listing]:
    """Retrieve the studies of a query, with `anew` what is there as well, and list them.

    Returns:
        The folder they lie in, and their listing; a study that could not be retrieved is a refusal.

    Raises:
        MedmtlError: If no study matches, or the archive gives nothing at all.
    """
    from medmtl.core.errors import MedmtlError
    from medmtl.core.study import Listing
    from medmtl.data.intake import open_input

    found = archive.studies(address.query)
    if not found:
        raise MedmtlError("No study of the archive matches the query. Check its keys and values.")
    retrieved, refusals = _retrieve_all(archive, found, address.query, root, anew=anew)
    if not retrieved and not refusals:
        raise MedmtlError("The studies that match the query hold no images.")
    listing = open_input(root) if retrieved else Listing()
    return root, Listing(
        tuple(study for study in listing.studies if study.study_uid in retrieved),
        (*refusals, *(r for r in listing.refusals if r.study_uid in retrieved)),
        listing.skipped,
        asked=frozenset(study.uid for study in found),
    )


def _retrieve_all(
    archive: Archive,
    found: tuple[StudyEntry, ...],
    query: PacsQuery,
    root: Path,
    *,
    anew: bool,
) -> tuple[set[str], list[Refusal]]:
    from medmtl.pacs.errors import PacsError, PacsUnreachableError
    from medmtl.pacs.image_files import short_hash
    from medmtl.pacs.retrieve import retrieve_study

    retrieved: set[str] = set()
    refusals: list[Refusal] = []
    away: PacsUnreachableError | None = None
    for number, study in enumerate(found, start=1):
        if away is not None:
            refusals.append(_not_retrieved(study.uid, away))
            continue
        try:
            images = archive.images(study.uid, query)
            if not images:
                continue
            done = retrieve_study(archive, images, root=root, anew=anew)
        except PacsUnreachableError as error:
            if not retrieved:
                raise
            away = error
            refusals.append(_not_retrieved(study.uid, error))
            continue
        except PacsError as error:
            refusals.append(_not_retrieved(study.uid, error))
            continue
        retrieved.add(study.uid)
        logger.info("%d/%d study %s: %d image(s) retrieved, %d there before", number, len(found),
                    short_hash(study.uid), done.fetched, done.kept)  # fmt: skip
    return retrieved, refusals


def _not_retrieved(study_uid: str, error: PacsError) -> Refusal:
    from medmtl.core.study import Refusal
    from medmtl.pacs.image_files import short_hash

    return Refusal(
        source=f"study {short_hash(study_uid)}",
        stage="retrieve",
        code="not-retrieved",
        found=str(error),
        expected="every image of the study",
        advice="Run the command again; what was retrieved is kept.",
        study_uid=study_uid,
    )
