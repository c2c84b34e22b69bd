"""Corrected masks: kept beside the review log, never inside a case, each under a name of its own.

    reviews/<run>/<case>/<volume>-<sha256>.nii.gz     the label map on the grid of its volume
    reviews/<run>/<case>/<volume>-<sha256>.json       who, when, from what, how far from the model

A file is written whole or not at all, and never replaced: the newest of a volume counts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medmtl.core.durable import replace_file
from medmtl.core.errors import MedmtlError, OutputError
from medmtl.report.case_json import as_json_bytes
from medmtl.report.nifti import write_label_map

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from app.services.review_log import CaseRef
    from medmtl.core.geometry import Geometry
    from medmtl.core.labels import LabelSchema

__all__ = ["CorrectionStore", "KeptCorrection", "changed_segments", "mask_dice", "with_segments"]

Source = Literal["nifti", "seg", "rtstruct", "painted"]


@dataclass(frozen=True)
class KeptCorrection:
    """One corrected label map.

    Attributes:
        volume: Id of the volume.
        reviewer: Who corrected it.
        saved_at: ISO 8601, UTC.
        source: Where it came from.
        model_sha256: Whose mask was corrected.
        file: Name in the folder of the case.
        voxels_changed: Voxels with another label than before.
        dice: Overlap of the model's mask with the corrected one by segment; None for two empty.
        identity: Of the case's image, "" in notes of earlier versions.
        segments: Names of those that it describes; None for all, as in notes of earlier versions.
        answer: Key of the model's answer that was corrected, "" in notes of earlier versions.
    """

    volume: str
    reviewer: str
    saved_at: str
    source: str
    model_sha256: str
    file: str
    voxels_changed: int
    dice: Mapping[str, float | None] = field(default_factory=dict)
    identity: str = ""
    segments: tuple[str, ...] | None = None
    answer: str = ""

    def is_of(self, case: CaseRef, answer: str = "") -> bool:
        """Whether it corrects this model's mask of this image, and this answer if one is named."""
        is_same = not (self.identity and case.identity) or self.identity == case.identity
        is_answer = not (self.answer and answer) or self.answer == answer
        return is_same and is_answer and self.model_sha256 == case.model_sha256


@dataclass(frozen=True)
class CorrectionStore:
    """The corrected masks of one viewer.

    Attributes:
        root: The folder of all of them.
    """

    root: Path

    def folder(self, case: CaseRef) -> Path:
        """Where those of one case lie."""
        return self.root / case.run / case.case_id

    def keep(
        self,
        label_map: NDArray[Any],
        case: CaseRef,
        *,
        before: NDArray[Any],
        geometry: Geometry,
        schema: LabelSchema,
        volume: str,
        reviewer: str,
        source: str,
        segments: tuple[str, ...] | None = None,
        answer: str = "",
    ) -> KeptCorrection:
        """Store a corrected mask.

        Args:
            label_map: Shape (i, j, k), on the grid of the volume.
            case: Whose it is.
            before: The model's mask, same shape.
            geometry: The grid.
            schema: What the labels mean.
            volume: Id of the volume.
            reviewer: Who corrected it.
            source: "nifti", "seg", "rtstruct" or "painted".
            segments: Names of those that it describes; None for all.
            answer: Key of the model's answer.

        Raises:
            OutputError: If it cannot be written.
            MedmtlError: If it lies on another grid, or holds a label that the model has not.
        """
        _check(label_map, geometry, schema)
        digest = hashlib.sha256(np.ascontiguousarray(label_map).tobytes()).hexdigest()[:16]
        kept = KeptCorrection(
            volume=volume,
            reviewer=reviewer,
            saved_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            source=source,
            model_sha256=case.model_sha256,
            file=f"{volume}-{digest}.nii.gz",
            voxels_changed=int(np.count_nonzero(label_map != before)),
            dice={
                segment.name: mask_dice(before == segment.label, label_map == segment.label)
                for segment in schema.segments
            },
            identity=case.identity,
            segments=segments,
            answer=answer,
        )
        folder = self.folder(case)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / kept.file).exists():
                write_label_map(folder / kept.file, label_map, geometry)
            note = f"{volume}-{digest}.{kept.saved_at.replace(':', '')[:23]}.json"
            replace_file(folder / note, as_json_bytes(asdict(kept)))
        except OSError as error:
            message = (
                f"The corrected mask was not stored ({error.strerror}). Make sure that the folder "
                "of the reviews can be written, and save again."
            )
            raise OutputError(message) from error
        return kept

    def of_case(self, case: CaseRef, *, answer: str = "") -> tuple[KeptCorrection, ...]:
        """Every correction of one model's masks (of one answer if it is named), oldest first."""
        found = [_read(path) for path in sorted(self.folder(case).glob("*.json"))]
        mine = [one for one in found if one and one.is_of(case, answer)]
        return tuple(sorted(mine, key=lambda one: one.saved_at))

    def newest(self, case: CaseRef, volume: str, *, answer: str = "") -> KeptCorrection | None:
        """The correction that counts for a volume; None where there is none."""
        mine = [one for one in self.of_case(case, answer=answer) if one.volume == volume]
        return mine[-1] if mine else None


def _check(label_map: NDArray[Any], geometry: Geometry, schema: LabelSchema) -> None:
    """What is kept teaches later; browsers are not trusted."""
    known = [0, *(segment.label for segment in schema.segments)]
    odd = np.unique(label_map[~np.isin(label_map, known)])
    if label_map.shape != geometry.shape or odd.size:
        message = (
            f"The mask was not kept: found {label_map.shape} voxels with labels "
            f"{odd[:5].tolist()} that the model has not, expected {geometry.shape} voxels with "
            f"labels of {known}. Reload the page and paint again."
        )
        raise MedmtlError(message)


def changed_segments(
    before: NDArray[Any], after: NDArray[Any], schema: LabelSchema
) -> tuple[str, ...]:
    """Names of the segments that gained or lost a voxel."""
    changed = before != after
    touched = {*np.unique(before[changed]).tolist(), *np.unique(after[changed]).tolist()}
    return tuple(segment.name for segment in schema.segments if segment.label in touched)


def with_segments(
    base: NDArray[Any], label_map: NDArray[Any], schema: LabelSchema, names: Collection[str]
) -> NDArray[Any]:
    """`base` with these segments as `label_map` has them, of the same shape."""
    labels = [segment.label for segment in schema.segments if segment.name in names]
    rest = np.where(np.isin(base, labels), base.dtype.type(0), base)
    return np.where(np.isin(label_map, labels), label_map, rest)


def mask_dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float | None:
    """Twice the overlap over the sum of sizes; None for two empty masks.

    As `medmtl.metrics.overlap.dice`, which needs torch; the viewer does without.
    """
    size = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2 * int(np.count_nonzero(first & second)) / size if size else None


def _read(path: Path) -> KeptCorrection | None:
    try:
        record = json.loads(path.read_bytes())
        segments = record.get("segments")
        described = None if segments is None else tuple(map(str, segments))
        return KeptCorrection(**{**record, "segments": described})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
