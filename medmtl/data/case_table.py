"""`cases.csv`: one row per volume; the rows of one case_id are one study."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from medmtl.core.prediction import Covariates
from medmtl.data.cases import Case, VolumeRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from medmtl.core.labels import LabelSchema

__all__ = ["read_cases", "table_text"]

REQUIRED = (
    "case_id", "patient_id", "volume_id", "image", "segmentation", "split", "fold", "sha256",
)  # fmt: skip
NUMBERS = ("age_years", "height_cm", "weight_kg")
SEX = "sex"
ANNOTATED = "annotated_segments"
SEPARATOR = ";"

_FINDINGS = {"": None, "0": False, "1": True}
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class _Row:
    """One line of the table.

    `stand_ins` is shared by all lines: what a refused identifier is called, by column and value.
    `problems` collects what is wrong with this line.
    """

    cells: Mapping[str | None, str | list[str] | None]
    file: str
    line: int
    stand_ins: dict[tuple[str, str], str]
    problems: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        return f"{self.file} line {self.line}"

    def text(self, column: str) -> str:
        return str(self.cells.get(column) or "").strip()

    def refuse(self, column: str, *, expected: str) -> None:
        value = self.text(column)
        # A name may stand where a pseudonym should, so the identifiers are never quoted.
        found = f"{len(value)} characters" if column in {"case_id", "patient_id"} else repr(value)
        self.problems.append(f"{self.where}: {column}: found {found}, expected {expected}")

    def check_width(self) -> None:
        """A row with another number of cells than the header has its values in wrong columns."""
        if None in self.cells or None in self.cells.values():
            self.problems.append(f"{self.where}: another number of cells than the header has")

    def identifier(self, column: str) -> str:
        """The value, or where it is refused the line that it first stands in."""
        value = self.text(column)
        if _SAFE_ID.fullmatch(value):
            return value
        self.refuse(column, expected="letters, digits and . _ - (it becomes a file name)")
        return self.stand_ins.setdefault((column, value), f"line-{self.line}")

    def path(self, column: str) -> str:
        value = self.text(column)
        path = PurePosixPath(value)
        if "\\" in value or ":" in value or path.is_absolute() or ".." in path.parts:
            self.refuse(column, expected="a path below the data root with forward slashes")
        return value

    def number(self, column: str, *, may_be_zero: bool = False) -> float | None:
        value = self.text(column)
        if not value:
            return None
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and (number > 0 or (may_be_zero and number == 0))):
            wanted = "a number from 0" if may_be_zero else "a positive number"
            self.refuse(column, expected=f"{wanted} or nothing")
            return None
        return number


def read_cases(path: Path, schema: LabelSchema) -> tuple[tuple[Case, ...], list[str]]:
    """The cases of a table and everything that is wrong with them."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(text), strict=True)
        columns = tuple(reader.fieldnames or ())
        stand_ins: dict[tuple[str, str], str] = {}
        rows = [_Row(cells, path.name, reader.line_num, stand_ins) for cells in reader]
    except FileNotFoundError:
        return (), [f"{path.name}: file not found"]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return (), [f"{path.name}: cannot be read as CSV in UTF-8 ({error})"]
    wanted = (*REQUIRED, *schema.finding_names)
    problems = [
        f"{path.name}: column '{name}' is missing" for name in wanted if name not in columns
    ]
    problems += [
        f"{path.name}: column {name!r} occurs {count} times, expected once"
        for name, count in Counter(columns).items()
        if name and count > 1
    ]
    if problems:
        return (), problems
    if not rows:
        return (), [f"{path.name}: holds no case"]
    cases = _cases(rows, schema)
    problems = [problem for row in rows for problem in row.problems]
    return cases, problems + [f"{path.name}: {problem}" for problem in _torn_patients(cases)]


def _cases(rows: Sequence[_Row], schema: LabelSchema) -> tuple[Case, ...]:
    """Rows of one case_id joined, in the order of their first row."""
    cases: dict[str, Case] = {}
    for row in rows:
        row.check_width()
        case = _case(row, schema)
        known = cases.get(case.case_id)
        if known is None:
            cases[case.case_id] = case
            continue
        _compare(row, known, case)
        volumes = (*known.volumes, *case.volumes)
        cases[case.case_id] = Case(
            known.case_id, known.patient_id, known.split, known.fold, volumes,
            known.findings, known.covariates,
        )  # fmt: skip
    return tuple(cases.values())


def _compare(row: _Row, known: Case, case: Case) -> None:
    """Rows of one case must agree in everything that belongs to the study."""
    for name in ("patient_id", "split", "fold", "findings", "covariates"):
        if getattr(known, name) != getattr(case, name):
            row.problems.append(
                f"{row.where}: {name} differs from the first row of case {known.case_id}"
            )
    if case.volumes[0].volume_id in {volume.volume_id for volume in known.volumes}:
        row.refuse("volume_id", expected=f"another one than before in case {known.case_id}")


def _case(row: _Row, schema: LabelSchema) -> Case:
    return Case(
        case_id=row.identifier("case_id"),
        patient_id=row.identifier("patient_id"),
        split=row.identifier("split") if row.text("split") else "",
        fold=_fold(row),
        volumes=(_volume(row, schema),),
        findings=_findings(row, schema),
        covariates=Covariates(
            age_years=row.number("age_years", may_be_zero=True),
            sex=_sex(row),
            height_cm=row.number("height_cm"),
            weight_kg=row.number("weight_kg"),
        ),
    )


def _volume(row: _Row, schema: LabelSchema) -> VolumeRow:
    image, segmentation, sha256 = row.path("image"), row.path("segmentation"), row.text("sha256")
    if not image:
        row.refuse("image", expected="a path below the data root")
    if sha256 and not _SHA256.fullmatch(sha256):
        row.refuse("sha256", expected="64 lower-case hex digits or nothing")
    named = tuple(part.strip() for part in row.text(ANNOTATED).split(SEPARATOR) if part.strip())
    if not set(named) <= set(schema.segment_names):
        row.refuse(ANNOTATED, expected=f"names among {', '.join(schema.segment_names)}")
    return VolumeRow(
        volume_id=row.identifier("volume_id"),
        image=image,
        segmentation=segmentation or None,
        sha256=sha256 or None,
        annotated_segments=(named or schema.segment_names) if segmentation else (),
        attributes=_attributes(row, schema),
    )


def _attributes(row: _Row, schema: LabelSchema) -> dict[str, str]:
    """Cells of columns that mean nothing to medmtl itself, such as vendor."""
    own = {*REQUIRED, *NUMBERS, SEX, ANNOTATED, *schema.finding_names}
    names = [name for name in row.cells if name and name not in own]
    return {name: row.text(name) for name in names if row.text(name)}


def _fold(row: _Row) -> int | None:
    value = row.text("fold")
    if value and not (value.isascii() and value.isdigit()):
        row.refuse("fold", expected="0, 1, 2, ... or nothing")
        return None
    return int(value) if value else None


def _sex(row: _Row) -> str | None:
    value = row.text(SEX).upper()
    if value not in {"", "F", "M", "O"}:  # the values of DICOM Patient's Sex (0010,0040)
        row.refuse(SEX, expected="F, M, O or nothing")
    return value or None


def _findings(row: _Row, schema: LabelSchema) -> dict[str, bool | None]:
    for name in schema.finding_names:
        if row.text(name) not in _FINDINGS:
            row.refuse(name, expected="1, 0 or nothing for unknown")
    findings = {name: _FINDINGS.get(row.text(name)) for name in schema.finding_names}
    present = [name for name, value in findings.items() if value]
    if schema.findings_exclusive and len(present) > 1:
        names = " and ".join(present)
        row.problems.append(f"{row.where}: {names} are present, but findings exclude each other")
    return findings


def _torn_patients(cases: Iterable[Case]) -> list[str]:
    """Patients in more than one split or fold: what is learned would leak into what is judged."""
    splits: dict[str, set[str]] = {}
    folds: dict[str, set[int | None]] = {}
    for case in cases:
        splits.setdefault(case.patient_id, set()).add(case.split)
        folds.setdefault(case.patient_id, set()).add(case.fold)
    return [
        f"patient {patient} is in {len(places)} {what}: {sorted(map(str, places))}"
        for what, table in (("splits", splits), ("folds", folds))
        for patient, places in table.items()
        if len(places) > 1
    ]


def table_text(cases: Sequence[Case], schema: LabelSchema) -> str:
    """The text of `cases.csv`; optional columns only where something stands in them.

    Raises:
        ValueError: If a mask has no annotated segment: an empty cell would say that all are.
    """
    rows = [_cells(case, volume, schema) for case in cases for volume in case.volumes]
    optional = [name for name in (SEX, *NUMBERS, ANNOTATED) if any(row[name] for row in rows)]
    further = sorted({name for row in rows for name in row} - {*REQUIRED, *NUMBERS, SEX, ANNOTATED})
    further = [name for name in further if name not in schema.finding_names]
    columns = [*REQUIRED, *schema.finding_names, *optional, *further]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _cells(case: Case, volume: VolumeRow, schema: LabelSchema) -> dict[str, str]:
    has_all = not volume.segmentation or volume.annotated_segments == schema.segment_names
    if not has_all and not volume.annotated_segments:
        raise ValueError(
            f"A mask of volume {volume.volume_id!r} has no annotated segment. "
            "Leave the mask out, or name the segments that were looked for."
        )
    fixed = {
        "case_id": case.case_id,
        "patient_id": case.patient_id,
        "volume_id": volume.volume_id,
        "image": volume.image,
        "segmentation": volume.segmentation or "",
        "split": case.split,
        "fold": "" if case.fold is None else str(case.fold),
        "sha256": volume.sha256 or "",
        SEX: case.covariates.sex or "",
        ANNOTATED: "" if has_all else SEPARATOR.join(volume.annotated_segments),
    }
    for name in NUMBERS:
        number = getattr(case.covariates, name)
        fixed[name] = "" if number is None else f"{number:g}"
    known = {name: value for name, value in case.findings.items() if value is not None}
    findings = {name: str(int(known[name])) if name in known else "" for name in case.findings}
    return {**volume.attributes, **fixed, **findings}
