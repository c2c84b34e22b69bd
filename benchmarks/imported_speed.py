"""What `--speed` of an imported nnU-Net gains, and what it costs in Dice to the ground truth.

    python -m benchmarks.imported_speed [--model FOLDER] [--minutes N]

The model is the small 2d nnU-Net of `encoder_acdc`, trained by nnU-Net itself on four folds of
ACDC; the cases are those of the fold it has not seen, whose voxels have another size than the
network's. Every case is answered at every speed, one after the other, so that a load on the machine
meets all of them. What a patient gave is kept, so that a start that ran out of minutes goes on with
the next; `--fresh` forgets it. Differences are paired, with a bootstrap that draws patients. A
segment's Dice is that over its volumes. Seconds of a machine that does more than this are called
so. Patients come in a fixed random order, so that those who fit into the minutes are not all of one
disease.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.record import ROOT, WORK, Row, finish, parser_of
from medmtl.core.study import Study
from medmtl.data.manifest import read_manifest
from medmtl.data.volume_file import read_volume_file
from medmtl.imports.nnunet import import_nnunet
from medmtl.inference.operating_point import SPEEDS
from medmtl.inference.predictor import load_predictor
from medmtl.metrics.overlap import dice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.data.cases import Manifest, VolumeRow

_MODEL = WORK / "encoder_acdc" / "fold-0" / "models" / "2d"
_DATA = ROOT.parent / "shared" / "data" / "acdc"
_FOLD = 0
_KEPT = WORK / "imported_speed.json"
_QUICK_CASES = 2
_RESAMPLES = 2000


def main() -> None:
    """Answer every case at every speed."""
    parser = parser_of(__doc__ or "", minutes=20)
    parser.add_argument("--model", type=Path, default=_MODEL, help="model folder of nnU-Net")
    parser.add_argument("--data", type=Path, default=_DATA)
    options = parser.parse_args()
    if not options.model.is_dir():
        raise SystemExit(
            f"No model folder at {options.model}: `python -m benchmarks.encoder_acdc` trains one."
        )
    manifest = read_manifest(ROOT / "data_manifests" / "acdc")
    with tempfile.TemporaryDirectory() as folder:
        import_nnunet(options.model, Path(folder) / "bundle")
        kept = None if options.quick else _KEPT
        if options.fresh and kept:
            kept.unlink(missing_ok=True)
        answers = _Answers(Path(folder) / "bundle", manifest, options.data, kept)
        until = time.monotonic() + 60 * options.minutes
        cases = [case for case in manifest.cases if (case.split, case.fold) == ("train", _FOLD)]
        order = np.random.default_rng(0).permutation(len(cases))
        for case in (cases[n] for n in order[: _QUICK_CASES if options.quick else None]):
            if time.monotonic() > until:
                break
            if case.patient_id in answers.patients:
                continue
            for row in case.volumes:
                answers.add(case.patient_id, row)
            answers.keep(case.patient_id)
    finish("imported_speed", answers.rows(), options)


class _Answers:
    """Dice, seconds and equal voxels of all cases so far."""

    def __init__(self, bundle: Path, manifest: Manifest, data: Path, kept: Path | None) -> None:
        self.data, self.kept = data, kept
        self.labels = {segment.name: segment.label for segment in manifest.schema.segments}
        self.models = {
            speed: load_predictor(bundle, device="cpu", backend="auto", speed=speed)
            for speed in reversed(SPEEDS)
        }
        self.dice: dict[str, dict[str, dict[str, list[float]]]] = {
            speed: {name: defaultdict(list) for name in self.labels} for speed in self.models
        }
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.equal: dict[str, list[float]] = defaultdict(list)
        self.patients: list[str] = []
        self.model = self.models["best"].identity.sha256
        if kept is not None and kept.exists():
            self._take(json.loads(kept.read_text(encoding="utf-8")))

    def _take(self, known: dict[str, Any]) -> None:
        """What an earlier start found of the same model."""
        if known["model"] != self.model:
            return
        self.patients = known["patients"]
        for speed, parts in known["dice"].items():
            for name, values in parts.items():
                self.dice[speed][name].update(values)
            self.seconds[speed] = known["seconds"][speed]
            self.equal[speed] = known["equal"][speed]

    def keep(self, patient: str) -> None:
        """A patient is done."""
        self.patients.append(patient)
        if self.kept is not None:
            names = ("model", "patients", "dice", "seconds", "equal")
            known = {name: getattr(self, name) for name in names}
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            aside = self.kept.with_suffix(".partial")
            aside.write_text(json.dumps(known), encoding="utf-8")
            aside.replace(self.kept)

    def add(self, patient: str, row: VolumeRow) -> None:
        """One volume at every speed."""
        image = replace(read_volume_file(self.data, row.image), modality="MR")
        truth = read_volume_file(self.data, str(row.segmentation)).array
        best: NDArray[Any] | None = None
        for speed, model in self.models.items():
            study = Study(case_id=patient, kind="nifti", study_uid="", volumes=())
            began = time.perf_counter()
            prediction = model.analyse(study, [image])
            self.seconds[speed].append(time.perf_counter() - began)
            labels = prediction.volumes[0].label_map
            best = labels if best is None else best
            self.equal[speed].append(float((labels == best).mean()))
            named = {segment.name: segment.label for segment in prediction.segments}
            for name, label in named.items():
                found = dice(labels == label, truth == self.labels[name])
                if found is not None:
                    self.dice[speed][name][patient].append(found)

    def rows(self) -> list[Row]:
        """Means over patients, differences to best with their interval, seconds per volume."""
        load = " under load" if os.getloadavg()[0] > (os.cpu_count() or 1) else ""
        rows = []
        for speed, model in self.models.items():
            means, best = self._of_patients(speed), self._of_patients("best")
            what = f"{speed} ({model.settings['backend']}), {len(means)} patients"
            rows.append(Row(f"{what}: mean Dice to the ground truth", f"{means.mean():.4f}"))
            if speed != "best":
                rows.append(Row(f"{speed}: change of Dice", _interval(means - best)))
                rows += [
                    Row(f"{speed}: change of Dice, {name}", _interval(self._change(speed, name)))
                    for name in self.labels
                ]
                equal = float(np.mean(self.equal[speed]))
                rows.append(Row(f"{speed}: voxels as in best", f"{equal:.6f}"))
            seconds = f"{median(self.seconds[speed]):.2f}"
            rows.append(Row(f"{speed}: seconds per volume, median{load}", seconds))
        return rows

    def _of_patients(self, speed: str, *names: str) -> NDArray[np.float64]:
        """Mean Dice of each patient, of all segments or of these."""
        parts = [self.dice[speed][name] for name in names or self.labels]
        patients = sorted({patient for part in parts for patient in part})
        values = [[value for part in parts for value in part[one]] for one in patients]
        return np.array([np.mean(one) for one in values])

    def _change(self, speed: str, name: str) -> NDArray[np.float64]:
        return self._of_patients(speed, name) - self._of_patients("best", name)


def _interval(differences: NDArray[np.float64]) -> str:
    """Mean and 95 % interval of a bootstrap over patients."""
    random = np.random.default_rng(0)
    draws = random.integers(0, len(differences), (_RESAMPLES, len(differences)))
    low, high = np.percentile(differences[draws].mean(axis=1), (2.5, 97.5))
    return f"{differences.mean():+.4f} ({low:+.4f} to {high:+.4f})"


if __name__ == "__main__":
    main()
