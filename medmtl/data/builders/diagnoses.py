"""A manifest from a spreadsheet of diagnoses and a folder of images; masks may be absent.

No patient's cell goes into the manifest: pseudonyms stand for the patient, and for a file that is
called by the patient. Messages name a row by its number.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError, InputRefusedError
from medmtl.core.labels import FindingSpec, LabelSchema, SegmentSpec
from medmtl.core.prediction import Covariates
from medmtl.data.builders.copy import MADE, nifti_files
from medmtl.data.builders.header_patients import with_header_patients
from medmtl.data.builders.image_folder import called, find_images, plain_key
from medmtl.data.builders.sheet_columns import choose_columns
from medmtl.data.builders.sheet_rows import readable_rows
from medmtl.data.builders.words import Words
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.manifest import file_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set
    from pathlib import Path

    from medmtl.core.pseudonym import Pseudonyms
    from medmtl.data.builders.copy import DataCopy
    from medmtl.data.builders.image_folder import FolderImage
    from medmtl.data.builders.sheet import Sheet
    from medmtl.data.builders.sheet_columns import Columns
    from medmtl.data.builders.sheet_rows import TableRow

__all__ = ["Choices", "Diagnoses", "build_diagnoses_manifest", "parse_segments"]

_UNSTATED = "not stated"


@dataclass(frozen=True)
class Choices:
    """What the user says of the table; everything has a default that is shown.

    Attributes:
        columns: Column by role ("file", "study", "patient").
        findings: Columns of findings; empty finds them.
        words: Meaning of the user's own words.
        masks: Folder of label maps named like the images.
        segments: Name by label of the label maps.
    """

    columns: Mapping[str, str | None] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    words: Mapping[str, bool | None] = field(default_factory=dict)
    masks: Path | None = None
    segments: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnoses:
    """The manifest, all that does not fit, and what was understood."""

    manifest: Manifest
    problems: list[str]
    understood: list[str]


def parse_segments(options: Sequence[str]) -> dict[int, str]:
    """Segments from `LABEL=NAME`.

    Raises:
        ConfigError: If an option has another form.
    """
    segments: dict[int, str] = {}
    for option in options:
        label, _, name = option.partition("=")
        if not (label.strip().isdigit() and int(label) > 0 and name.strip()):
            raise ConfigError(f"--segment {option!r}: expected LABEL=NAME, such as 1=liver.")
        segments[int(label)] = name.strip()
    return dict(sorted(segments.items()))


def build_diagnoses_manifest(
    sheet: Sheet,
    images: Path,
    data: DataCopy,
    *,
    name: str,
    choices: Choices,
    pseudonyms: Pseudonyms,
) -> Diagnoses:
    """Match rows to images, and write what they say of each.

    Args:
        sheet: One row per patient, study or file.
        images: Folder of NIfTI files or DICOM.
        data: Copy that holds `images`; what names the images of a DICOM series goes into it.
        name: Of the manifest.
        choices: Columns, words and masks.
        pseudonyms: What stands for a patient.

    Raises:
        ConfigError: If the columns are not clear or no row has its image.
        OutputError: If a file cannot be written.
    """
    if bool(choices.masks) != bool(choices.segments):
        raise ConfigError(
            "--masks and --segment belong together: say where the label maps are, and what each "
            "of their labels is (--segment 1=liver)."
        )
    words = Words(choices.words)
    columns = choose_columns(sheet, named=choices.columns, findings=choices.findings, words=words)
    found, problems = find_images(
        images, without=[data.folder / MADE, *([choices.masks] if choices.masks else [])]
    )
    rows = readable_rows(sheet, columns, words, problems)
    matched = _with_patients(_match(rows, found, problems), columns, problems)
    masks = _masks(choices.masks, found, {one.image for one in matched}, problems)
    cases = _cases(matched, columns, data, choices, masks, pseudonyms, problems)
    if not cases:
        shown = "; ".join(problems[:3])
        raise ConfigError(
            f"No row of the table has its image in {images.name}: {shown}. "
            "Name the column that the files are called by: --column file=NAME (or study, patient)."
        )
    modalities = {row.image.modality for row in matched}
    manifest = Manifest(
        name=name,
        licence=_UNSTATED,
        citation=_UNSTATED,
        source=_UNSTATED,
        modality=modalities.pop() if len(modalities) == 1 else "",
        schema=LabelSchema(
            segments=tuple(SegmentSpec(label, text) for label, text in choices.segments.items()),
            findings=tuple(FindingSpec(name) for name in columns.findings.values()),
        ),
        cases=tuple(cases),
    )
    return Diagnoses(manifest, problems, [*_shown(columns), *words.lines()])


@dataclass(frozen=True)
class _Matched:
    row: TableRow
    image: FolderImage


def _match(
    rows: Sequence[TableRow], images: Sequence[FolderImage], problems: list[str]
) -> list[_Matched]:
    """Each row's image; what has no partner, or several, is named."""
    claims: dict[int, list[_Matched]] = defaultdict(list)
    fitting = [called(images, row.role, row.name) for row in rows]
    used = {image.study for found in fitting for image in found}
    usual = _usual_modality(fitting)
    for row, found in zip(rows, fitting, strict=True):
        image = _one(row, found, usual, problems)
        if image is not None:
            claims[id(image)].append(_Matched(row, image))
    matched = []
    for several in claims.values():
        if len(several) > 1:
            numbers = ", ".join(str(one.row.number) for one in several)
            problems.append(f"rows {numbers}: all mean {several[0].image.shown}; left out")
            continue
        matched += several
    problems += [
        f"row {one.row.number}: modality {one.image.modality} among {usual}; kept"
        for one in matched
        if one.image.modality not in ("", usual)
    ]
    problems += sorted(
        {f"{i.shown}: no row of the table; left out" for i in images if i.study not in used}
    )
    return matched


def _with_patients(
    matched: Sequence[_Matched], columns: Columns, problems: list[str]
) -> list[_Matched]:
    rows = with_header_patients(
        [one.row for one in matched],
        [one.image.patient_id for one in matched],
        problems,
        is_asked="patient" in columns.identities,
    )
    return [replace(one, row=row) for one, row in zip(matched, rows, strict=True)]


def _usual_modality(fitting: Sequence[Sequence[FolderImage]]) -> str:
    """The one that most rows have an image of; of several the first, so that CT is before PT."""
    counts = Counter(kind for images in fitting for kind in {one.modality for one in images} - {""})
    return min(counts, key=lambda kind: (-counts[kind], kind), default="")


def _one(
    row: TableRow, fitting: Sequence[FolderImage], usual: str, problems: list[str]
) -> FolderImage | None:
    """The image of a row; of one DICOM study the volume that `predict` would choose.

    Where there is one it is of the usual modality, then no phase of a cine, then the largest.
    """
    if not fitting:
        problems.append(f"row {row.number}: no image of this {row.role}; left out")
        return None
    if len(fitting) == 1:
        return fitting[0]
    if row.role == "file" or len({image.study for image in fitting}) > 1:
        problems.append(
            f"row {row.number}: {len(fitting)} images of this {row.role}; left out. "
            "Name the file of each in a column of its own (--column file=NAME)"
        )
        return None
    return min(
        fitting,
        key=lambda image: (image.modality != usual, image.is_phase, -image.size, image.shown),
    )


def _cases(
    matched: Sequence[_Matched], columns: Columns, data: DataCopy, choices: Choices,
    masks: Mapping[FolderImage, Path], pseudonyms: Pseudonyms, problems: list[str],
) -> list[Case]:  # fmt: skip
    _warn_of_patients(matched, columns, problems)
    names = tuple(choices.segments.values())
    cases = []
    for one in matched:
        row, image = one.row, one.image
        try:
            path = image.write(data)
        except InputRefusedError as error:
            text = f"{error.code}: found {error.found}, expected {error.expected}"
            problems.append(f"row {row.number}: {text}; left out")
            continue
        mask = masks.get(image)
        if choices.masks is not None and mask is None:
            problems.append(f"row {row.number}: {image.shown} has no mask; kept without")
        attributes = {"table_row": str(row.number)}
        if image.modality:
            attributes["modality"] = image.modality
        volume = VolumeRow(
            volume_id="image",
            image=path,
            segmentation=data.name_of(mask) if mask else None,
            sha256=file_sha256(data.folder / path),
            annotated_segments=names if mask else (),
            attributes=attributes,
        )
        covariates = _filled(row.covariates, image.covariates)
        case_id = _case_id(one, pseudonyms)
        patient_id = f"p{pseudonyms.name(*row.person)}"
        cases.append(Case(case_id, patient_id, "train", None, (volume,), row.findings, covariates))
    return _distinct(cases)


def _case_id(one: _Matched, pseudonyms: Pseudonyms) -> str:
    """The image's own name, but a pseudonym where the patient's cell is in it.

    The whole name, since what follows the cell in `Muster_Erika_19610304_ct` is no less private.
    """
    cell = _letters(one.row.patient)
    if cell and cell in _letters(one.image.case_id):
        return f"c{pseudonyms.name('file', one.image.study)}"
    return one.image.case_id


def _letters(text: str) -> str:
    """Only letters and digits, so that `Muster, Erika` is found in `muster_erika_ct`."""
    return "".join(character for character in plain_key(text) if character.isalnum())


def _warn_of_patients(matched: Sequence[_Matched], columns: Columns, problems: list[str]) -> None:
    """Studies of one patient that differ may be right, but are said."""
    if "patient" not in columns.identities and not all(one.row.patient for one in matched):
        problems.append(
            "neither a column nor the DICOM headers tell all patients apart: a row without one "
            "counts as a patient of its own, so that two images of one person can fall into "
            "different folds. Name it: --column patient=NAME"
        )
    groups: dict[str, list[TableRow]] = defaultdict(list)
    for one in matched:
        if one.row.patient:
            groups[plain_key(one.row.patient)].append(one.row)
    for group in groups.values():
        for name in group[0].findings:
            values = {row.findings[name] for row in group} - {None}
            if len(values) > 1:
                numbers = ", ".join(str(row.number) for row in group)
                problems.append(
                    f"rows {numbers}: one patient with and without {name}; kept, as other studies"
                )


def _distinct(cases: Sequence[Case]) -> list[Case]:
    """Case ids that are unique and safe: files of one name in different folders get a number."""
    unique: dict[str, Case] = {}
    for case in cases:
        safe = "".join(
            c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in case.case_id
        )
        safe = safe.strip("._-")[:90] or "image"
        free = (f"{safe}-{number}" for number in count(2))
        name = safe if safe not in unique else next(name for name in free if name not in unique)
        unique[name] = replace(case, case_id=name)
    return list(unique.values())


def _masks(
    folder: Path | None,
    images: Sequence[FolderImage],
    used: Set[FolderImage],
    problems: list[str],
) -> dict[FolderImage, Path]:
    """The mask of each image in use; one that several images could have is nobody's."""
    clear = {}
    for name, path in _mask_files(folder).items():
        fitting = [image for image in images if image.stem == name] or [
            image for image in images if image.without_channel == name
        ]
        owners = [image for image in fitting if image in used]
        if len(owners) > 1 or len({image.study for image in fitting}) > 1:
            problems.append(
                f"mask {name}: {len(fitting)} images are called so; not used. Give images and "
                "masks names of their own"
            )
        elif owners:
            clear[owners[0]] = path  # in order of names: an exact one comes last, and stays
    return clear


def _mask_files(folder: Path | None) -> dict[str, Path]:
    if folder is None:
        return {}
    files = nifti_files(folder)
    if not files:
        raise ConfigError(f"--masks {folder.name!r}: found no NIfTI file in it.")
    return files


def _filled(table: Covariates, header: Covariates) -> Covariates:
    """What the table says goes before what a header says."""
    return Covariates(
        header.age_years if table.age_years is None else table.age_years,
        table.sex or header.sex,
        table.height_cm or header.height_cm,
        table.weight_kg or header.weight_kg,
    )


def _shown(columns: Columns) -> list[str]:
    roles = ", ".join(f"{role} from {column!r}" for role, column in columns.identities.items())
    findings = ", ".join(f"{name} from {column!r}" for column, name in columns.findings.items())
    lines = [f"rows: {roles}", f"findings: {findings}"]
    if columns.covariates:
        texts = [f"{name} from {column!r}" for name, column in columns.covariates.items()]
        lines.append(f"covariates: {', '.join(texts)}")
    if columns.unused:
        lines.append(f"not used: {', '.join(columns.unused)}")
    return lines
