"""A DICOM series as one file of a manifest: which images it is made of, and what they held.

`<data root>/medmtl/<case>_<volume>.series.json` names the images beside it, so that a row of a
manifest says `image = medmtl/<case>_<volume>.series.json` and no name of a patient. The images stay
as they are and are read by the reader of `predict`, with all its checks.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import InputRefusedError
from medmtl.dicom import ReadLimits, list_dicom
from medmtl.dicom.sources import SourceFile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medmtl.core.study import VolumeRef

__all__ = ["SERIES_SUFFIX", "is_series_file", "series_ref", "series_text"]

SERIES_SUFFIX = ".series.json"
_FORM = 1


def is_series_file(name: str) -> bool:
    """Whether an image of a manifest is a DICOM series."""
    return name.endswith(SERIES_SUFFIX)


def series_text(place: Path, volume_id: str, files: Iterable[Path]) -> str:
    """What the file at `place` holds.

    Args:
        place: Where it will lie; the images are named from there.
        volume_id: Of the listing.
        files: All images of the series, also those of its other phases or echoes: they tell the
            volumes of one series apart.
    """
    start = place.parent.absolute()
    images = [
        {"path": Path(os.path.relpath(file.absolute(), start)).as_posix(), "sha256": _sha256(file)}
        for file in sorted(files)
    ]
    return json.dumps({"form": _FORM, "volume": volume_id, "images": images}, indent=1) + "\n"


def series_ref(path: Path, name: str, *, limits: ReadLimits) -> VolumeRef:
    """The volume of a series file, its headers read and its images compared with their checksums.

    Args:
        path: The file; a link to it is followed, since it names the images from where it lies.
        name: Of the file, for refusals.
        limits: What reading may cost.

    Raises:
        InputRefusedError: If it is damaged, images are missing or altered, or the volume cannot be
            read safely.
    """
    volume_id, images = _content(path, name)
    start = path.resolve().parent
    files = []
    for number, image in enumerate(images):
        file = start / image["path"]
        if not file.is_file() or _sha256(file) != image["sha256"]:
            state = "other content" if file.is_file() else "no file"
            raise _refusal(name, f"{state} for image {number + 1} of {len(images)}")
        files.append(SourceFile(file, f"{name} image {number + 1}"))
    listing = list_dicom(files, limits=limits)
    for study in listing.studies:
        for ref in study.volumes:
            if ref.id == volume_id:
                return ref
    if listing.refusals:
        first = listing.refusals[0]
        raise InputRefusedError(
            name, stage=first.stage, code=first.code, found=first.found,
            expected=first.expected, advice=first.advice,
        )  # fmt: skip
    raise _refusal(name, "another volume in these images")


def _content(path: Path, name: str) -> tuple[str, list[dict[str, str]]]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        images = [{"path": str(i["path"]), "sha256": str(i["sha256"])} for i in content["images"]]
        return str(content["volume"]), images
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _refusal(name, f"no list of images ({type(error).__name__})") from error


def _refusal(name: str, found: str) -> InputRefusedError:
    return InputRefusedError(
        name,
        stage="read",
        code="series-changed",
        found=found,
        expected="the DICOM images that the manifest was made from",
        advice="Make the manifest again, or bring the images back.",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
