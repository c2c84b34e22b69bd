"""`medmtl manifest`: write and check manifests for data sets found on this machine."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from os.path import commonpath
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .console import (
    OK,
    SOME_FAILED,
    JsonLogsOption,
    OutOption,
    QuietOption,
    console,
    set_up_logging,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medmtl.data.builders.table import Checked
    from medmtl.data.cases import Case
    from medmtl.data.check import Problem

app = typer.Typer(
    help="Manifests of data sets: write one for a public layout, or check one against its files.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
)


class Dataset(StrEnum):
    """Public data sets whose layout is known; the keys of `medmtl.data.builders.table`."""

    ACDC = "acdc"
    AMOS = "amos"
    BRATS = "brats"
    CT_RATE = "ct-rate"
    KITS = "kits"
    LIDC = "lidc"
    MSD = "msd"
    TOTALSEGMENTATOR = "totalsegmentator"


_HELP = {
    Dataset.ACDC: "ACDC: cine cardiac MR, masks and one of five groups.",
    Dataset.AMOS: "AMOS 2022: abdominal CT and MR, fifteen organs.",
    Dataset.BRATS: "BraTS 2020: brain MR in four sequences, tumour masks and grade.",
    Dataset.CT_RATE: "CT-RATE: chest CT, eighteen abnormalities, no masks.",
    Dataset.KITS: "KiTS 2023: kidney CT, tumours and cysts, malignant or not.",
    Dataset.LIDC: "LIDC-IDRI: chest CT as DICOM with the readers' XML.",
    Dataset.MSD: "One task of the Medical Segmentation Decathlon.",
    Dataset.TOTALSEGMENTATOR: "TotalSegmentator CT version 2, 117 structures.",
}

QuickOption = Annotated[
    bool,
    typer.Option("--quick", help="Read no voxels: only tables, headers, files and checksums."),
]
MadeInOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="For files that have to be made (merged masks, channels, NIfTI from DICOM). "
        "It becomes --data-root and gets links to the copy. Default: ROOT/medmtl.",
    ),
]


def _tracked(cases: Sequence[Case]) -> Iterable[Case]:
    """The cases, with a progress bar on a terminal."""
    from rich.progress import track

    return track(cases, description="checking", console=console, disable=not console.is_terminal)


def _writer(dataset: Dataset) -> Callable[..., None]:
    def write(
        root: Annotated[
            Path,
            typer.Option(metavar="DIR", help="Copy of the data set; becomes --data-root later."),
        ],
        out: OutOption,
        made_in: MadeInOption = None,
        quick: QuickOption = False,
        quiet: QuietOption = False,
        json_logs: JsonLogsOption = False,
    ) -> None:
        set_up_logging(quiet=quiet, json_logs=json_logs)
        from medmtl.data.builders.copy import DataCopy
        from medmtl.data.builders.table import build_checked

        data = DataCopy.at(root, made_in)
        built = build_checked(dataset.value, data, with_voxels=not quick, track=_tracked)
        _write(built, out)

    return write


def _write(built: Checked, out: Path) -> None:
    """Write a manifest that was checked, say what was wrong, and end with the status of that."""
    from medmtl.data.manifest import read_manifest, write_manifest

    write_manifest(built.manifest, out)
    checked = read_manifest(out)
    _say([*built.layout, *built.problems])
    counts = ", ".join(f"{len(checked.in_split(split))} {split}" for split in checked.splits)
    problems = len(built.layout) + len(built.problems)
    console.print(
        f"{checked.name}: {len(checked.cases)} cases ({counts}), {problems} problems, "
        f"{len(built.left_out)} cases left out by the check",
        markup=False,
    )
    raise typer.Exit(OK if built.is_whole else SOME_FAILED)


for _dataset in Dataset:
    app.command(_dataset.value, help=_HELP[_dataset])(_writer(_dataset))


@app.command()
def corrections(
    results: Annotated[
        Path,
        typer.Argument(metavar="RESULTS", help="Folder that predict wrote.", show_default=False),
    ],
    root: Annotated[
        Path,
        typer.Option(metavar="DIR", help="The INPUT of that predict; becomes --data-root later."),
    ],
    out: OutOption,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Corrected masks (NIfTI, SEG, RTSTRUCT): DIR/<case>/<volume>.nii.gz or .dcm, or "
            "the viewer's folder of reviews.",
        ),
    ] = None,
    reviews: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Signed reviews as JSON lines, as the viewer exports."),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A manifest of the same images (with --root as its data root): writes a new "
            "version of it, with its other rows, splits and folds as they are.",
        ),
    ] = None,
    made_in: MadeInOption = None,
    quick: QuickOption = False,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """Reviewed cases: corrected and accepted masks, findings as the reviewers call them."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from medmtl.core.errors import ConfigError
    from medmtl.data.builders.copy import DataCopy
    from medmtl.data.builders.corrections import build_corrections
    from medmtl.data.builders.new_version import as_new_version
    from medmtl.data.builders.table import check_built
    from medmtl.data.intake import open_input
    from medmtl.data.manifest import read_manifest
    from medmtl.data.reviewed import read_reviews, reviewed_cases

    if not results.is_dir() or (masks is not None and not masks.is_dir()):
        message = (
            "RESULTS or --masks is no folder. Give the folder that predict wrote, and that of "
        )
        raise ConfigError(message + "the corrected masks.")
    if masks is None and reviews is None:
        raise ConfigError("Nothing was reviewed: give --masks, --reviews or both.")
    data = DataCopy.at(root, made_in)
    former = read_manifest(base) if base is not None else None
    said = read_reviews(reviews) if reviews is not None else {}
    reviewed, problems = reviewed_cases(results, masks=masks, reviews=said)
    manifest, more = build_corrections(reviewed, open_input(root), data)
    problems += more
    if former is not None:
        manifest, more = as_new_version(former, manifest, data)
        problems += more
    folds: Literal["deal", "keep"] = "deal" if former is None else "keep"
    checked = check_built(
        manifest, problems, data, folds=folds, with_voxels=not quick, track=_tracked
    )
    _write(checked, out)


@app.command()
def table(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Spreadsheet of diagnoses, .csv or .xlsx.", show_default=False
        ),
    ],
    images: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of NIfTI files or DICOM, at any depth.")
    ],
    out: OutOption,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=COLUMN",
            help="Column that names the patient, study or file, such as patient=MRN; or a finding, "
            "such as finding=DCM. Default: found by name and by content.",
        ),
    ] = None,
    word: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORD=yes|no|unknown",
            help="What a word of the table means, such as suspected=yes.",
        ),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Label maps, named like the images.")
    ] = None,
    segment: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=NAME", help="Segment of the label maps, such as 1=liver."),
    ] = None,
    test_share: Annotated[
        float | None,
        typer.Option(
            min=0.02, max=0.5, help="Share of the patients that is kept apart for `evaluate`."
        ),
    ] = None,
    made_in: MadeInOption = None,
    quick: QuickOption = False,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """A manifest from a spreadsheet of diagnoses and a folder of images; masks may be absent."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from medmtl.core.pseudonym import kept_pseudonyms
    from medmtl.data.builders.copy import DataCopy
    from medmtl.data.builders.diagnoses import Choices, build_diagnoses_manifest, parse_segments
    from medmtl.data.builders.sheet import read_sheet
    from medmtl.data.builders.table import check_built
    from medmtl.data.builders.words import parse_words

    columns, findings = _columns(column or [])
    choices = Choices(
        columns, findings, parse_words(word or []), masks, parse_segments(segment or [])
    )
    root = Path(commonpath([folder.absolute() for folder in (images, masks) if folder]))
    data = DataCopy.at(root, made_in)
    built = build_diagnoses_manifest(
        read_sheet(file),
        images.absolute(),
        data,
        name=out.name,
        choices=choices,
        pseudonyms=kept_pseudonyms(out / ".medmtl" / "pseudonyms.toml"),
    )
    for line in built.understood:
        console.print(line, markup=False)
    checked = check_built(
        built.manifest,
        built.problems,
        data,
        test_share=test_share,
        with_voxels=not quick,
        track=_tracked,
    )
    console.print(f"--data-root of this manifest: {data.folder}", markup=False)
    _write(checked, out)


def _columns(options: Sequence[str]) -> tuple[dict[str, str | None], tuple[str, ...]]:
    from medmtl.core.errors import ConfigError

    roles: dict[str, str | None] = {}
    findings = []
    for option in options:
        role, _, name = option.partition("=")
        if role not in {"patient", "study", "file", "finding"} or not name or role in roles:
            message = (
                f"--column {option!r}: expected patient=, study=, file= (each once) or finding="
            )
            raise ConfigError(f"{message}, and the name of a column.")
        if role == "finding":
            findings.append(name)
        else:
            roles[role] = name
    return roles, tuple(findings)


@app.command()
def check(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a manifest.", show_default=False)
    ],
    data_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where paths start. Default: MEDMTL_DATA_ROOT, else ."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all problems as JSON too.")
    ] = None,
    quick: QuickOption = False,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """List all that is wrong with a manifest and its files; status 1 if it must not be used so."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from medmtl.data.check import check_folder

    from .write_json import write_json

    count, problems = check_folder(
        folder, data_root or Path(), with_voxels=not quick, track=_tracked
    )
    _say(problems)
    if report is not None:
        rows: list[dict[str, Any]] = [vars(problem) for problem in problems]
        write_json(report, {"n_cases": count, "problems": rows})
    disabling = [problem for problem in problems if problem.is_disabling]
    named = len({problem.case_id for problem in disabling} - {""})
    unusable = f"{named} cases that cannot be used as they are"
    if any(not problem.case_id for problem in disabling):
        unusable = "none can be used until its tables are mended"
    console.print(f"{count} cases, {len(problems)} problems, {unusable}", markup=False)
    raise typer.Exit(SOME_FAILED if disabling else OK)


def _say(problems: Sequence[Problem | str]) -> None:
    """What makes for status 1 is an error, which --quiet shows; the rest are remarks."""
    import logging

    logger = logging.getLogger("medmtl.manifest")
    for problem in problems:
        is_remark = not getattr(problem, "is_disabling", True)
        logger.log(logging.WARNING if is_remark else logging.ERROR, "%s", problem)
