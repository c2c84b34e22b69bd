"""What a look at the headers finds: studies, their readable volumes, refusals and skips."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medmtl.core.prediction import Covariates

if TYPE_CHECKING:
    from collections.abc import Callable

    from medmtl.core.errors import InputRefusedError
    from medmtl.core.flags import Flag
    from medmtl.core.geometry import Geometry
    from medmtl.core.volume import Volume

__all__ = ["Listing", "Refusal", "Skipped", "Study", "VolumeRef"]


@dataclass(frozen=True)
class Refusal:
    """An image that could not be read safely (fields of `convert.json`, without any identity)."""

    source: str
    stage: str
    code: str
    found: str
    expected: str
    advice: str
    study_uid: str = ""
    series_uid: str = ""

    @classmethod
    def from_error(
        cls, error: InputRefusedError, *, study_uid: str = "", series_uid: str = ""
    ) -> Refusal:
        """The record of a raised refusal."""
        return cls(
            error.source, error.stage, error.code, error.found, error.expected, error.advice,
            study_uid, series_uid,
        )  # fmt: skip


@dataclass(frozen=True)
class Skipped:
    """Something in the input that is no image volume: a report, a capture, junk."""

    source: str
    code: str
    reason: str


@dataclass(frozen=True, eq=False)
class VolumeRef:
    """A volume that the headers say can be read; a changed copy is read as the copy says.

    Attributes:
        id: Short stable name inside the study, safe as a folder name; depends only on UIDs and
            acquisition facts (never on file names or order), except for NIfTI.
        decode: Makes the volume that a reference describes from the pixels it knows of.
        geometry: Grid expected from the headers (the decoded volume has the same).
        modality: DICOM modality or "".
        series_uid: As in the source, "" for NIfTI.
        series_key: Equal for the volumes split from one series (phases, echoes, stacks).
        time_ms: Trigger time or phase time; None where it is no phase.
        phase: Rank of this volume among the phases of its series, from 0; None where no phase.
        source_files: Paths relative to the input.
        flags: Known from the headers.
        metadata: Facts without identity: body part, manufacturer, description-free.
        described: Series description and protocol name as the header has them. People type names
            there: to be compared with what is looked for, never for a log, a record or a file.
    """

    id: str
    decode: Callable[[VolumeRef], Volume] = field(repr=False)
    geometry: Geometry
    modality: str
    series_uid: str = ""
    series_key: str = ""
    time_ms: float | None = None
    phase: int | None = None
    source_files: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    described: tuple[str, ...] = field(default=(), repr=False)

    def read(self) -> Volume:
        """Decode the pixels.

        Raises:
            InputRefusedError: If they cannot be read safely.
        """
        return self.decode(self)


@dataclass(frozen=True, eq=False)
class Study:
    """One study (DICOM) or one case (NIfTI), with the volumes that can be analysed.

    Attributes:
        case_id: Short stable hash of the study's UIDs, or the NIfTI file name: a folder name.
        kind: "dicom" or "nifti".
        study_uid: As in the source, "" for NIfTI.
        volumes: Readable volumes in a stable order.
        covariates: What the headers say of age, sex, height and weight.
    """

    case_id: str
    kind: str
    study_uid: str
    volumes: tuple[VolumeRef, ...]
    covariates: Covariates = field(default_factory=Covariates)


@dataclass(frozen=True, eq=False)
class Listing:
    """Everything found in one input.

    Attributes:
        asked: UIDs of the studies that an archive was asked for, where it holds more; None where
            the whole input was listed.
    """

    studies: tuple[Study, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    asked: frozenset[str] | None = None
