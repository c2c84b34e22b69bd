"""Images of the Decathlon with several channels in one file, as one volume per channel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from medmtl.dicom.limits import ReadLimits
from medmtl.nifti.header import read_header, refuse
from medmtl.nifti.voxels import volume_ref

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medmtl.data.builders.copy import DataCopy

__all__ = ["channel_names", "channels"]

_MAX_BYTES = ReadLimits().max_pixel_bytes
_UNSAFE = re.compile(r"[^a-z0-9]+")


def channel_names(known: Sequence[str], header: Any) -> tuple[str, ...]:
    """Names of the channels in order: of the known task, else as dataset.json has them."""
    stated = header.get("modality") if isinstance(header, dict) else None
    if known or not isinstance(stated, dict):
        return tuple(known)
    ordered = sorted(stated.items(), key=lambda item: int(item[0]) if item[0].isdigit() else 0)
    names = [_UNSAFE.sub("_", str(name).lower()).strip("_") for _, name in ordered]
    return tuple(names) if len(names) > 1 else ("image",)


def channels(path: Path, stem: str, names: Sequence[str], data: DataCopy) -> list[tuple[str, str]]:
    """Volume id and path of each channel of an image; written out where there are several.

    Raises:
        InputRefusedError: If the file is damaged, or has another number of channels than names.
    """
    header = read_header(path, path.name, max_bytes=_MAX_BYTES)
    if header.count == 1 and len(names) <= 1:
        return [(names[0] if names else "image", data.name_of(path))]
    if header.count != len(names):
        expected = f"{len(names)} ({', '.join(names)})"
        raise refuse(path.name, "channels-differ", f"{header.count} channels", expected)
    refs = [volume_ref(path, path.name, header, index=place) for place in range(header.count)]
    return [
        (name, data.write_image(f"{stem}_{name}", ref.read()))
        for name, ref in zip(names, refs, strict=True)
    ]
