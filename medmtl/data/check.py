"""A manifest against its files, with every problem found and named."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import ConfigError
from medmtl.data.case_table import read_cases
from medmtl.data.check_image import ImageFacts, look_at_headers, look_at_voxels
from medmtl.data.check_set import another_scale, repeated
from medmtl.data.manifest import file_sha256
from medmtl.data.schema_file import read_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from medmtl.core.labels import LabelSchema
    from medmtl.core.volume import Volume
    from medmtl.data.cases import Case, VolumeRow
    from medmtl.data.check_image import Finding
    from medmtl.data.check_set import Key

__all__ = ["Problem", "check_cases", "check_folder"]

_ADVISORY = frozenset(
    {
        "duplicate-image",
        "finding-contradicts-mask",
        "orientation-unknown",
        "segment-not-annotated",
    }
)
"""Worth saying, but the case can be used."""

_RANK = {"test": 0, "val": 1}
"""Of two copies of an image in different splits the one that judges stays."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a manifest.

    Attributes:
        code: Kebab-case kind, for example "grid-differs".
        message: Found and expected, in one line without identity.
        case_id: "" for the tables themselves.
        volume_id: "" for a whole case.
        twin: Where an image occurs twice, the case with the other copy.
    """

    code: str
    message: str
    case_id: str = ""
    volume_id: str = ""
    twin: str = ""

    def __str__(self) -> str:
        """One line for people."""
        where = f"case {self.case_id}" if self.case_id else "manifest"
        where += f", volume {self.volume_id}" if self.volume_id else ""
        return f"{where}: {self.code}: {self.message}"

    @property
    def is_disabling(self) -> bool:
        """Whether the case, or for a table the manifest, must not be used as it is."""
        return self.code not in _ADVISORY


@dataclass
class _Look:
    """What was found so far."""

    problems: list[Problem] = field(default_factory=list)
    facts: dict[Key, ImageFacts] = field(default_factory=dict)
    checksums: dict[Key, str] = field(default_factory=dict)


def check_folder(
    folder: Path,
    data_root: Path,
    *,
    with_voxels: bool = True,
    track: Callable[[Sequence[Case]], Iterable[Case]] = iter,
) -> tuple[int, list[Problem]]:
    """Check tables and files of a manifest folder.

    Args:
        folder: Holds `manifest.toml` and `cases.csv`.
        data_root: Folder that the paths start from.
        with_voxels: Read every voxel; else only tables, headers and checksums.
        track: Wraps the cases, to show progress.

    Returns:
        Number of cases, and all problems: of the tables first, then case by case.

    Raises:
        ConfigError: If a table or the data root is not there at all.
    """
    for path in (folder / "manifest.toml", folder / "cases.csv"):
        if not path.is_file():
            message = f"No {path.name} in {folder.name}. Give the folder of a manifest."
            raise ConfigError(message)
    if not data_root.is_dir():
        message = f"--data-root {data_root.name!r} is no folder. Give the one the paths start from."
        raise ConfigError(message)
    header, texts = read_header(folder / "manifest.toml")
    if header is None:
        return 0, [Problem("table", text) for text in texts]
    schema = header.label_schema()
    cases, more = read_cases(folder / "cases.csv", schema)
    problems = [Problem("table", text) for text in (*texts, *more)]
    return len(cases), problems + check_cases(
        cases, schema, data_root, with_voxels=with_voxels, track=track
    )


def check_cases(
    cases: Sequence[Case],
    schema: LabelSchema,
    data_root: Path,
    *,
    with_voxels: bool = True,
    with_checksums: bool = True,
    track: Callable[[Sequence[Case]], Iterable[Case]] = iter,
) -> list[Problem]:
    """Check the files of cases.

    A duplicate is an image with the voxel values (as float32) and shape of another one; without
    voxels, with the same file content. It is only said ("duplicate-image") where both copies are in
    one split and fold, and a "duplicate-leak" where they are not: the copy that is not in the test
    split is then the one that must go.

    Args:
        cases: What to check.
        schema: The labels a mask may hold.
        data_root: Folder that the paths start from.
        with_voxels: Read every voxel; else only headers.
        with_checksums: Compare stated SHA-256 with the files.
        track: Wraps the cases, to show progress.

    Returns:
        All problems, in the order of the cases.
    """
    look = _Look()
    for case in track(cases):
        masks: dict[str, Volume] = {}
        for row in case.volumes:
            _check_volume(look, case, row, data_root, schema, masks, with_voxels, with_checksums)
        look.problems += _contradictions(case, schema, masks)
    for key, (code, text) in another_scale(look.facts).items():
        look.problems.append(Problem(code, text, *key))
    look.problems += _duplicates(look, {case.case_id: case for case in cases})
    order = {case.case_id: place for place, case in enumerate(cases)}
    return sorted(look.problems, key=lambda problem: order[problem.case_id])


def _duplicates(look: _Look, cases: Mapping[str, Case]) -> list[Problem]:
    problems = []
    for later, first in repeated(look.checksums).items():
        odd, kept = sorted((later, first), key=lambda key: -_RANK.get(cases[key[0]].split, 2))
        one, other = cases[odd[0]], cases[kept[0]]
        text = f"the same image as volume {kept[1]} of case {kept[0]}"
        if one.patient_id != other.patient_id:
            text += ", another patient"
        if one.findings != other.findings:
            text += ", with other findings"
        if one.split != other.split:
            text += f"; in splits {one.split!r} and {other.split!r}"
        elif one.fold != other.fold:
            text += f"; in folds {one.fold} and {other.fold}"
        leaks = (one.split, one.fold) != (other.split, other.fold)
        code = "duplicate-leak" if leaks else "duplicate-image"
        problems.append(Problem(code, text, *odd, twin=kept[0]))
    return problems


def _check_volume(
    look: _Look, case: Case, row: VolumeRow, data_root: Path, schema: LabelSchema,
    masks: dict[str, Volume], with_voxels: bool, with_checksums: bool,
) -> None:  # fmt: skip
    key = (case.case_id, row.volume_id)
    absent = _absent(row, data_root)
    found = [("missing-file", text) for text in _missing(row, absent)]
    if row.image not in absent and (with_checksums or not with_voxels):
        found += _checksum(look, key, row, data_root)
    if with_voxels:
        facts, more = look_at_voxels(row, data_root, schema, masks, absent=absent)
        if facts is not None:
            look.facts[key] = facts
            look.checksums[key] = facts.voxel_sha256
    else:
        more = look_at_headers(row, data_root, absent=absent)
    look.problems += [Problem(code, text, *key) for code, text in found + more]


def _checksum(look: _Look, key: Key, row: VolumeRow, data_root: Path) -> list[Finding]:
    """Keep the checksum of an image; of one that cannot be read its reader speaks."""
    try:
        digest = file_sha256(data_root / row.image)
    except OSError:
        return []
    look.checksums[key] = digest
    if not row.sha256 or digest == row.sha256:
        return []
    text = f"sha256 of {row.image} is {digest[:12]}..., stated {row.sha256[:12]}..."
    return [("checksum-differs", text)]


def _absent(row: VolumeRow, data_root: Path) -> list[str]:
    """Files of a row that are not there; a path that leaves the data root is not followed."""
    return [
        path
        for path in (row.image, row.segmentation)
        if path is not None and not (_is_inside(path) and (data_root / path).is_file())
    ]


def _missing(row: VolumeRow, absent: Sequence[str]) -> list[str]:
    if row.image in absent and row.segmentation and row.segmentation not in absent:
        return [f"no image {row.image} for the mask {row.segmentation}"]
    return [
        f"no mask {path} for the image {row.image}"
        if path == row.segmentation and row.image not in absent
        else f"no file {path or '(no path)'} below the data root"
        for path in absent
    ]


def _is_inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return bool(path) and not pure.is_absolute() and ".." not in pure.parts


def _contradictions(case: Case, schema: LabelSchema, masks: dict[str, Volume]) -> list[Problem]:
    """Findings that a mask rules out: present without their segment, absent with it."""
    problems = []
    labels = {segment.name: segment.label for segment in schema.segments}
    rows = [row for row in case.volumes if row.segmentation in masks]
    for finding in schema.findings:
        name, stated = finding.requires_segment, case.findings.get(finding.name)
        looked = [row for row in rows if name in row.annotated_segments]
        if name is None or stated is None or not looked:
            continue
        is_there = any(_holds(masks[row.segmentation or ""], labels[name]) for row in looked)
        if is_there != stated:
            said = "present" if stated else "absent"
            seen = "is in a mask" if is_there else "is in no mask"
            text = f"{finding.name} is stated {said}, but {name} {seen}"
            problems.append(Problem("finding-contradicts-mask", text, case.case_id))
    return problems


def _holds(mask: Volume, label: int) -> bool:
    found: Any = (mask.array == label).any()
    return bool(found)
