"""NIfTI files of one case, one per channel, as one study.

`p1_0000.nii.gz` and `p1_0001.nii.gz` (nnU-Net), `p1_t1.nii.gz` and `p1_flair.nii.gz`, or
`t1.nii.gz` and `flair.nii.gz` in the folder `p1` are the case `p1`. Its volume ids are what stands
at the end.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from medmtl.core.study import Listing, Study
from medmtl.nifti.listing import case_names, stem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from medmtl.core.study import VolumeRef

__all__ = ["channel_cases"]


def channel_cases(
    listing: Listing, channels: Collection[str], *, also: Iterable[str] = ()
) -> Listing:
    """Join NIfTI studies of one volume that are channels of one case.

    Args:
        listing: As the files lie.
        channels: Names of the channels.
        also: Further ends of file names.
    """
    ends = [re.escape(name.strip()) for name in (*channels, *also) if name.strip()]
    pattern = re.compile(
        rf"(?:(?P<case>.*?)[_-])?(?P<end>\d{{4}}|{'|'.join(ends)})\Z", re.IGNORECASE
    )
    cases: dict[tuple[str, str], list[VolumeRef]] = {}
    others: list[Study] = []
    for study in listing.studies:
        match = pattern.match(stem(study.volumes[0].source_files[0])) if _is_one(study) else None
        if match is None:
            others.append(study)
            continue
        folder = PurePosixPath(study.volumes[0].source_files[0]).parent
        key = (str(folder), match["case"]) if match["case"] else (str(folder.parent), folder.name)
        ref = replace(study.volumes[0], id=match["end"].lower())
        cases.setdefault((key[0], key[1] or "case"), []).append(ref)
    joined = [
        Study(name, "nifti", "", tuple(sorted(cases[key], key=lambda ref: ref.id)))
        for key, name in case_names(cases).items()
    ]
    return replace(listing, studies=(*others, *joined))


def _is_one(study: Study) -> bool:
    return study.kind == "nifti" and len(study.volumes) == 1
