"""Any input, DICOM or NIfTI, as one listing of studies."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from medmtl.core.errors import InputRefusedError, MedmtlError
from medmtl.core.study import Listing, Refusal, Skipped
from medmtl.data.result_folder import is_below, result_folders
from medmtl.dicom import ReadLimits, collect_sources, list_dicom
from medmtl.nifti.names import is_nifti_name

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.dicom import Sources

__all__ = ["RESULTS", "open_input"]

logger = logging.getLogger(__name__)

RESULTS = "medmtl-results"
"""Code of the skipped entry of a result folder."""

_DEFAULT = ReadLimits()
_UNREAD = frozenset({"unreadable", "zip-damaged", "zip-encrypted"})
"""Entries that may well have been slices."""


def open_input(path: Path, *, limits: ReadLimits = _DEFAULT) -> Listing:
    """Look at the headers of an input and list what can be analysed; no pixels are read.

    Result folders of medmtl in it are left out, each as one skipped entry.

    Args:
        path: DICOM file, folder, DICOMDIR or zip; NIfTI file or folder of NIfTI files. A folder or
            zip may hold both.
        limits: What reading may cost.

    Returns:
        Studies in a stable order; `VolumeRef.read` decodes one volume.

    Raises:
        MedmtlError: If the path does not exist or holds no file at all.
    """
    try:
        sources = collect_sources(path, limits=limits)
    except InputRefusedError as error:
        return Listing(refusals=(Refusal.from_error(error),))
    if not sources.files and not sources.skipped:
        message = "The input is empty. Give a DICOM file, folder, DICOMDIR or zip, or NIfTI files."
        raise MedmtlError(message)
    return _list(_without_results(sources), limits)


def _without_results(sources: Sources) -> Sources:
    """What medmtl made from images is none: masks, activation maps, DICOM results."""
    folders = result_folders(file.name for file in sources.files)
    if not folders:
        return sources
    logger.info("%d folder(s) with results of medmtl left out", len(folders))
    left_out = (Skipped(name or ".", RESULTS, "folder with results of medmtl") for name in folders)
    skipped = (*left_out, *(one for one in sources.skipped if not is_below(one.source, folders)))
    return replace(
        sources,
        files=tuple(file for file in sources.files if not is_below(file.name, folders)),
        skipped=tuple(sorted(skipped, key=lambda entry: entry.source)),
    )


def _list(sources: Sources, limits: ReadLimits) -> Listing:
    dicom_files = [file for file in sources.files if not is_nifti_name(file.name)]
    nifti_files = [(file.path, file.name) for file in sources.files if is_nifti_name(file.name)]
    unread = [entry.source for entry in sources.skipped if entry.code in _UNREAD]
    dicom = list_dicom(dicom_files, limits=limits, unread=unread, keep_alive=sources.keep_alive)
    logger.info("%d headers read, %d refused or left out", len(dicom_files),
                len(dicom.refusals) + len(dicom.skipped))  # fmt: skip
    nifti = Listing()
    if nifti_files:
        from medmtl.nifti.listing import (
            list_nifti,
        )  # nibabel takes longer to import than 5,000 headers

        nifti = list_nifti(
            nifti_files, max_bytes=limits.max_pixel_bytes, keep_alive=sources.keep_alive
        )
    return Listing(
        studies=dicom.studies + nifti.studies,
        refusals=dicom.refusals + nifti.refusals,
        skipped=sources.skipped + dicom.skipped + nifti.skipped,
    )
