"""A small honest model and a program around it, to try the batch with: it segments by threshold.

As a program: `python -m tests.threshold_batch IN OUT [--pause S] [--log FILE] [--hungry CASE]`
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError

from medmtl.core.errors import InputRefusedError, MedmtlError
from medmtl.core.geometry import LPS_TO_RAS, Geometry
from medmtl.core.prediction import (
    FindingResult,
    Measurement,
    ModelIdentity,
    Prediction,
    SegmentResult,
    VolumePrediction,
)
from medmtl.core.study import Listing, Refusal, Study, VolumeRef
from medmtl.core.volume import Volume
from medmtl.inference.batch import BatchOptions, run_batch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

THRESHOLD = 100.0


def write_studies(folder: Path, count: int, *, shape: tuple[int, int, int] = (20, 16, 6)) -> None:
    """Noise with a bright block whose size grows from study to study."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        image = rng.normal(20, 5, shape).astype(np.float32)
        image[2 : 6 + number % 10, 3:9, 1:5] += 200
        affine = np.diag([-1.5, -1.5, 8.0, 1.0])
        nib.save(nib.Nifti1Image(image, affine), folder / f"case{number:02d}.nii")


def list_studies(folder: Path) -> Listing:
    """One study per NIfTI file; a file that is no NIfTI is refused."""
    studies, refusals = [], []
    for path in sorted(folder.glob("*.nii")):
        try:
            studies.append(_study(path))
        except ImageFileError:
            refusals.append(
                Refusal(path.name, "scan", "not-nifti", "other bytes", "NIfTI", "Remove it.")
            )
    return Listing(tuple(studies), tuple(refusals))


def _study(path: Path) -> Study:
    header = nib.load(path)
    geometry = Geometry(header.shape, LPS_TO_RAS @ header.affine)

    def decode(_: VolumeRef) -> Volume:
        array = np.asarray(nib.load(path).dataobj)
        return Volume(array, geometry, id="image", path=path.name)

    ref = VolumeRef("image", decode, geometry, modality="", source_files=(path.name,))
    return Study(case_id=path.stem, kind="nifti", study_uid="", volumes=(ref,))


@dataclass
class ThresholdAnalyser:
    """Voxels above the threshold are the block; the finding is that there are many."""

    pause_s: float = 0.0
    log: Path | None = None
    hungry: str = ""
    broken: Mapping[str, Exception] = field(default_factory=dict)
    threshold: float = THRESHOLD

    @property
    def identity(self) -> ModelIdentity:
        return ModelIdentity("threshold", "1", f"{'0' * 63}1")

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"device": "cpu", "backend": "numpy", "threshold": self.threshold}

    def select(self, study: Study) -> Sequence[VolumeRef]:
        if study.case_id == "unfit":
            raise InputRefusedError(
                "unfit", stage="select", code="wrong-modality", found="XR", expected="CT",
                advice="Use another model.",
            )  # fmt: skip
        return study.volumes

    def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
        if self.log is not None:
            with self.log.open("a") as stream:
                stream.write(f"{study.case_id}\n")
        if study.case_id in self.broken:
            raise self.broken[study.case_id]
        if study.case_id == self.hungry:
            np.ones(1 << 33)  # 64 GiB, under a real limit of the address space
        time.sleep(self.pause_s)
        (volume,) = volumes
        return self._answer(volume)

    def _answer(self, volume: Volume) -> Prediction:
        mask = (volume.array > self.threshold).astype(np.uint8)
        voxels = int(mask.sum())
        volume_ml = voxels * volume.geometry.voxel_mm3 / 1000
        cam = volume.with_array(np.clip(volume.array / 250, 0, 1).astype(np.float32))
        return Prediction(
            self.identity,
            (VolumePrediction(volume, mask),),
            (SegmentResult(volume.id, 1, "block", volume_ml, voxels, float("nan")),),
            (Measurement("block_volume", volume_ml, "mL", f"{volume.id}:block"),),
            (
                FindingResult(
                    "large_block", voxels / mask.size, 0.1, voxels > 0.1 * mask.size, False,
                    cams={volume.id: cam}, cam_energy_in_segments={"block": 0.5},
                    measurements=("block_volume",),
                ),
            ),
            (),
            {"preprocess": 0.0, "network": self.pause_s, "postprocess": 0.0},
        )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--hungry", default="")
    parser.add_argument("--restart", action="store_true")
    parser.add_argument("--summary-every", type=float, default=0.1)
    options = parser.parse_args()
    if options.hungry:
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    analyser = ThresholdAnalyser(options.pause, options.log, options.hungry)
    batch = BatchOptions(restart=options.restart, summary_every_s=options.summary_every)
    failed = 0
    try:
        outcomes = run_batch(
            list_studies(options.source), analyser, out=options.out, input_path=options.source,
            options=batch,
        )  # fmt: skip
        for outcome in outcomes:
            print(outcome.case_id, outcome.status, flush=True)
            failed += outcome.status == "failed"
    except MedmtlError as error:
        print(f"medmtl: {error}", file=sys.stderr)
        return 2
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
