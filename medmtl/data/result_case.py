"""One case of a result folder as `predict` left it: what a correction of its masks must fit."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.errors import MedmtlError
from medmtl.core.labels import Code, FindingSpec, LabelSchema, SegmentSpec
from medmtl.data.volume_file import read_volume_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

__all__ = ["ResultCase", "ResultVolume", "read_result_case"]


@dataclass(frozen=True, eq=False)
class ResultVolume:
    """The masks of one volume, and where they lie.

    Attributes:
        id: Folder name of the volume.
        geometry: Grid of the source volume.
        label_map: What the model made, shape (i, j, k).
        frame_of_reference_uid: Of the source, "" where unknown (NIfTI).
        series_uid: Of the source, "" for NIfTI.
    """

    id: str
    geometry: Geometry
    label_map: NDArray[Any]
    frame_of_reference_uid: str
    series_uid: str


@dataclass(frozen=True, eq=False)
class ResultCase:
    """One finished case.

    Attributes:
        folder: Its folder.
        record: The content of case.json.
        volume_ids: In the order of case.json.
        schema: Segments and findings, with their codes where case.json has them.
    """

    folder: Path
    record: dict[str, Any] = field(repr=False)
    volume_ids: tuple[str, ...]
    schema: LabelSchema

    def volume(self, volume_id: str) -> ResultVolume:
        """Read the masks of one volume.

        Raises:
            MedmtlError: If the case has no such volume, or no NIfTI mask of it.
            InputRefusedError: If the mask is damaged.
        """
        if volume_id not in self.volume_ids:
            known = ", ".join(self.volume_ids)
            raise MedmtlError(f"Case {self.folder.name} has no volume {volume_id!r}, but {known}.")
        name = f"{volume_id}/segmentation.nii.gz"
        if not (self.folder / name).is_file():
            raise MedmtlError(
                f"Case {self.folder.name}: {name} is missing, which holds the grid of the masks. "
                "Run predict again with nifti among its --formats."
            )
        mask = read_volume_file(self.folder, name)
        (place,) = (one for one in self.record["source"]["volumes"] if one["id"] == volume_id)
        frame = str(place.get("frame_of_reference_uid", ""))
        array = mask.array.astype(np.uint16, copy=False) if mask.array.max() > 255 else mask.array
        return ResultVolume(
            volume_id, mask.geometry, array, frame, str(place.get("series_uid", ""))
        )


def read_result_case(folder: Path) -> ResultCase:
    """Read the case.json of a finished case.

    Args:
        folder: `OUT/<case>`.

    Raises:
        MedmtlError: If there is no case.json, or it is damaged.
    """
    try:
        record = json.loads((folder / "case.json").read_bytes())
        volumes = tuple(str(one["id"]) for one in record["source"]["volumes"])
        return ResultCase(folder, record, volumes, _schema(record))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MedmtlError(
            f"Case {folder.name}: case.json is missing or damaged. Run predict again."
        ) from error


def _schema(record: dict[str, Any]) -> LabelSchema:
    segments = {
        one["label"]: SegmentSpec(
            one["label"], one["name"], _code(one), one.get("is_lesion", False)
        )
        for one in record["segments"]
    }
    findings = tuple(FindingSpec(one["name"], _code(one)) for one in record["findings"])
    return LabelSchema(
        tuple(segments[label] for label in sorted(segments)),
        findings,
        bool(record.get("findings_exclusive", False)),
    )


def _code(item: dict[str, Any], key: str = "code") -> Code | None:
    if not (found := item.get(key)):
        return None
    return Code(**found | {"modifier": _code(found, "modifier")})
