"""A 512x512x300 CT to masks on its own grid: `medmtl predict` against nnU-Net's predictor.

Two networks with the same (random) weights in both, traced for nnU-Net, on a grid of 3 mm. medmtl
starts from the DICOM series and also gives diagnoses, activation maps and previews; nnU-Net starts
from a NIfTI file made before and gives the masks. Whole processes are timed, imports included.

Each of the six runs is kept when it ends (`~/.cache/medmtl-benchmarks`): a start that was stopped
goes on where it was; `--fresh` measures all of them anew, `--minutes` ends in time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measured import Measured
from benchmarks.memory import QUICK_SHAPE, SHAPE, write_ct
from benchmarks.peers.__main__ import PEERS
from benchmarks.random_bundle import BACKBONES, QUICK_SPACING_MM, SPACING_MM, write_random
from benchmarks.record import ROOT, WORK, Row, finish, options
from medmtl.data.intake import open_input
from medmtl.inference.bundle import load_bundle
from medmtl.report.nifti import write_image

if TYPE_CHECKING:
    import argparse

    from medmtl.networks.joint import JointNet
    from medmtl.transforms.settings import PreprocessingConfig, WindowHU

PATCH_KJI = [96, 96, 96]
BACKENDS = ("openvino", "torch")
TIMES_AS_FAST = {
    "SegResNet of 16 filters": {"torch": 2.5, "openvino": 6.0},
    "five-level nnU-Net network": {"torch": 1.8, "openvino": 3.5},
}
SHARE_OF_MEMORY = 1 / 3


class Masks(nn.Module):
    """The segmentation of a joint network."""

    def __init__(self, net: JointNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return self.net.encode_and_decode(image)[1]


def prepare(work: Path, shape: tuple[int, int, int], spacing_mm: float) -> None:
    """The image, and each network as a bundle and as what nnU-Net needs; once."""
    if (work / "ready").exists():
        return
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write_ct(work / "ct", shape)
    (study,) = open_input(work / "ct").studies
    write_image(work / "image.nii.gz", study.volumes[0].read())
    for network in BACKBONES:
        folder = work / slug(network)
        write_random(folder / "bundle", network, spacing_mm=spacing_mm)
        write_case(folder)
    (work / "ready").touch()


def slug(network: str) -> str:
    return network.replace(" ", "-").lower()


def write_case(folder: Path) -> None:
    """The network traced, and the settings of the bundle in nnU-Net's words."""
    bundle = load_bundle(folder / "bundle")
    net = bundle.net.requires_grad_(requires_grad=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing and its age
        traced = torch.jit.trace(Masks(net), torch.zeros(1, 1, 32, 32, 32))  # type: ignore[no-untyped-call]  # torch's own
        traced.save(str(folder / "network.pt"))
    settings = cast("PreprocessingConfig", bundle.settings.preprocessing)
    window = cast("WindowHU", settings.intensity)
    case = {
        "window_hu": [window.low_hu, window.high_hu],
        "spacing_kji": list(settings.spacing_mm[::-1]),
        "patch_kji": PATCH_KJI,
        "classes": len(bundle.settings.segments) + 1,
    }
    (folder / "case.json").write_text(json.dumps(case), encoding="utf-8")


def command(work: Path, network: str, rival: str) -> list[str]:
    """What is run and timed."""
    folder = work / slug(network)
    if rival == "nnU-Net":
        python = PEERS / "nnunet" / "bin" / "python"
        script = ROOT / "benchmarks" / "peers" / "nnunet_predict.py"
        places = (folder / "network.pt", work / "image.nii.gz", folder / "case.json",
                  folder / "nnunet.nii.gz")  # fmt: skip
        return [str(python), str(script), *map(str, places)]
    return [
        sys.executable, "-m", "medmtl", "predict", str(work / "ct"), "-o", str(folder / rival),
        "--model", str(folder / "bundle"), "--quiet", "--restart", "--backend", rival,
    ]  # fmt: skip


def labels_of(path: Path, bundle: Path) -> np.ndarray:
    """Classes, numbered as in nnU-Net."""
    segments = load_bundle(bundle).settings.segments
    found = np.asarray(nib.load(path).dataobj)
    numbers = np.zeros(int(found.max()) + 1, np.uint8)
    for number, segment in enumerate(segments, start=1):
        if segment.label < len(numbers):
            numbers[segment.label] = number
    return np.asarray(numbers[found])


def equal_share(folder: Path, backend: str) -> float:
    """Voxels with the same label as nnU-Net's."""
    (mask,) = (folder / backend).glob("*/*/segmentation.nii.gz")
    theirs = np.asarray(nib.load(folder / "nnunet.nii.gz").dataobj)
    return float(np.mean(labels_of(mask, folder / "bundle") == theirs))


def rows_of(work: Path, measured: Measured) -> list[Row]:
    """Rows for what is known so far."""
    rows = []
    for network in BACKBONES:
        theirs = measured.runs.get(f"{network}, nnU-Net")
        if theirs:
            rows.append(Row(f"{network}, nnU-Net: NIfTI to masks", str(theirs)))
        for backend in BACKENDS:
            ours = measured.runs.get(f"{network}, {backend}")
            if ours is None:
                continue
            rows.append(Row(f"{network}, medmtl, {backend}: DICOM to masks, diagnoses, maps, "
                            "previews", str(ours)))  # fmt: skip
            if theirs is None:
                continue
            ratio, share = theirs.seconds / ours.seconds, ours.peak_bytes / theirs.peak_bytes
            least = TIMES_AS_FAST[network][backend]
            equal = equal_share(work / slug(network), backend)
            rows += [
                Row(f"{network}: times as fast, {backend}", f"{ratio:.1f}", f">= {least:g}",
                    ratio >= least),
                Row(f"{network}: share of the memory, {backend}", f"{share:.2f}", "<= 1/3",
                    share <= SHARE_OF_MEMORY),
                Row(f"{network}: voxels equal, {backend} (other interpolation and tiles)",
                    f"{equal:.4f}"),
            ]  # fmt: skip
    return rows


def measure(work: Path, arguments: argparse.Namespace) -> list[Row]:
    """Run what is not known yet, the cheap first, until the time is over."""
    began_s = time.monotonic()
    if arguments.quick:
        prepare(work, QUICK_SHAPE, QUICK_SPACING_MM)
    else:
        prepare(work, SHAPE, SPACING_MM)
    measured = Measured.at(work / "measured.json")
    for network in BACKBONES:
        for rival in (*BACKENDS, "nnU-Net"):
            left_s = arguments.minutes * 60 - (time.monotonic() - began_s)
            name = f"{network}, {rival}"
            if not measured.run(name, command(work, network, rival), limit_s=left_s):
                print(f"out of time before {name}; start again to go on")
                return rows_of(work, measured)
    return rows_of(work, measured)


def main() -> None:
    """Small inputs are measured aside, and nothing of them is kept."""
    arguments = options(__doc__ or "")
    if not (PEERS / "nnunet").exists():
        raise SystemExit("no nnU-Net: python -m benchmarks.peers")
    work = WORK / "end_to_end"
    if arguments.fresh:
        shutil.rmtree(work, ignore_errors=True)
    if arguments.quick:
        with tempfile.TemporaryDirectory() as aside:
            rows = measure(Path(aside) / "work", arguments)
    else:
        rows = measure(work, arguments)
    finish("end_to_end", rows, arguments)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"exit status {error.returncode} of {error.cmd[:4]}") from error
