"""A listing whose studies tell nobody who they are of: one step between reading and all the rest.

What is written afterwards takes names, UIDs and patient attributes from here, so no writer has to
know of it. Files are still read from where they are; their paths go no further.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.errors import InputRefusedError
from medmtl.core.flags import Flag
from medmtl.core.study import Listing, Refusal, Skipped, Study, VolumeRef
from medmtl.dicom.identity import pseudonymous_patient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from medmtl.core.pseudonym import Pseudonyms
    from medmtl.core.source import SourceFrame, VolumeSource
    from medmtl.core.volume import Volume

__all__ = ["deidentified", "place_name"]

_FLAG = Flag(
    "deidentified",
    "info",
    "UIDs, names and dates are pseudonyms. Faces and what is written in the pixels are left.",
)
_LEAST_TEXT_PX, _LARGEST_TEXT_SHARE = 16, 0.05


def deidentified(listing: Listing, pseudonyms: Pseudonyms) -> Listing:
    """The same studies under pseudonyms; equal secrets give equal ones.

    UIDs, the case (for NIfTI it is a file name), volume names made of UIDs, paths, patient and
    study attributes are replaced. Numbers of the image and the texts of flags are kept: no reader
    writes an identity into them.
    """
    return Listing(
        tuple(_study(study, pseudonyms) for study in listing.studies),
        tuple(_refusal(refusal, pseudonyms) for refusal in listing.refusals),
        tuple(_skipped(entry, pseudonyms) for entry in listing.skipped),
        None if listing.asked is None else frozenset(map(pseudonyms.uid, listing.asked)),
    )


def _study(study: Study, pseudonyms: Pseudonyms) -> Study:
    return replace(
        study,
        case_id=pseudonyms.name("case", study.case_id)[:12],
        study_uid=pseudonyms.uid(study.study_uid),
        volumes=tuple(_volume_ref(ref, study, pseudonyms) for ref in study.volumes),
    )


def _volume_ref(ref: VolumeRef, study: Study, pseudonyms: Pseudonyms) -> VolumeRef:
    key = pseudonyms.name("series", study.case_id, ref.series_key) if ref.series_key else ""
    is_named_by_uid = study.kind == "dicom" and ref.series_key and ref.id.startswith(ref.series_key)
    return replace(
        ref,
        decode=_Decoder(ref, study.study_uid, pseudonyms).read,
        id=key + ref.id.removeprefix(ref.series_key) if is_named_by_uid else ref.id,
        series_uid=pseudonyms.uid(ref.series_uid),
        series_key=key,
        flags=(*ref.flags, _FLAG),
    )


@dataclass(frozen=True, eq=False)
class _Decoder:
    """Reads a volume and takes the person out of it and of what may go wrong.

    Attributes:
        original: As it was listed.
        study_uid: As in the source.
        pseudonyms: What stands for what.
    """

    original: VolumeRef
    study_uid: str
    pseudonyms: Pseudonyms

    def read(self, ref: VolumeRef) -> Volume:
        """Decode the volume as `ref` names it."""
        try:
            volume = self.original.read()
        except InputRefusedError as error:
            raise _renamed(error, self.pseudonyms) from None
        flags = (*volume.flags, _FLAG, *_text_in_pixels(volume.array))
        source = volume.source
        return replace(
            volume,
            id=ref.id,
            flags=flags,
            series_uid=ref.series_uid,
            frame_of_reference_uid=self.pseudonyms.uid(volume.frame_of_reference_uid),
            path=place_name(volume.path, self.pseudonyms),
            source=None if source is None else self._source(source),
        )

    def _source(self, source: VolumeSource) -> VolumeSource:
        def read_patient() -> Mapping[str, str]:
            try:
                patient = source.read_patient()
            except InputRefusedError as error:
                raise _renamed(error, self.pseudonyms) from None
            return pseudonymous_patient(patient, self.pseudonyms, study_uid=self.study_uid)

        frames = tuple(_frame(frame, self.pseudonyms) for frame in source.frames)
        return replace(source, frames=frames, read_patient=read_patient)


def _frame(frame: SourceFrame, pseudonyms: Pseudonyms) -> SourceFrame:
    return replace(
        frame,
        sop_instance_uid=pseudonyms.uid(frame.sop_instance_uid),
        series_uid=pseudonyms.uid(frame.series_uid),
    )


def place_name(source: str, pseudonyms: Pseudonyms) -> str:
    """A file or series by a name that does not tell which; "" for ""."""
    return f"source {pseudonyms.name('source', source)}" if source else ""


def _renamed(error: InputRefusedError, pseudonyms: Pseudonyms) -> InputRefusedError:
    return InputRefusedError(
        place_name(error.source, pseudonyms), stage=error.stage, code=error.code, found=error.found,
        expected=error.expected, advice=error.advice,
    )  # fmt: skip


def _refusal(refusal: Refusal, pseudonyms: Pseudonyms) -> Refusal:
    return replace(
        refusal,
        source=place_name(refusal.source, pseudonyms),
        study_uid=pseudonyms.uid(refusal.study_uid),
        series_uid=pseudonyms.uid(refusal.series_uid),
    )


def _skipped(entry: Skipped, pseudonyms: Pseudonyms) -> Skipped:
    return replace(entry, source=place_name(entry.source, pseudonyms))


def _text_in_pixels(array: NDArray[Any]) -> tuple[Flag, ...]:
    """Text burnt into a series is as bright as can be, at the same place in every slice.

    It finds that and nothing else: no text in one slice alone, none that is grey.
    """
    if array.shape[2] < 2 or array.size == 0:
        return ()
    brightest = (array == array.max()).all(axis=2)
    share = float(np.mean(brightest))
    if brightest.sum() < _LEAST_TEXT_PX or share > _LARGEST_TEXT_SHARE:
        return ()
    message = (
        f"{int(brightest.sum())} pixels are equally bright in every slice, as text burnt into the "
        "image is. Look at the images before they are passed on."
    )
    return (Flag("text-in-pixels-possible", "warning", message),)
