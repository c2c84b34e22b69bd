"""`medmtl phantom`: generated DICOM studies with their truth beside them."""

from __future__ import annotations

import csv
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import JsonLogsOption, OutOption, QuietOption, console, set_up_logging

if TYPE_CHECKING:
    from typing import Any

    from medmtl.phantom import CinePhantom, StudyUids, TorsoPhantom


class Kind(StrEnum):
    """What can be generated."""

    torso_ct = "torso-ct"
    cardiac_mr = "cardiac-mr"


TORSO_SPACING_MM = (2.0, 2.0, 3.0)
CINE_PHASES = 16


def phantom(
    out: OutOption,
    studies: Annotated[int, typer.Option(min=1, metavar="N", help="How many studies.")] = 1,
    kind: Annotated[Kind, typer.Option(help="What to generate.")] = Kind.torso_ct,
    seed: Annotated[
        int, typer.Option(min=0, metavar="S", help="First seed; study n has seed S + n.")
    ] = 0,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """Generate DICOM studies (OUT/studies) whose masks and findings are known (OUT/truth).

    OUT/truth/diagnoses.csv is their table for `medmtl manifest table`.
    They are schematic: for demonstration and tests. The same seed gives the same files.
    """
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from rich.progress import track

    from medmtl import OutputError
    from medmtl.core.errors import system_reason

    make = _make_torso if kind is Kind.torso_ct else _make_cine
    numbers = range(seed, seed + studies)
    try:
        for number in track(numbers, description="Generating", console=console):
            make(out, number)
        _write_table(out)
    except OSError as error:
        raise OutputError(
            f"Could not write to the output folder: {system_reason(error)}. Nothing already whole "
            "is lost; free the disk or choose another folder and run the command again."
        ) from None


def _make_torso(out: Path, seed: int) -> None:
    from medmtl.phantom import generate_torso, torso_truth, write_torso_study

    torso: TorsoPhantom = generate_torso(seed, spacing_mm=TORSO_SPACING_MM)
    folder = out / "studies" / f"torso-ct-{seed:06d}"
    uids = write_torso_study(folder, torso, seed=seed)
    masks = {"segmentation_seg.nii.gz": torso.label_map}
    _write_truth(out, folder, uids, torso_truth(torso), masks, torso.volume.geometry)


def _make_cine(out: Path, seed: int) -> None:
    from medmtl.phantom import CINE_GROUPS, cine_truth, generate_cine, write_cine_study

    group = CINE_GROUPS[seed % len(CINE_GROUPS)]
    cine: CinePhantom = generate_cine(seed, group=group, phases=CINE_PHASES)
    folder = out / "studies" / f"cardiac-mr-{seed:06d}"
    uids = write_cine_study(folder, cine, seed=seed)
    masks = {f"phase_{n:02d}_seg.nii.gz": labels for n, labels in enumerate(cine.label_maps)}
    _write_truth(out, folder, uids, cine_truth(cine), masks, cine.volumes[0].geometry)


def _write_truth(
    out: Path,
    study_folder: Path,
    uids: StudyUids,
    truth: dict[str, Any],
    masks: dict[str, Any],
    geometry: Any,
) -> None:
    """Masks named `*_seg.nii.gz` are no input to `medmtl predict`, so OUT itself can be given."""
    from medmtl.core.durable import replace_file
    from medmtl.data.intake import open_input
    from medmtl.report.nifti import write_label_map

    (study,) = open_input(study_folder).studies
    folder = out / "truth" / study.case_id
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in masks.items():
        write_label_map(folder / name, mask, geometry)
    content = {
        "schema_version": 1,
        "notice": "medmtl phantom, not a patient",
        "case": study.case_id,
        "study_uid": uids.study_uid,
        "series_uid": uids.series_uid,
        "study": study_folder.relative_to(out).as_posix(),
        **truth,
    }
    text = json.dumps(content, indent=2) + "\n"
    replace_file(folder / "truth.json", text.encode())


def _truth_of(file: Path) -> dict[str, Any]:
    """What a study was made with.

    Raises:
        OutputError: If the file is damaged.
    """
    from medmtl import OutputError

    try:
        truth = json.loads(file.read_text(encoding="utf-8"))
        study, uid, findings = Path(truth["study"]).name, truth["study_uid"], truth["findings"]
        return {"patient": study, "study_uid": uid, "findings": dict(findings)}
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"truth/{file.parent.name}/truth.json: found no whole record of a phantom, expected "
            "study, study_uid and findings. Remove truth and studies, and run the command again."
        ) from error


def _write_table(out: Path) -> None:
    """The findings of all studies that are there, as a spreadsheet has them."""
    files = sorted((out / "truth").glob("*/truth.json"))
    truths = [_truth_of(file) for file in files]
    names = dict.fromkeys(name for truth in truths for name in truth["findings"])
    said = {True: "yes", False: "no", None: ""}
    with (out / "truth" / "diagnoses.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["patient", "study_uid", *names])
        for truth in truths:  # a patient of its own each
            findings = (said[truth["findings"].get(name)] for name in names)
            table.writerow([truth["patient"], truth["study_uid"], *findings])
