"""The same labels as nnU-Net: real model folders, predicted there and by the imported bundle.

    python -m benchmarks.parity_nnunet [--work DIR] [--minutes N] [--only MODEL]

The environment of nnU-Net is its own (`pip install nnunetv2`), never that of medmtl:
`~/.cache/medmtl-peers/nnunet`, or `--python`. Its planner and trainer make eight models out of the
images beside the checkout, see `nnunet_peer.py`; every voxel of `nnUNetPredictor` is compared with
that of `medmtl predict`. One model after the other, start to finish; with `--work` a run that was
cut off goes on where it stopped, and models that do not fit into the minutes are named.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.nnunet_peer import MODELS
from benchmarks.peers.__main__ import PEERS
from benchmarks.record import Row, finish, former_rows, parser_of
from medmtl.data.volume_file import read_volume_file
from medmtl.imports.nnunet import import_nnunet

__all__ = ["main"]

LEAST_EQUAL = 0.9999
"""Share of voxels, as the issue asks."""
LEAST_DICE = 0.999
"""Of each segment between the two answers."""

_PEER = Path(__file__).with_name("nnunet_peer.py")
_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_SMALLEST = "hippocampus_two_channels"


def main() -> None:
    """Make, predict, compare; exit status 1 where one model is below the limits."""
    parser = parser_of(__doc__ or "", minutes=90)
    parser.add_argument("--python", type=Path, default=PEERS / "nnunet" / "bin" / "python")
    parser.add_argument("--work", type=Path, help="kept and used again; default: a temporary one")
    parser.add_argument("--data", type=Path, default=_DATA)
    parser.add_argument("--only", choices=list(MODELS), help="one model; its rows replace the old")
    options = parser.parse_args()
    if not options.python.exists():
        raise SystemExit(f"No nnU-Net at {options.python}: python -m benchmarks.peers")
    names = [options.only or _SMALLEST] if options.only or options.quick else list(MODELS)
    until = time.monotonic() + 60 * options.minutes
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).absolute()
        for name in names:
            try:
                _peer(options.python, work, name, options.data, until)
                rows += _compare(work, name, until)
            except subprocess.TimeoutExpired:
                rows.append(Row(f"{name}: compared", "no: out of time", "yes", reached=False))
    measured = (f"{options.only} ", f"{options.only}:") if options.only else ("",)
    kept = former_rows("parity_nnunet", out=options.out, without=measured)
    finish("parity_nnunet", [*kept, *rows], options)


def _peer(python: Path, work: Path, name: str, data: Path, until: float) -> None:
    """nnU-Net's three steps for one model.

    Raises:
        TimeoutExpired: If they do not fit into the time.
    """
    sources = [str(data / "msd_hippocampus"), str(data / "acdc" / "training"), str(data / "nifti")]
    for step, more in (("plan", sources), ("train", []), ("predict", [])):
        variables = [
            *(f"nnUNet_{part}={work / part}" for part in ("raw", "preprocessed", "results")),
            "nnUNet_compile=f",
            "nnUNet_def_n_proc=1",
            f"nnUNet_n_proc_DA={int(step == 'plan')}",  # augmentation in the process that trains
        ]
        command = ["/usr/bin/env", *variables, str(python), str(_PEER), step, str(work), name]
        subprocess.run([*command, *more], check=True, timeout=_left(until))


def _left(until: float) -> float:
    return max(1.0, until - time.monotonic())


def _compare(work: Path, name: str, until: float) -> list[Row]:
    """Share of equal voxels and smallest Dice between the two answers, over all cases."""
    folder, bundle, out = (work / part / name for part in ("models", "bundles", "found"))
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    settings = import_nnunet(folder, bundle)
    equal, voxels, dice = 0, 0, 1.0
    for path in sorted((work / "expected" / name).glob("*.nii.gz")):
        images = _images(work, name, path.name)
        command = [sys.executable, "-m", "medmtl", "predict", str(images), "-o", str(out)]
        more = ["--model", str(bundle), "--device", "cpu", "--formats", "nifti,json", "--quiet"]
        subprocess.run([*command, *more], check=True, timeout=_left(until))
        truth = read_volume_file(path.parent, path.name).array
        (answer,) = out.rglob("segmentation.nii.gz")
        labels = read_volume_file(answer.parent, answer.name).array
        equal, voxels = equal + int((labels == truth).sum()), voxels + truth.size
        found = [int(label) for label in np.unique(truth) if label]
        dice = min([dice, *(_dice(labels == label, truth == label) for label in found)])
    what = f"{name} ({settings.network.backbone.name}, {len(found)} segments seen"
    what += f", {1 + len(settings.folds or ())} folds, {voxels} voxels)"
    share = equal / voxels
    return [
        Row(f"{what}: equal voxels", f"{share:.6f}", f">= {LEAST_EQUAL}", share >= LEAST_EQUAL),
        Row(f"{name}: smallest Dice", f"{dice:.6f}", f">= {LEAST_DICE}", dice >= LEAST_DICE),
    ]


def _images(work: Path, model: str, name: str) -> Path:
    """The image of an answer, or the folder of its channels, in the data set of the model."""
    data_set = next((work / "raw").glob(f"Dataset{MODELS[model]['data']}_*"))
    found = sorted((data_set / "imagesTs").glob(f"{name.removesuffix('.nii.gz')}_*.nii.gz"))
    return found[0] if len(found) == 1 else found[0].parent


def _dice(one: Any, other: Any) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


if __name__ == "__main__":
    main()
