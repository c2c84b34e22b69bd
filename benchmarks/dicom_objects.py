"""Seconds to write 60 segments of a 512x512x300 CT as DICOM, and to read them back to the voxel.

Each runs on one core; what is given is processor time, of the reading worker as well, so that
other programs on the machine do not count.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
from scipy.spatial import KDTree

from benchmarks.alternate import Seconds
from benchmarks.record import Row, finish, options
from medmtl.core.geometry import Geometry
from medmtl.core.labels import LabelSchema, SegmentSpec
from medmtl.core.prediction import ModelIdentity, Prediction, SegmentResult, VolumePrediction
from medmtl.core.source import SourceFrame, VolumeSource
from medmtl.core.study import Study
from medmtl.core.volume import Volume
from medmtl.dicom.read_rtstruct import read_rtstruct
from medmtl.dicom.read_seg import read_seg
from medmtl.report.dicom_rtstruct import make_rtstruct
from medmtl.report.dicom_seg import make_seg
from medmtl.report.dicom_segments import segments_of
from medmtl.report.dicom_source import DicomSource, save_dicom

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from medmtl.dicom.segmentation import Segmentation
    from medmtl.report.dicom_seg import SegType
    from medmtl.report.dicom_segments import NumberedSegment

LIMIT_S = 10.0
SHAPE, QUICK_SHAPE = (512, 512, 300), (96, 80, 30)
SEGMENTS = 60
_ROUNDS = 3
_CT = "1.2.840.10008.5.1.4.1.1.2"
_MODEL = ModelIdentity("bench", "1", "0" * 64)


def _label_map(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A body full of organs that touch: each voxel has the label of the nearest of 60 centres."""
    coarse = [size // 2 for size in shape]  # each point stands for 2 x 2 x 2 voxels
    axes = [np.linspace(-1, 1, size, dtype=np.float32) for size in coarse]
    centres = np.random.default_rng(0).uniform(-0.6, 0.6, (SEGMENTS, 3)).astype(np.float32)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    labels = KDTree(centres).query(points.reshape(-1, 3))[1].reshape(coarse) + 1
    inside = (points / (0.85, 0.7, 0.98)) ** 2
    labels = np.where(inside.sum(axis=-1) < 1, labels, 0).astype(np.uint8)
    for axis in range(3):
        labels = labels.repeat(2, axis=axis)
    return labels


def _volume(shape: tuple[int, int, int]) -> Volume:
    """The grid and the frames of a CT; its pixels are of no matter here."""
    grid = Geometry.from_parts(shape=shape, spacing_mm=(0.78, 0.78, 1.25))
    frames = tuple(
        SourceFrame(
            sop_class_uid=_CT,
            sop_instance_uid=f"1.2.3.4.{k + 1}",
            series_uid="1.2.3.5",
            frame_number=None,
            position_lps=(0.0, 0.0, 1.25 * k),
            orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            spacing_mm=(0.78, 0.78),
        )
        for k in range(shape[2])
    )
    image = np.broadcast_to(np.int16(0), shape)
    return Volume(
        image, grid, id="ct", modality="CT", series_uid="1.2.3.5", frame_of_reference_uid="1.2.3.6",
        source=VolumeSource(frames, dict),
    )  # fmt: skip


def _prediction(volume: Volume, label_map: NDArray[np.uint8]) -> Prediction:
    specs = tuple(SegmentSpec(label, f"organ_{label}") for label in range(1, SEGMENTS + 1))
    counts = np.bincount(label_map.ravel(), minlength=SEGMENTS + 1)
    results = tuple(
        SegmentResult("ct", spec.label, spec.name, 1.0, int(counts[spec.label]), 0.0)
        for spec in specs
    )
    part = VolumePrediction(volume, label_map)
    return Prediction(_MODEL, (part,), results, (), (), (), {}, schema=LabelSchema(specs))


def _processor_s() -> float:
    """Of this process and its children so far."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def _timed(work: Callable[[], object]) -> Seconds:
    seconds = []
    for _ in range(_ROUNDS):
        start_s = _processor_s()
        work()
        seconds.append(_processor_s() - start_s)
    return Seconds(tuple(seconds))


def _row(what: str, seconds: Seconds, *, is_judged: bool = False) -> Row:
    if not is_judged:
        return Row(what, str(seconds))
    return Row(what, str(seconds), f"< {LIMIT_S:g} s", seconds.median < LIMIT_S)


def _check(
    read: Callable[[Path, Geometry], Segmentation],
    path: Path,
    label_map: NDArray[np.uint8],
    geometry: Geometry,
) -> None:
    """Read a file; what is read must be what was written.

    Raises:
        SystemExit: If it is not.
    """
    if not np.array_equal(read(path, geometry).label_map(), label_map):
        raise SystemExit(f"{path.name}: other voxels than were written")


def main() -> None:
    """Write and read each kind."""
    arguments = options(__doc__ or "")
    shape = QUICK_SHAPE if arguments.quick else SHAPE
    size = "x".join(map(str, shape))
    label_map, volume = _label_map(shape), _volume(shape)
    prediction = _prediction(volume, label_map)
    source = DicomSource.of(Study("bench", "dicom", "1.2.3", ()), volume, _MODEL)
    segments = segments_of(source, prediction)
    rows = []
    with tempfile.TemporaryDirectory() as aside:
        for kind, write, read in _kinds(source, label_map, segments):
            path = Path(aside) / kind
            writing = _timed(partial(write, path))
            reading = _timed(partial(_check, read, path, label_map, source.geometry))
            what = f"{kind}: {SEGMENTS} segments of {size}, {path.stat().st_size / 2**20:.0f} MiB"
            rows.append(
                _row(f"write {what}, processor time", writing, is_judged=kind.startswith("SEG"))
            )
            rows.append(_row(f"read {what}, processor time", reading))
    finish("dicom_objects", rows, arguments)


def _kinds(
    source: DicomSource, label_map: NDArray[np.uint8], segments: tuple[NumberedSegment, ...]
) -> list[tuple[str, Callable[[Path], None], Callable[[Path, Geometry], Segmentation]]]:
    def seg(seg_type: SegType) -> Callable[[Path], None]:
        return lambda path: make_seg(source, label_map, segments, seg_type=seg_type).save(path)

    return [
        ("SEG, binary", seg("binary"), read_seg),
        ("SEG, LABELMAP with JPEG-LS", seg("labelmap"), read_seg),
        (
            "RTSTRUCT",
            lambda path: save_dicom(path, make_rtstruct(source, label_map, segments)),
            read_rtstruct,
        ),
    ]


if __name__ == "__main__":
    main()
