"""NIfTI files into cases with readable volumes."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import InputRefusedError
from medmtl.core.study import Listing, Refusal, Skipped, Study
from medmtl.nifti.header import Header, read_header
from medmtl.nifti.names import SUFFIX
from medmtl.nifti.voxels import volume_ref

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from medmtl.core.study import VolumeRef

__all__ = ["case_names", "list_nifti", "stem"]

_LABEL_MAP = re.compile(r"_(gt|seg|mask|labels?|segmentation)\Z", re.IGNORECASE)
_PHASE = re.compile(r"(?P<case>.+)_(?P<phase>ed|es)\Z", re.IGNORECASE)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_PHASE_RANK = {"ed": 0, "es": 1}


def stem(name: str) -> str:
    """The name of a file without folder and suffix."""
    return SUFFIX.sub("", PurePosixPath(name).name)


def _safe(text: str) -> str:
    """A folder name: letters, digits, dots, dashes; never empty, never a parent folder."""
    return _UNSAFE.sub("-", text).strip(".-")[:100] or "image"


def _volumes(path: Path, name: str, volume_id: str, header: Header, alive: Any) -> list[VolumeRef]:
    """The volume of a 3D file, or the phases of a 4D one."""
    if header.count == 1:
        return [replace(volume_ref(path, name, header, keep_alive=alive), id=volume_id)]
    prefix = "" if volume_id == "image" else f"{volume_id}-"
    return [
        replace(
            volume_ref(path, name, header, index=index, keep_alive=alive),
            id=f"{prefix}t{index:03d}",
            series_key=stem(name),
            time_ms=header.step_ms * index if header.step_ms else None,
            phase=index,
        )
        for index in range(header.count)
    ]


def _case_and_volume(name: str) -> tuple[str, str]:
    """Case and volume id of a file: `p1_ed.nii.gz` is volume "ed" of case "p1"."""
    match = _PHASE.match(stem(name))
    if match:
        return match["case"], match["phase"].lower()
    return stem(name), "image"


def list_nifti(
    files: Iterable[tuple[Path, str]], *, max_bytes: int, keep_alive: Any = None
) -> Listing:
    """Find the cases in NIfTI files.

    Args:
        files: Path and name relative to the input of each file.
        max_bytes: Largest size of one volume in memory.
        keep_alive: Kept as long as any volume can still be read.

    Returns:
        Cases in the order of their names, refusals, and label maps as skipped.
    """
    cases: dict[tuple[str, str], list[VolumeRef]] = {}
    refusals: list[Refusal] = []
    skipped: list[Skipped] = []
    for path, name in files:
        try:
            header = read_header(path, name, max_bytes=max_bytes)
        except InputRefusedError as error:
            refusals.append(Refusal.from_error(error))
            continue
        if header.is_integer and _LABEL_MAP.search(stem(name)):
            skipped.append(Skipped(name, "label-map", "integer image named like a label map"))
            continue
        case, volume_id = _case_and_volume(name)
        key = (str(PurePosixPath(name).parent), case)
        cases.setdefault(key, []).extend(_volumes(path, name, volume_id, header, keep_alive))
    return Listing(_studies(cases), tuple(refusals), tuple(skipped))


def _studies(cases: dict[tuple[str, str], list[VolumeRef]]) -> tuple[Study, ...]:
    """One study per case."""
    studies = []
    for key, name in case_names(cases).items():
        ordered = sorted(cases[key], key=lambda ref: (_PHASE_RANK.get(ref.id, 2), ref.id))
        studies.append(Study(name, "nifti", "", tuple(_distinct(ordered))))
    return tuple(studies)


def case_names(keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Case id by (folder, case), each once; the folder joins where two cases share a name."""
    ordered = sorted(keys)
    counts = Counter(_safe(case) for _, case in ordered)
    taken = {name for name, times in counts.items() if times == 1}
    found = {}
    for folder, case in ordered:
        name = _safe(case)
        if counts[name] > 1:
            name = _free(_safe(f"{folder}-{case}"), taken)
            taken.add(name)
        found[folder, case] = name
    return found


def _free(name: str, taken: Collection[str]) -> str:
    """The name, or the first of `name-2`, `name-3`, ... that nobody has."""
    numbered = (f"{name}-{number}" for number in count(2))
    return next(one for one in chain([name], numbered) if one not in taken)


def _distinct(refs: list[VolumeRef]) -> list[VolumeRef]:
    """Volume ids of one case that are unique (`p1.nii` beside `p1.nii.gz`)."""
    seen: Counter[str] = Counter()
    unique = []
    for ref in refs:
        seen[ref.id] += 1
        number = seen[ref.id]
        unique.append(ref if number == 1 else replace(ref, id=f"{ref.id}-{number}"))
    return unique
