"""The same labels as nnU-Net: real model folders, predicted there and by the imported bundle.

    python -m benchmarks.parity_nnunet --python /path/to/nnunet/venv/bin/python --work DIR

The environment of nnU-Net is its own (`pip install nnunetv2`), never that of medmtl. Its planner
and trainer make seven models out of the images beside the checkout, see `nnunet_peer.py`; every
voxel of `nnUNetPredictor` is compared with that of `medmtl predict`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, Row, finish
from medmtl.data.volume_file import read_volume_file
from medmtl.imports.nnunet import import_nnunet

__all__ = ["main"]

LEAST_EQUAL = 0.9999
"""Share of voxels, as the issue asks."""
LEAST_DICE = 0.999
"""Of each segment between the two answers."""

_PEER = Path(__file__).with_name("nnunet_peer.py")
_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def main() -> None:
    """Make, predict, compare; exit status 1 where one model is below the limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="of nnU-Net's environment")
    parser.add_argument("--work", type=Path, help="kept and used again; default: a temporary one")
    parser.add_argument("--data", type=Path, default=_DATA)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.set_defaults(quick=False)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).absolute()
        _peer(options.python, work, options.data)
        rows = [
            row for folder in sorted((work / "models").iterdir()) for row in _compare(work, folder)
        ]
    finish("parity_nnunet", rows, options)


def _peer(python: Path, work: Path, data: Path) -> None:
    """nnU-Net's three steps; a step that is done is not done again."""
    sources = [str(data / "msd_hippocampus"), str(data / "acdc" / "training"), str(data / "nifti")]
    for step, done, more in (
        ("plan", work / "raw", sources), ("train", work / "models", []),
        ("predict", work / "expected", []),
    ):  # fmt: skip
        if done.exists():
            continue
        variables = [
            *(f"nnUNet_{name}={work / name}" for name in ("raw", "preprocessed", "results")),
            "nnUNet_compile=f",
            "nnUNet_def_n_proc=1",
            f"nnUNet_n_proc_DA={int(step == 'plan')}",  # augmentation in the process that trains
        ]
        subprocess.run(
            ["/usr/bin/env", *variables, str(python), str(_PEER), step, str(work), *more],
            check=True,
        )


def _compare(work: Path, folder: Path) -> list[Row]:
    """Share of equal voxels and smallest Dice between the two answers, over all cases."""
    bundle, out = work / "bundles" / folder.name, work / "found" / folder.name
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    settings = import_nnunet(folder, bundle)
    equal, voxels, dice = 0, 0, 1.0
    for path in sorted((work / "expected" / folder.name).glob("*.nii.gz")):
        image = _image(work, folder.name, path.name)
        command = [sys.executable, "-m", "medmtl", "predict", str(image), "-o", str(out), "--quiet"]
        more = ["--model", str(bundle), "--device", "cpu", "--formats", "nifti,json"]
        subprocess.run([*command, *more], check=True)
        truth = read_volume_file(path.parent, path.name).array
        (answer,) = (out / image.name.removesuffix(".nii.gz")).rglob("segmentation.nii.gz")
        labels = read_volume_file(answer.parent, answer.name).array
        equal, voxels = equal + int((labels == truth).sum()), voxels + truth.size
        found = [int(label) for label in np.unique(truth) if label]
        dice = min([dice, *(_dice(labels == label, truth == label) for label in found)])
    what = f"{folder.name} ({settings.network.backbone.name}, {len(found)} segments seen"
    what += f", {1 + len(settings.folds or ())} folds, {voxels} voxels)"
    share = equal / voxels
    return [
        Row(f"{what}: equal voxels", f"{share:.6f}", f">= {LEAST_EQUAL}", share >= LEAST_EQUAL),
        Row(f"{folder.name}: smallest Dice", f"{dice:.6f}", f">= {LEAST_DICE}", dice >= LEAST_DICE),
    ]


def _image(work: Path, model: str, name: str) -> Path:
    """The image of an answer, in the data set of the model."""
    datasets = {"hippocampus": "501", "acdc_regions": "503", "acdc": "502", "body_ct": "504"}
    dataset = next(number for start, number in datasets.items() if model.startswith(start))
    stem = name.removesuffix(".nii.gz")
    return next((work / "raw").glob(f"Dataset{dataset}_*/imagesTs/{stem}_0000.nii.gz"))


def _dice(one: Any, other: Any) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


if __name__ == "__main__":
    main()
