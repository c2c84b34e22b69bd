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


def credentials_of(ctx: typer.Context, path: Path | None) -> Credentials | None:
    """From the file, else from what the environment gave (pipelines/__main__.py), else None."""
    from medmtl.pacs.credentials import Credentials, read_credentials

    if path is not None:
        return read_credentials(path)
    secrets: Mapping[str, str] = ctx.obj or {}
    return Credentials(**secrets) if secrets else None


def open_archive(url: str, *, credentials: Credentials | None, ca_file: Path | None) -> Archive:
    """Prepare the questions to an archive; nothing is sent yet."""
    from medmtl.pacs.archive import Archive

    if credentials is not None and url.startswith("http://") and not _is_this_machine(url):
        logger.warning("credentials and images go unencrypted over http; use https if you can")
    return Archive.connect(url, credentials=credentials, ca_file=ca_file)


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def images_root(out: Path, query: PacsQuery, *, images: Path | None = None) -> Path:
    """Where retrieved images lie; parts of studies lie apart from whole ones."""
    from medmtl.pacs.archive import short_hash

    base = images if images is not None else out / ".medmtl" / "images"
    if not query.series and not query.modality:
        return base / "studies"
    return base / f"selection-{short_hash(query.modality, *sorted(query.series))}"


def open_archive_input(
    archive: Archive, address: PacsAddress, *, root: Path
) -> tuple[Path, Listing]:
    """Retrieve the studies of a query and list them.

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
    folders, refusals = _retrieve_all(archive, found, address.query, root)
    if not folders and not refusals:
        raise MedmtlError("The studies that match the query hold no images.")
    if not folders:
        return root, Listing(refusals=tuple(refusals))
    wanted = {study.uid for study in found} - {refusal.study_uid for refusal in refusals}
    listing = open_input(root)
    return root, Listing(
        tuple(study for study in listing.studies if study.study_uid in wanted),
        (*refusals, *(r for r in listing.refusals if r.study_uid in wanted)),
        listing.skipped,
    )


def _retrieve_all(
    archive: Archive, found: tuple[StudyEntry, ...], query: PacsQuery, root: Path
) -> tuple[list[Path], list[Refusal]]:
    from medmtl.pacs.archive import short_hash
    from medmtl.pacs.errors import PacsError, PacsUnreachableError
    from medmtl.pacs.retrieve import retrieve_study

    folders: list[Path] = []
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
            done = retrieve_study(archive, images, root=root)
        except PacsUnreachableError as error:
            if not folders:
                raise
            away = error
            refusals.append(_not_retrieved(study.uid, error))
            continue
        except PacsError as error:
            refusals.append(_not_retrieved(study.uid, error))
            continue
        folders.append(done.folder)
        logger.info("%d/%d study %s: %d image(s) retrieved, %d there before", number, len(found),
                    short_hash(study.uid), done.fetched, done.kept)  # fmt: skip
    return folders, refusals


def _not_retrieved(study_uid: str, error: PacsError) -> Refusal:
    from medmtl.core.study import Refusal
    from medmtl.pacs.archive import short_hash

    return Refusal(
        source=f"study {short_hash(study_uid)}",
        stage="retrieve",
        code="not-retrieved",
        found=str(error),
        expected="every image of the study",
        advice="Run the command again; what was retrieved is kept.",
        study_uid=study_uid,
    )
