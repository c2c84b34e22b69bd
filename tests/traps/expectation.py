"""What a trap expects, and the judge that compares it with what was read.

The judge knows the core nouns and nothing of the reader: an image is right when every voxel centre,
mapped to LPS millimetres, carries the value that is known to lie there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from medmtl.core.errors import InputRefusedError
from medmtl.core.study import Refusal, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.core.study import Listing, VolumeRef
    from medmtl.core.volume import Volume

IDENTITY_TOKENS = ("Zzyzx", "Quentin", "PID90417", "ACC77531", "Stonebridge", "19370211", "QUENTIN")
"""Planted in every generated file; none may appear in a refusal, skip, flag or log."""

GRID_TOLERANCE_VOXEL = 0.02
"""Larger than the 1 % jitter that is to be read as regular."""


class Truth(Protocol):
    """Something a volume can be compared with."""

    def mismatch(self, volume: Volume) -> str:
        """Empty when the volume is right, else what is wrong."""


def voxel_centres_lps(volume: Volume) -> NDArray[np.float64]:
    """Centres of all voxels in C order of the array, shape (N, 3), mm."""
    index = np.indices(volume.array.shape).reshape(3, -1).T
    affine = volume.geometry.affine_lps
    return np.asarray(index @ affine[:3, :3].T + affine[:3, 3])


def to_index(affine_lps: NDArray[np.float64], points_lps: NDArray[np.float64]) -> Any:
    """LPS points of shape (N, 3) in voxel indices of the affine."""
    return (points_lps - affine_lps[:3, 3]) @ np.linalg.inv(affine_lps[:3, :3]).T


@dataclass(frozen=True, eq=False)
class Image:
    """Every voxel known: array (i, j, k) in native units and the affine to LPS mm.

    Attributes:
        padding: True where any value not above the smallest real one is right.
        time_ms: Expected phase time; None where not checked.
        tolerance: Largest difference of values.
        grid_tolerance_voxel: Largest distance of a voxel centre from its true place.
    """

    array: NDArray[Any]
    affine_lps: NDArray[np.float64]
    padding: NDArray[np.bool_] | None = None
    time_ms: float | None = None
    tolerance: float = 1e-3
    grid_tolerance_voxel: float = GRID_TOLERANCE_VOXEL

    def mismatch(self, volume: Volume) -> str:
        """Empty when each voxel centre lies on a true one, once, with its value."""
        if volume.array.size != self.array.size:
            return f"shape {volume.array.shape}, true {self.array.shape}"
        index = to_index(self.affine_lps, voxel_centres_lps(volume))
        nearest = np.rint(index).astype(int)
        off = float(np.abs(index - nearest).max())
        if off > self.grid_tolerance_voxel:
            return f"voxel centres are {off:.3f} voxel off"
        if (nearest < 0).any() or (nearest >= self.array.shape).any():
            return "voxel centres outside the true grid"
        flat = np.ravel_multi_index(tuple(nearest.T), self.array.shape)
        if len(np.unique(flat)) != self.array.size:
            return "voxel centres coincide"
        return self._value_mismatch(volume.array.reshape(-1), flat) or self._time_mismatch(volume)

    def _value_mismatch(self, values: NDArray[Any], flat: NDArray[Any]) -> str:
        read = values.astype(np.float64)
        true = self.array.reshape(-1)[flat].astype(np.float64)
        wrong = ~np.isclose(read, true, rtol=1e-6, atol=self.tolerance)
        if self.padding is not None:
            smallest = self.array[~self.padding].min()
            wrong &= ~(self.padding.reshape(-1)[flat] & (read <= smallest))
        if not wrong.any():
            return ""
        first = int(np.flatnonzero(wrong)[0])
        return f"{int(wrong.sum())} of {wrong.size} values wrong, {read[first]} for {true[first]}"

    def _time_mismatch(self, volume: Volume) -> str:
        if self.time_ms is None or volume.time_ms is None:
            return ""
        if abs(volume.time_ms - self.time_ms) > 0.1 * max(abs(self.time_ms), 50.0):
            return f"time {volume.time_ms} ms, true {self.time_ms} ms"
        return ""


@dataclass(frozen=True, eq=False)
class Field:
    """A scene linear in space, sampled anywhere: right after any linear resampling.

    Attributes:
        value_at: LPS points of shape (N, 3) to values.
        shape: Of the acquired (possibly sheared) grid, as if it were regular.
        affine_lps: Of that grid; inside its hull the values are known.
        tolerance: Largest difference of values.
        holes: Ranges of the slice index without data; values inside are not checked.
    """

    value_at: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    shape: tuple[int, int, int]
    affine_lps: NDArray[np.float64]
    tolerance: float = 1.0
    holes: tuple[tuple[float, float], ...] = ()

    def mismatch(self, volume: Volume) -> str:
        """Empty when the grid is rectilinear, covers the hull and carries the field's values."""
        axes = volume.geometry.direction
        if np.abs(axes.T @ axes - np.eye(3)).max() > 1e-3:
            return "axes are not orthogonal"
        points = voxel_centres_lps(volume)
        index = to_index(self.affine_lps, points)
        inside = ((index >= -1e-3) & (index <= np.subtract(self.shape, 1) + 1e-3)).all(axis=1)
        for low, high in self.holes:
            inside &= ~((index[:, 2] > low) & (index[:, 2] < high))
        covered = inside.sum() * volume.geometry.voxel_mm3
        hull = np.prod(np.subtract(self.shape, 1)) * abs(np.linalg.det(self.affine_lps[:3, :3]))
        hull *= 1 - sum(high - low for low, high in self.holes) / (self.shape[2] - 1)
        if covered < 0.8 * hull:
            return f"covers {covered:.0f} mm3 of {hull:.0f} mm3"
        error = np.abs(volume.array.reshape(-1)[inside] - self.value_at(points[inside]))
        return f"off by up to {error.max():.1f}" if error.max() > self.tolerance else ""


@dataclass(frozen=True, eq=False)
class Expectation:
    """What must come out of one trap.

    Attributes:
        images: Acceptable sets of volumes; the volumes read must be exactly one of the sets.
        optional: Volumes that may come in addition (a localizer as its own volume).
        flagged: Every volume must carry at least one flag.
        flag_words: At least one flag code of each volume must contain one of these.
        clean: No volume may carry a warning or an error.
        may_refuse: A refusal instead of (some of) the images is right as well.
        must_refuse: Nothing may be read and a refusal must say why.
        not_images: Files that must be listed as skipped (or refused) and never be read.
        refusal_mm: Gap or place in mm that a refusal must name.
        refusal_names: A file of which at least one must be named by a refusal.
        studies: Number of studies with readable volumes; None where not checked.
        same_series: All volumes must share one series key (phases, echoes of one series).
        entry: What to open, relative to the folder.
    """

    images: tuple[tuple[Truth, ...], ...] = ()
    optional: tuple[Truth, ...] = ()
    flagged: bool = False
    flag_words: tuple[str, ...] = ()
    clean: bool = False
    may_refuse: bool = False
    must_refuse: bool = False
    not_images: tuple[str, ...] = ()
    refusal_mm: tuple[float, ...] = ()
    refusal_names: tuple[str, ...] = ()
    studies: int | None = None
    same_series: bool = False
    entry: str = "."


def reads(*images: Truth, **more: Any) -> Expectation:
    """Exactly these images."""
    return Expectation(images=(images,), **more)


def refuses(**more: Any) -> Expectation:
    """No image, and a refusal that says why."""
    return Expectation(must_refuse=True, **more)


def skips(*names: str, **more: Any) -> Expectation:
    """No image, and each of the files listed."""
    return Expectation(images=((),), not_images=names, **more)


@dataclass
class Reading:
    """Everything that one input gave."""

    refs: list[VolumeRef] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def read_all(listing: Listing) -> Reading:
    """Decode every volume of a listing; a refused read joins the refusals."""
    reading = Reading(refusals=list(listing.refusals), skipped=list(listing.skipped))
    for study in listing.studies:
        for ref in study.volumes:
            try:
                volume = ref.read()
            except InputRefusedError as error:
                reading.refusals.append(Refusal.from_error(error))
            else:
                reading.refs.append(ref)
                reading.volumes.append(volume)
    return reading


def judge(listing: Listing, expected: Expectation, *, folder: Path) -> list[str]:
    """Everything that is wrong with what was read; empty when all is right."""
    reading = read_all(listing)
    problems = _judge_images(reading, expected)
    problems += _judge_refusals(reading, expected)
    problems += _judge_skips(listing, reading, expected)
    problems += _judge_flags(reading, expected)
    problems += _judge_structure(listing, reading, expected)
    return problems + identity_leaks(listing, reading, folder=folder)


def _judge_images(reading: Reading, expected: Expectation) -> list[str]:
    if expected.must_refuse:
        return [f"read {volume.id} {volume.array.shape}" for volume in reading.volumes]
    attempts = [_match(reading, truths, expected) for truths in expected.images]
    return min(attempts, key=len, default=[])


def _match(reading: Reading, truths: Sequence[Truth], expected: Expectation) -> list[str]:
    waiting, extra, problems = list(truths), list(expected.optional), []
    for volume in reading.volumes:
        reasons = [truth.mismatch(volume) for truth in (*waiting, *extra)]
        if "" not in reasons:
            problems.append(f"{volume.id} {volume.array.shape} is no true image: {reasons[:4]}")
            continue
        place = reasons.index("")
        (waiting if place < len(waiting) else extra).pop(
            place if place < len(waiting) else place - len(waiting)
        )
    refused = expected.may_refuse and bool(reading.refusals)
    if waiting and not refused:
        said = [f"{refusal.code}: {refusal.found}" for refusal in reading.refusals]
        problems.append(f"{len(waiting)} of {len(truths)} images not read; refusals {said}")
    return problems


def _judge_refusals(reading: Reading, expected: Expectation) -> list[str]:
    problems = [
        f"refusal {refusal.code!r} of {refusal.source!r} leaves a field empty"
        for refusal in reading.refusals
        if not all((refusal.source, refusal.stage, refusal.code, refusal.found, refusal.expected))
        or not refusal.advice
    ]
    if expected.must_refuse and not reading.refusals:
        problems.append("nothing was refused")
    text = " ".join(f"{r.source} {r.found} {r.expected} {r.advice}" for r in reading.refusals)
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]
    if reading.refusals and not reading.volumes:
        problems += [
            f"no refusal names {place} mm: {text}"
            for place in expected.refusal_mm
            if not any(abs(abs(number) - abs(place)) <= 0.051 for number in numbers)
        ]
        if expected.refusal_names and not any(name in text for name in expected.refusal_names):
            problems.append(f"no refusal names one of {expected.refusal_names}: {text}")
    return problems


def _judge_skips(listing: Listing, reading: Reading, expected: Expectation) -> list[str]:
    listed = [record.source for record in listing.skipped]
    listed += [refusal.source for refusal in reading.refusals]
    if not (listed or reading.volumes):
        return ["nothing read, refused or skipped: the input vanished"]
    used = {name for ref in reading.refs for name in ref.source_files}
    problems = [f"{name} was read as an image" for name in expected.not_images if name in used]
    problems += [
        f"{name} is neither skipped nor refused"
        for name in expected.not_images
        if not any(source.endswith(name) for source in listed)
    ]
    return problems + [
        f"skipped {record.source!r} without code or reason"
        for record in listing.skipped
        if not (record.source and record.code and record.reason)
    ]


def _judge_flags(reading: Reading, expected: Expectation) -> list[str]:
    problems = []
    for ref, volume in zip(reading.refs, reading.volumes, strict=True):
        flags = {flag.code: flag for flag in (*ref.flags, *volume.flags)}
        if expected.flagged and not flags:
            problems.append(f"{volume.id} carries no flag")
        words = expected.flag_words
        if words and not any(word in code for word in words for code in flags):
            problems.append(f"{volume.id}: no flag code with one of {words}: {sorted(flags)}")
        if expected.clean:
            problems += [
                f"{volume.id} carries {flag.code}: {flag.message}"
                for flag in flags.values()
                if flag.severity != "info"
            ]
    return problems


def _judge_structure(listing: Listing, reading: Reading, expected: Expectation) -> list[str]:
    problems = []
    with_volumes = [study for study in listing.studies if study.volumes]
    if expected.studies is not None and reading.volumes and len(with_volumes) != expected.studies:
        problems.append(f"{len(with_volumes)} studies, true {expected.studies}")
    keys = {ref.series_key for ref in reading.refs}
    if expected.same_series and len(keys) > 1:
        problems.append("volumes of one series have different series keys")
    for study in listing.studies:
        ids = [ref.id for ref in study.volumes]
        if len(set(ids)) != len(ids):
            problems.append(f"volume ids repeat: {ids}")
    for ref, volume in zip(reading.refs, reading.volumes, strict=True):
        if not ref.geometry.is_close(volume.geometry):
            problems.append(f"{ref.id}: grid of the headers differs from the decoded one")
    return problems


def identity_leaks(listing: Listing, reading: Reading, *, folder: Path) -> list[str]:
    """Planted identities or absolute paths in any record."""
    texts = [repr(record) for record in (*reading.refusals, *listing.skipped)]
    texts += [repr((*ref.flags, ref.metadata, ref.id, ref.source_files)) for ref in reading.refs]
    texts += [repr((v.flags, dict(v.metadata), v.id, v.path)) for v in reading.volumes]
    texts += [study.case_id for study in listing.studies]
    tokens = (*IDENTITY_TOKENS, str(folder))
    return [f"{token} appears in {text}" for text in texts for token in tokens if token in text]
