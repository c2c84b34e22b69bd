"""A 512x512x300 CT to masks on its own grid: `medmtl predict` against nnU-Net's predictor.

The network and weights of `torso-ct-phantom` in both, traced for nnU-Net. medmtl starts from the
DICOM series and also gives diagnoses, activation maps and previews; nnU-Net starts from a NIfTI
file made before and gives the masks. Whole processes are timed, imports included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.memory import QUICK_SHAPE, SHAPE, write_ct
from benchmarks.peak import run_and_watch
from benchmarks.peers.__main__ import PEERS
from benchmarks.record import ROOT, Row, finish, options
from medmtl.data.intake import open_input
from medmtl.inference.bundle import find_bundle, load_bundle
from medmtl.report.nifti import write_image

if TYPE_CHECKING:
    from medmtl.networks.joint import JointNet
    from medmtl.transforms.settings import PreprocessingConfig, WindowHU

MODEL = "torso-ct-phantom"
PATCH_KJI = [96, 96, 96]
TIMES_AS_FAST, SHARE_OF_MEMORY = 6.0, 1 / 3


class Masks(nn.Module):
    """The segmentation of a joint network."""

    def __init__(self, net: JointNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return self.net.encode_and_decode(image)[1]


def write_case(folder: Path) -> None:
    """What nnU-Net needs: image, network, and the settings of the bundle in its words."""
    bundle = load_bundle(find_bundle(MODEL))
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
    (study,) = open_input(folder / "ct").studies
    write_image(folder / "image.nii.gz", study.volumes[0].read())


def labels_of(path: Path) -> np.ndarray:
    """Classes, numbered as in nnU-Net."""
    segments = load_bundle(find_bundle(MODEL)).settings.segments
    found = np.asarray(nib.load(path).dataobj)
    numbers = np.zeros(int(found.max()) + 1, np.uint8)
    for number, segment in enumerate(segments, start=1):
        if segment.label < len(numbers):
            numbers[segment.label] = number
    return np.asarray(numbers[found])


def by_medmtl(folder: Path, backend: str) -> tuple[int, float]:
    """Peak bytes and seconds of the whole command."""
    command = [
        sys.executable, "-m", "medmtl", "predict", str(folder / "ct"), "-o", str(folder / backend),
        "--model", MODEL, "--quiet", "--backend", backend,
    ]  # fmt: skip
    return run_and_watch(command)


def by_nnunet(folder: Path) -> tuple[int, float]:
    """Peak bytes and seconds of the whole script."""
    python = PEERS / "nnunet" / "bin" / "python"
    script = ROOT / "benchmarks" / "peers" / "nnunet_predict.py"
    names = ("network.pt", "image.nii.gz", "case.json", "nnunet.nii.gz")
    return run_and_watch([str(python), str(script), *(str(folder / name) for name in names)])


def main() -> None:
    """nnU-Net once, medmtl with both backends, one after the other."""
    arguments = options(__doc__ or "")
    if not (PEERS / "nnunet").exists():
        raise SystemExit("no nnU-Net: python -m benchmarks.peers")
    shape = QUICK_SHAPE if arguments.quick else SHAPE
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        write_ct(folder / "ct", shape)
        write_case(folder)
        their_bytes, their_s = by_nnunet(folder)
        rows = [Row("nnU-Net: NIfTI to masks", f"{their_s:.0f} s, {their_bytes / 2**30:.2f} GiB")]
        theirs = np.asarray(nib.load(folder / "nnunet.nii.gz").dataobj)
        for backend in ("torch", "openvino"):
            our_bytes, our_s = by_medmtl(folder, backend)
            (mask,) = (folder / backend).glob("*/*/segmentation.nii.gz")
            equal = float(np.mean(labels_of(mask) == theirs))
            ratio, share = their_s / our_s, our_bytes / their_bytes
            rows += [
                Row(f"medmtl, {backend}: DICOM to masks, diagnoses, maps, previews",
                    f"{our_s:.0f} s, {our_bytes / 2**30:.2f} GiB"),
                Row(f"times as fast, {backend}", f"{ratio:.1f}", f">= {TIMES_AS_FAST:g}",
                    ratio >= TIMES_AS_FAST),
                Row(f"share of the memory, {backend}", f"{share:.2f}", "<= 1/3",
                    share <= SHARE_OF_MEMORY),
                Row(f"voxels equal, {backend} (other interpolation and tiles)", f"{equal:.4f}"),
            ]  # fmt: skip
    finish("end_to_end", rows, arguments)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"exit status {error.returncode} of {error.cmd[:4]}") from error
