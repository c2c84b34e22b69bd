"""Cine MR whose slices are a series each: offered as one stack, only where it is regular."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from medmtl.core.errors import InputRefusedError
from medmtl.core.flags import Flag
from medmtl.dicom.frames import Frame, short_hash
from medmtl.dicom.grid import lay_out
from medmtl.dicom.series import (
    ORIENTATION_TOLERANCE,
    SPACING_TOLERANCE,
    Accepted,
    SeriesResult,
    single_slice_refusal,
)
from medmtl.dicom.stack import bucket_frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medmtl.dicom.stack import Stack

__all__ = ["MergedCine", "merge_single_slices"]

_FEWEST_SLICES = 3


@dataclass(frozen=True, eq=False)
class _Slice:
    """All phases of one slice, from one series."""

    result: SeriesResult
    suffix: str
    phases: tuple[Stack, ...]

    @property
    def frame(self) -> Frame:
        return self.phases[0].frames[0]


@dataclass(frozen=True, eq=False)
class MergedCine:
    """One cine stack from several series of one study.

    Attributes:
        patient_study: Patient key and Study Instance UID.
        name: Short hash of all its series UIDs.
        series_uids: In slice order.
        accepted: One stack per phase.
    """

    patient_study: tuple[str, str]
    name: str
    series_uids: tuple[str, ...]
    accepted: tuple[Accepted, ...]


def _slices(results: Iterable[SeriesResult]) -> list[_Slice]:
    found = []
    for result in results:
        by_suffix: dict[str, list[Stack]] = defaultdict(list)
        for stack in result.single:
            by_suffix[stack.suffix].append(stack)
        for suffix, stacks in by_suffix.items():
            ordered = sorted(stacks, key=lambda stack: stack.phase or 0)
            found.append(_Slice(result, suffix, tuple(ordered)))
    return found


def _is_cine(one: _Slice) -> bool:
    return (
        len(one.phases) > 1
        and all(stack.phase is not None for stack in one.phases)
        and one.frame.values.get("Modality") == "MR"
        and bool(one.frame.values.get("FrameOfReferenceUID"))
    )


def _match(one: _Slice, other: _Slice) -> bool:
    """Whether two slices can belong to one stack (parallel, same matrix, spacing, phases)."""
    here, there = one.frame, other.frame
    same = ("FrameOfReferenceUID", "Rows", "Columns", "PhotometricInterpretation")
    return (
        one.result.key[:2] == other.result.key[:2]
        and len(one.phases) == len(other.phases)
        and all(here.values.get(key) == there.values.get(key) for key in same)
        and np.abs(here.orientation - there.orientation).max() <= ORIENTATION_TOLERANCE
        and np.allclose(here.spacing, there.spacing, rtol=SPACING_TOLERANCE, atol=0)
    )


def _families(slices: Sequence[_Slice]) -> list[list[_Slice]]:
    families: list[list[_Slice]] = []
    for one in slices:
        family = next((family for family in families if _match(family[0], one)), None)
        if family is None:
            families.append([one])
        else:
            family.append(one)
    return families


def _without_repeats(family: list[_Slice]) -> tuple[list[_Slice], int]:
    """One slice per position: the one of the highest series number."""
    by_frame = {id(one.frame): one for one in family}
    kept = []
    for bucket in bucket_frames([one.frame for one in family]):
        repeats = [by_frame[id(frame)] for frame in bucket]
        kept.append(max(repeats, key=lambda one: int(one.frame.values.get("SeriesNumber", 0))))
    return kept, len(family) - len(kept)


def _merge(family: list[_Slice]) -> MergedCine | None:
    """The merged stack, or None where it is too small or not regular."""
    kept, repeats = _without_repeats(family)
    if len(kept) < _FEWEST_SLICES:
        return None
    uids = tuple(one.result.key[2] for one in kept)
    flags = [
        Flag(
            "slices-from-several-series",
            "warning",
            f"{len(kept)} slices, each a series of its own, were put together as one stack.",
        )
    ]
    if repeats:
        message = f"{repeats} repeated slices were left out; the highest series number was used."
        flags.append(Flag("repeated-slice-last-kept", "warning", message))
    accepted = []
    for number, stack in enumerate(kept[0].phases):
        frames = tuple(one.phases[number].frames[0] for one in kept)
        times = [one.phases[number].time_ms for one in kept]
        known = [time for time in times if time is not None]
        merged = replace(
            stack,
            frames=frames,
            suffix="",
            time_ms=float(np.median(known)) if known else None,
            flags=(*stack.flags, *flags),
        )
        try:
            layout = lay_out(frames, source=f"series {short_hash(uids[0])}")
        except InputRefusedError:
            return None
        if layout.rectification is not None:
            return None
        accepted.append(Accepted(merged, layout))
    digest = hashlib.sha256("\n".join(sorted(uids)).encode()).hexdigest()[:8]
    return MergedCine(family[0].result.key[:2], digest, uids, tuple(accepted))


def merge_single_slices(
    results: Iterable[SeriesResult],
) -> tuple[list[MergedCine], list[tuple[SeriesResult, InputRefusedError]]]:
    """Put cine slices of several series together; refuse the slices that stay alone.

    Args:
        results: What selection found in each series.

    Returns:
        Merged cine stacks, and a refusal for every slice that is in none.
    """
    merged: list[MergedCine] = []
    refused: list[tuple[SeriesResult, InputRefusedError]] = []
    slices = _slices(results)
    candidates = [one for one in slices if _is_cine(one)]
    alone = [one for one in slices if not _is_cine(one)]
    for family in _families(candidates):
        cine = _merge(family)
        if cine is None:
            alone += family
        else:
            merged.append(cine)
    for one in alone:
        source = f"series {short_hash(one.result.key[2])}"
        refused.append((one.result, single_slice_refusal(one.phases[0], source)))
    return merged, refused
