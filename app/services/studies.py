"""Studies of an image folder: which can be analysed, which already are, which were refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from medmtl.data.intake import RESULTS, open_input

if TYPE_CHECKING:
    from collections.abc import Collection

    from medmtl.core.study import Listing, Refusal, Study

__all__ = ["FoundStudy", "StudyList", "list_studies"]


@dataclass(frozen=True)
class FoundStudy:
    """One study.

    Attributes:
        case_id: Name of its results.
        modality: Of its volumes.
        volumes: How many.
        shape: Of the largest, voxels.
        folder: Folder below the root that holds this study and no other; None where there is none.
        flags: Codes of its quality flags.
    """

    case_id: str
    modality: str
    volumes: int
    shape: str
    folder: str | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class StudyList:
    """What a look at the headers found."""

    studies: tuple[FoundStudy, ...]
    refusals: tuple[Refusal, ...]
    skipped: int

    def open(self, analysed: Collection[str]) -> tuple[FoundStudy, ...]:
        """Those without results."""
        return tuple(study for study in self.studies if study.case_id not in analysed)


def list_studies(root: Path) -> StudyList:
    """Look at the headers of everything below a folder; no pixels are read.

    Raises:
        MedmtlError: If the folder holds no file at all.
    """
    listing = open_input(root)
    owners = _owners(listing)
    return StudyList(
        tuple(_found(study, owners) for study in listing.studies),
        listing.refusals,
        sum(entry.code != RESULTS for entry in listing.skipped),
    )


def _parents(study: Study) -> set[str]:
    return {str(PurePosixPath(name).parent) for ref in study.volumes for name in ref.source_files}


def _owners(listing: Listing) -> dict[str, set[str]]:
    """Cases that have a file in or below each folder."""
    owners: dict[str, set[str]] = {}
    for study in listing.studies:
        for parent in _parents(study):
            for folder in (parent, *map(str, PurePosixPath(parent).parents)):
                owners.setdefault(folder, set()).add(study.case_id)
    return owners


def _found(study: Study, owners: dict[str, set[str]]) -> FoundStudy:
    largest = max(study.volumes, key=lambda ref: _voxels(ref.geometry.shape))
    parents = sorted(_parents(study))
    own = parents[0] if len(parents) == 1 and owners[parents[0]] == {study.case_id} else None
    codes = {flag.code for ref in study.volumes for flag in ref.flags}
    return FoundStudy(
        case_id=study.case_id,
        modality=largest.modality,
        volumes=len(study.volumes),
        shape=" x ".join(str(size) for size in largest.geometry.shape),
        folder=own if own != "." else None,
        flags=tuple(sorted(codes)),
    )


def _voxels(shape: tuple[int, int, int]) -> int:
    i, j, k = shape
    return i * j * k
