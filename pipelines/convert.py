"""`medmtl convert`: every accepted volume as it was read, in native units, as NIfTI."""

from __future__ import annotations

import logging
import tempfile
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .console import (
    OK,
    SOME_FAILED,
    InputArgument,
    JsonLogsOption,
    OutOption,
    QuietOption,
    console,
    set_up_logging,
)
from .deidentify import DeidentifyOption, as_wanted, pseudonyms_of

if TYPE_CHECKING:
    from medmtl.core.pseudonym import Pseudonyms
    from medmtl.core.study import Refusal, Study, VolumeRef
    from medmtl.core.volume import Volume

logger = logging.getLogger("medmtl.convert")


def _write_nifti(path: Path, volume: Volume) -> None:
    """Write a volume aside and move it into place; integers stay integers.

    Raises:
        OutputError: If the file cannot be written.
    """
    import nibabel as nib
    import numpy as np

    from medmtl.core.errors import OutputError

    image = nib.Nifti1Image(np.asarray(volume.array), volume.geometry.affine_ras)
    image.set_sform(volume.geometry.affine_ras, code=1)
    image.set_qform(volume.geometry.affine_ras, code=1)
    image.header.set_xyzt_units("mm")
    aside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=".medmtl-", suffix=".nii.gz", delete=False
        ) as file:
            aside = Path(file.name)
        nib.save(image, aside)
        aside.chmod(0o644)
        aside.replace(path)
    except OSError as error:
        if aside is not None:
            aside.unlink(missing_ok=True)
        message = f"Could not write {path.name}: {error.strerror}. Check the folder and free space."
        raise OutputError(message) from error


def _record(
    file: str, study: Study, ref: VolumeRef, volume: Volume, pseudonyms: Pseudonyms | None
) -> dict[str, Any]:
    return {
        "file": file,
        "case_id": study.case_id,
        "id": ref.id,
        "study_uid": study.study_uid,
        "series_uid": ref.series_uid,
        "modality": ref.modality,
        **volume.geometry.as_json(),
        "phase": ref.phase,
        "time_ms": ref.time_ms,
        "source_files": [_name(source, pseudonyms) for source in ref.source_files],
        "flags": [vars(flag) for flag in volume.flags],
    }


def _name(source: str, pseudonyms: Pseudonyms | None) -> str:
    if pseudonyms is None:
        return source
    from medmtl.data.deidentify import place_name

    return place_name(source, pseudonyms)


def convert(
    source: InputArgument,
    out: OutOption,
    deidentify: DeidentifyOption = None,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """Write every accepted volume as it was read, with a record of refusals."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from medmtl.core.errors import OutputError
    from medmtl.core.study import Refusal
    from medmtl.data.intake import open_input

    from .scan import require_images
    from .write_json import write_json

    pseudonyms = pseudonyms_of(deidentify, out)
    listing = as_wanted(open_input(source), pseudonyms)
    require_images(listing)
    volumes: list[dict[str, Any]] = []
    refusals = list(listing.refusals)
    stopped: OutputError | None = None
    try:
        for study in listing.studies:
            for ref in study.volumes:
                outcome = _convert(study, ref, out, pseudonyms)
                if isinstance(outcome, Refusal):
                    refusals.append(outcome)
                else:
                    volumes.append(outcome)
    except OutputError as error:
        if not volumes:
            raise
        stopped = error
    record = {
        "volumes": volumes,
        "refusals": [vars(refusal) for refusal in refusals],
        "skipped": [vars(entry) for entry in listing.skipped],
    }
    with suppress(OutputError) if stopped else nullcontext():  # it may fit where a volume did not
        write_json(out / "convert.json", record)
    for refusal in refusals:
        found = f"found {refusal.found}, expected {refusal.expected}"
        logger.error("refused %s: %s: %s. %s", refusal.source, refusal.code, found, refusal.advice)
    if stopped:
        logger.error("stopped: %s", stopped)
    console.print(f"{len(volumes)} volumes written, {len(refusals)} refused", markup=False)
    raise typer.Exit(SOME_FAILED if refusals or stopped else OK)


def _convert(
    study: Study, ref: VolumeRef, out: Path, pseudonyms: Pseudonyms | None
) -> dict[str, Any] | Refusal:
    """Write one volume and give its record, or say why it cannot be read.

    Raises:
        OutputError: If it cannot be written.
    """
    from medmtl.core.errors import InputRefusedError
    from medmtl.core.study import Refusal

    name = f"{study.case_id}_{ref.id}.nii.gz"
    try:
        volume = ref.read()
    except InputRefusedError as error:
        return Refusal.from_error(error, study_uid=study.study_uid, series_uid=ref.series_uid)
    _write_nifti(out / name, volume)
    return _record(name, study, ref, volume, pseudonyms)
