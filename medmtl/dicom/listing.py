"""Instances into studies with readable volumes: the end of the header pass."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.errors import InputRefusedError
from medmtl.core.flags import Flag
from medmtl.core.study import Listing, Refusal, Skipped, Study, VolumeRef
from medmtl.dicom.cine import MergedCine, merge_single_slices
from medmtl.dicom.classify import classify
from medmtl.dicom.decode import Decoder
from medmtl.dicom.describe import case_id, covariates, described, metadata, stack_flags
from medmtl.dicom.frames import Frame, short_hash
from medmtl.dicom.scan import dicomdir_sources, scan_files
from medmtl.dicom.series import Accepted, SeriesKey, SeriesResult, select_series
from medmtl.dicom.worker_client import Worker, shared_worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medmtl.dicom.frames import Instance
    from medmtl.dicom.limits import ReadLimits
    from medmtl.dicom.sources import SourceFile

__all__ = ["list_dicom"]


def list_dicom(
    files: Sequence[SourceFile],
    *,
    limits: ReadLimits,
    unread: Sequence[str] = (),
    keep_alive: Any = None,
) -> Listing:
    """Find the studies in DICOM files.

    Args:
        files: Regular files; a single DICOMDIR stands for the files that it lists.
        limits: What reading may cost.
        unread: Names of files that could not be opened; volumes beside them are flagged.
        keep_alive: Kept as long as any volume can still be read.

    Returns:
        Studies, refusals and skips.
    """
    worker = shared_worker(limits)
    missing: list[InputRefusedError] = []
    if len(files) == 1:
        listed = dicomdir_sources(files[0], worker)
        if listed is not None:
            files, missing = listed
    scan = scan_files(files, worker)
    usable, refused, skipped = _sorted_out(scan.instances)
    refused = [*missing, *scan.refusals, *refused]
    damaged = [*unread, *(error.source for error in refused)]
    # A slice with a damaged header looks like a foreign object, but its series gives it away.
    foreign = {one.source for one in skipped if one.code != "localizer"}
    series = {instance.text("SeriesInstanceUID") for instance in usable}
    damaged += [
        instance.file.name
        for instance in scan.instances
        if instance.file.name in foreign and instance.text("SeriesInstanceUID") in series
    ]
    listing = _Builder(worker, limits, keep_alive, damaged).build(usable)
    return replace(
        listing,
        refusals=tuple(Refusal.from_error(error) for error in refused) + listing.refusals,
        skipped=scan.skipped + tuple(skipped),
    )


def _sorted_out(
    instances: Iterable[Instance],
) -> tuple[list[Instance], list[InputRefusedError], list[Skipped]]:
    usable: list[Instance] = []
    refused: list[InputRefusedError] = []
    skipped: list[Skipped] = []
    for instance in instances:
        verdict = classify(instance)
        if verdict is None:
            usable.append(instance)
        elif isinstance(verdict, InputRefusedError):
            refused.append(verdict)
        else:
            skipped.append(verdict)
    return usable, refused, skipped


def _series_key(instance: Instance) -> SeriesKey:
    text = instance.text
    return text("patient_key"), text("StudyInstanceUID"), text("SeriesInstanceUID")


class _Builder:
    """Builds studies out of usable instances."""

    def __init__(
        self, worker: Worker, limits: ReadLimits, keep_alive: Any, damaged: Sequence[str]
    ) -> None:
        self.worker = worker
        self.limits = limits
        self.keep_alive = keep_alive
        self.shared_uids: set[str] = set()
        self.damaged_folders = {str(PurePosixPath(name).parent) for name in damaged}

    def build(self, instances: Sequence[Instance]) -> Listing:
        """Select, merge and name."""
        by_series: dict[SeriesKey, list[Instance]] = defaultdict(list)
        for instance in instances:
            by_series[_series_key(instance)].append(instance)
        owners = Counter(key[2] for key in by_series)
        self.shared_uids = {uid for uid, count in owners.items() if uid and count > 1}
        results = [
            select_series(key, members, limits=self.limits)
            for key, members in sorted(by_series.items(), key=lambda item: item[0])
        ]
        merged, alone = merge_single_slices(results)
        refusals = [
            Refusal.from_error(error, study_uid=result.key[1], series_uid=result.key[2])
            for result, errors in [(r, r.refusals) for r in results]
            + [(result, (error,)) for result, error in alone]
            for error in errors
        ]
        return Listing(self._studies(by_series, results, merged), tuple(refusals))

    def _studies(
        self,
        by_series: dict[SeriesKey, list[Instance]],
        results: Sequence[SeriesResult],
        merged: Sequence[MergedCine],
    ) -> tuple[Study, ...]:
        volumes: dict[tuple[str, str], list[VolumeRef]] = defaultdict(list)
        left_out = [frame for result in results for frame in result.left_out]
        used = {
            id(frame) for cine in merged for one in cine.accepted for frame in one.layout.frames
        }
        left_out = [frame for frame in left_out if id(frame) not in used]
        for result in results:
            for one in result.accepted:
                name = short_hash(result.key[2])
                volumes[result.key[:2]].append(
                    self._volume(
                        one,
                        name=name,
                        series_uid=result.key[2],
                        left_out=left_out,
                        lost=result.lost,
                    )
                )
        for cine in merged:
            for one in cine.accepted:
                volumes[cine.patient_study].append(
                    self._volume(
                        one, name=cine.name, series_uid=cine.series_uids[0], left_out=left_out
                    )
                )
        return tuple(
            self._study(key, refs, by_series) for key, refs in sorted(volumes.items()) if refs
        )

    def _study(
        self,
        key: tuple[str, str],
        refs: list[VolumeRef],
        by_series: dict[SeriesKey, list[Instance]],
    ) -> Study:
        members = [one for series, ones in by_series.items() if series[:2] == key for one in ones]
        return Study(
            case_id=case_id(*key),
            kind="dicom",
            study_uid=key[1],
            volumes=_with_unique_ids(sorted(refs, key=lambda ref: ref.id)),
            covariates=covariates(members),
        )

    def _volume(
        self,
        one: Accepted,
        *,
        name: str,
        series_uid: str,
        left_out: Sequence[Frame],
        lost: int = 0,
    ) -> VolumeRef:
        frames = one.layout.frames
        first = frames[0].values
        phase = one.stack.phase
        suffix = one.stack.suffix + (f"-t{phase:03d}" if phase is not None else "")
        flags = (
            *one.stack.flags, *one.layout.flags, *stack_flags(frames),
            *self._neighbour_flags(one, series_uid, left_out, lost),
        )  # fmt: skip
        files = tuple(dict.fromkeys(frame.instance.file.name for frame in frames))
        return VolumeRef(
            id=f"{name}{suffix}",
            decode=Decoder(one.layout, self.worker, self.keep_alive).read,
            geometry=one.layout.geometry,
            modality=str(first.get("Modality", "")),
            series_uid=series_uid,
            series_key=name,
            time_ms=one.stack.time_ms,
            phase=phase,
            source_files=files,
            flags=flags,
            metadata=metadata(frames[0]),
            described=described(frames[0]),
        )

    def _neighbour_flags(
        self, one: Accepted, series_uid: str, left_out: Sequence[Frame], lost: int
    ) -> list[Flag]:
        """Say it where slices of this volume may be among what could not be used."""
        flags = []
        missing = lost + sum(
            frame.instance.text("SeriesInstanceUID") == series_uid or _continues(one, frame)
            for frame in left_out
        )
        if missing:
            message = f"{missing} images beside this volume could not be used with it."
            flags.append(Flag("slices-left-out", "warning", message))
        if series_uid in self.shared_uids:
            message = "Images of another patient or study carry the same series UID."
            flags.append(Flag("series-uid-shared", "warning", message))
        folders = {
            str(PurePosixPath(frame.instance.file.name).parent) for frame in one.layout.frames
        }
        if folders & self.damaged_folders:
            message = "Files in the same folder could not be read; slices may be missing at an end."
            flags.append(Flag("damaged-files-beside", "warning", message))
        return flags


def _continues(one: Accepted, frame: Frame) -> bool:
    """Whether an unused frame lies on the grid of a volume, inside it or next to an end."""
    mine = one.layout.frames[0]
    if frame.shape != mine.shape or frame.values.get("Modality") != mine.values.get("Modality"):
        return False
    if not _same_place(mine, frame):
        return False
    count = one.layout.geometry.shape[2]
    index = np.linalg.solve(one.layout.geometry.affine_lps, np.append(frame.position, 1.0))
    is_on_axis = np.abs(index[:2]).max() <= 0.5
    return bool(is_on_axis and -1.5 <= index[2] <= count + 0.5)


def _same_place(mine: Frame, frame: Frame) -> bool:
    keys = ("FrameOfReferenceUID", "StudyInstanceUID")
    related = any(
        mine.values.get(key) and mine.values.get(key) == frame.values.get(key) for key in keys
    )
    return related and bool(np.abs(mine.orientation - frame.orientation).max() <= 0.01)


def _with_unique_ids(refs: Sequence[VolumeRef]) -> tuple[VolumeRef, ...]:
    """Number the rare volumes whose names would collide."""
    seen: dict[str, int] = {}
    unique = []
    for ref in refs:
        count = seen.get(ref.id, 0)
        seen[ref.id] = count + 1
        unique.append(replace(ref, id=f"{ref.id}-{count + 1}") if count else ref)
    return tuple(unique)
