"""The images of a study into a folder: in parallel, and only those that are not there yet.

They lie where `image_files` says.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.core.errors import OutputError, system_reason
from medmtl.pacs.errors import PacsError
from medmtl.pacs.image_files import image_path, short_hash, whole_file

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from medmtl.pacs.archive import Archive, InstanceRef

__all__ = ["Retrieved", "retrieve_study"]

_WORKERS = 4


@dataclass(frozen=True)
class Retrieved:
    """A study on the disk.

    Attributes:
        folder: Holds the images asked for and nothing else.
        fetched: How many came from the archive now.
        kept: How many were there already.
    """

    folder: Path
    fetched: int
    kept: int


def retrieve_study(
    archive: Archive,
    images: Collection[InstanceRef],
    *,
    root: Path,
    anew: bool = False,
    workers: int = _WORKERS,
) -> Retrieved:
    """Fetch what is missing of one study's images; what arrived stays for the next try.

    Args:
        archive: Where they are.
        images: Of one study, at least one.
        root: The study's folder is made in here. What is in that folder and not asked for is
            removed: images that the archive has no longer are not analysed.
        anew: Fetch what is there already as well: the archive may have corrected it.
        workers: Requests at a time.

    Raises:
        PacsError: If an image cannot be had; a study is never left incomplete unsaid.
        OutputError: If the disk is full or read-only.
    """
    (study_uid,) = {ref.study_uid for ref in images}
    folder = root / short_hash(study_uid)
    places = {
        image_path(
            root, study_uid=ref.study_uid, series_uid=ref.series_uid, sop_uid=ref.sop_uid
        ): ref
        for ref in images
    }
    try:
        _remove_others(folder, keep=places)
        missing = {path: ref for path, ref in places.items() if anew or not path.is_file()}
        _fetch_all(archive, missing, workers=workers)
    except OSError as error:
        raise OutputError(
            f"Images of study {folder.name} could not be written: {system_reason(error)}. Free or "
            "change the folder and start again; what was retrieved is kept."
        ) from error
    return Retrieved(folder, len(missing), len(places) - len(missing))


def _remove_others(folder: Path, *, keep: Collection[Path]) -> None:
    for path in folder.glob("*/*"):
        if path not in keep and path.suffix in {".dcm", ".part"}:
            path.unlink()


def _fetch_all(archive: Archive, missing: dict[Path, InstanceRef], *, workers: int) -> None:
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="retrieve")
    try:
        for done in as_completed(
            [pool.submit(_fetch, archive, ref, path) for path, ref in missing.items()]
        ):
            done.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # the first error ends the study's retrieval


def _fetch(archive: Archive, ref: InstanceRef, path: Path) -> None:
    instance = archive.retrieve(ref)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with whole_file(path, aside=path.parent) as stream:
            instance.save_as(stream, enforce_file_format=True)
    except (ValueError, AttributeError, TypeError, KeyError):
        raise PacsError(
            f"Instance {path.stem} is no DICOM file as the archive sends it: parts of its header "
            "are missing."
        ) from None
