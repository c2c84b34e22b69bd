"""A 512x512x300 CT to masks on its own grid: `medmtl predict` against nnU-Net's predictor.

A torso with air around it, on a network grid of 256x256x160 voxels, ten classes, and two networks
that were trained on such torsos (`benchmarks.trained_bundle`), with the same weights in both.

- nnU-Net: from a NIfTI file made before to a label map; 128-cube tiles, step 0.5, no mirroring.
- torch, equal tiles: medmtl with nnU-Net's own interpolation, tiles and weights; masks only.
- openvino, int8: medmtl's own steps, from the DICOM series to masks, diagnoses, activation maps and
  previews. int8 only where its parity report holds.

Whole processes are timed, imports included; converted networks are kept before, as for any user.
Rivals take turns, for as many rounds as the time allows. Each run is kept when it ends
(`~/.cache/medmtl-benchmarks`): a start that was stopped goes on where it was; `--fresh` measures
all of them anew, `--minutes` ends in time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import warnings
from statistics import median
from typing import TYPE_CHECKING, cast

import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measured import Measured, Run
from benchmarks.peers.__main__ import PEERS
from benchmarks.random_bundle import BACKBONES
from benchmarks.record import ROOT, WORK, Row, finish, options
from benchmarks.torso_ct import write_torso_ct
from benchmarks.trained_bundle import PATCH_OF_NNUNET, make
from medmtl.data.intake import open_input
from medmtl.inference.backend import give_engine, verify_quantised
from medmtl.inference.bundle import load_bundle
from medmtl.report.nifti import write_image
from pipelines.model_source import converted_cache

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from medmtl.inference.bundle import Bundle
    from medmtl.networks.joint import JointNet
    from medmtl.transforms.settings import PreprocessingConfig, WindowHU

EXACT = "torch, equal tiles"
OURS = {
    EXACT: ("as-nnunet", ["--speed", "balanced", "--backend", "torch"]),
    "openvino": ("bundle", ["--backend", "openvino"]),
    "int8": ("bundle", ["--backend", "int8"]),
}
"""The bundle and the options of each way."""
TIMES_AS_FAST = {
    "SegResNet of 16 filters": {EXACT: 2.5, "openvino": 6.0, "int8": 10.0},
    "five-level nnU-Net network": {EXACT: 1.8, "openvino": 3.5, "int8": 6.0},
}
SHARE_OF_MEMORY = 1 / 3
EQUAL_LABELS = 0.9999
ROUNDS = 3


class Masks(nn.Module):
    """The segmentation of a joint network."""

    def __init__(self, net: JointNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return self.net.encode_and_decode(image)[1]


def prepare(work: Path, *, is_quick: bool) -> dict[str, Path]:
    """The image, and the folder of each network; once."""
    if not (work / "image.nii.gz").exists():
        shutil.rmtree(work / "ct", ignore_errors=True)
        write_torso_ct(work / "ct", is_quick=is_quick)
        (study,) = open_input(work / "ct").studies
        write_image(work / "image.nii.gz", study.volumes[0].read())
    trained = {network: make(network) for network in BACKBONES}
    for network, folder in trained.items():
        write_case(work / network, load_bundle(folder / "bundle"))
    return trained


def write_case(folder: Path, bundle: Bundle) -> None:
    """The network traced and converted, and the settings of the bundle in nnU-Net's words."""
    if (folder / "case.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
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
        "patch_kji": PATCH_OF_NNUNET,
        "classes": len(bundle.settings.segments) + 1,
    }
    device = torch.device("cpu")
    give_engine(net, bundle.settings, backend="openvino", device=device, cache=converted_cache())
    (folder / "case.json").write_text(json.dumps(case), encoding="utf-8")


def command(work: Path, network: str, rival: str, trained: Path) -> list[str]:
    """What is run and timed."""
    folder = work / network
    if rival == "nnU-Net":
        python = PEERS / "nnunet" / "bin" / "python"
        script = ROOT / "benchmarks" / "peers" / "nnunet_predict.py"
        places = (folder / "network.pt", work / "image.nii.gz", folder / "case.json",
                  folder / "nnunet.nii.gz")  # fmt: skip
        return [str(python), str(script), *map(str, places)]
    bundle, said = OURS[rival]
    return [
        sys.executable, "-m", "medmtl", "predict", str(work / "ct"), "-o", str(folder / rival),
        "--model", str(trained / bundle), "--device", "cpu", "--quiet", "--restart", *said,
    ]  # fmt: skip


def case_folder(work: Path, network: str, rival: str) -> Path:
    """Of medmtl's answer."""
    (record,) = (work / network / rival).glob("*/case.json")
    return record.parent


def equal_share(work: Path, network: str, rival: str) -> float:
    """Voxels with the same label as nnU-Net's; segments are numbered alike."""
    (mask,) = case_folder(work, network, rival).glob("*/segmentation.nii.gz")
    ours = np.asarray(nib.load(mask).dataobj)
    theirs = np.asarray(nib.load(work / network / "nnunet.nii.gz").dataobj)
    return float(np.mean(ours == theirs))


def stages(work: Path, network: str, rival: str) -> str:
    """Where the seconds of the last run went, imports and start left out."""
    path = case_folder(work, network, rival) / "case.json"
    seconds = json.loads(path.read_text(encoding="utf-8"))["timings_s"]
    return ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items() if name != "total")


def runs_of(measured: Measured, network: str, rival: str) -> list[Run]:
    """Every round that is known."""
    return [
        run for name, run in measured.runs.items() if name.startswith(f"{network}, {rival}, round")
    ]


def middle(runs: list[Run]) -> tuple[float, int]:
    """Median seconds and peak."""
    return median(run.seconds for run in runs), int(median(run.peak_bytes for run in runs))


def text(runs: list[Run]) -> str:
    """Median, spread where there is one, peak."""
    seconds, peak_bytes = middle(runs)
    each = [run.seconds for run in runs]
    spread = f" ({min(each):.1f} to {max(each):.1f})" if len(runs) > 1 else ""
    return f"{seconds:.1f} s{spread}, {peak_bytes / 2**30:.2f} GiB"


def rows_of(work: Path, measured: Measured) -> list[Row]:
    """Rows for what is known so far."""
    rows = []
    for network in BACKBONES:
        theirs = runs_of(measured, network, "nnU-Net")
        if theirs:
            rows.append(Row(f"{network}, nnU-Net: NIfTI to masks", text(theirs)))
        for rival in OURS:
            ours = runs_of(measured, network, rival)
            if not ours:
                continue
            made = "masks" if rival == EXACT else "masks, diagnoses, maps, previews"
            rows.append(Row(f"{network}, medmtl, {rival}: DICOM to {made}", text(ours)))
            rows.append(Row(f"{network}, {rival}: of that", stages(work, network, rival)))
            if theirs:
                rows += _compared(work, network, rival, theirs=theirs, ours=ours)
    return rows


def _compared(
    work: Path, network: str, rival: str, *, theirs: list[Run], ours: list[Run]
) -> list[Row]:
    (their_s, their_bytes), (our_s, our_bytes) = middle(theirs), middle(ours)
    ratio, share = their_s / our_s, our_bytes / their_bytes
    least = TIMES_AS_FAST[network][rival]
    equal = equal_share(work, network, rival)
    wanted, why = (f">= {EQUAL_LABELS}", "") if rival == EXACT else ("", " (other steps)")
    return [
        Row(f"{network}: times as fast, {rival}", f"{ratio:.1f}", f">= {least:g}", ratio >= least),
        Row(f"{network}: share of the memory, {rival}", f"{share:.2f}", "<= 1/3",
            share <= SHARE_OF_MEMORY),
        Row(f"{network}: voxels equal, {rival}{why}", f"{equal:.6f}", wanted,
            equal >= EQUAL_LABELS if wanted else None),
    ]  # fmt: skip


def measure(work: Path, arguments: argparse.Namespace) -> list[Row]:
    """Run what is not known yet until the time is over."""
    began_s = time.monotonic()
    trained = prepare(work, is_quick=arguments.quick)
    measured = Measured.at(work / "measured.json")
    rivals = {network: _rivals(trained[network]) for network in BACKBONES}
    for number in range(1, (1 if arguments.quick else ROUNDS) + 1):
        for network in BACKBONES:
            for rival in rivals[network]:
                name = f"{network}, {rival}, round {number}"
                left_s = arguments.minutes * 60 - (time.monotonic() - began_s)
                run = command(work, network, rival, trained[network])
                if not measured.run(name, run, limit_s=left_s):
                    print(f"out of time before {name}; start again to go on")
                    return rows_of(work, measured)
    return rows_of(work, measured)


def _rivals(trained: Path) -> list[str]:
    """Without int8 where there is no proof that its answers are the same."""
    report = verify_quantised(load_bundle(trained / "bundle"), cache=converted_cache())
    if report is not None and not report.problems():
        return [*reversed(OURS), "nnU-Net"]
    print(f"{trained.name}: no int8, {report.problems() if report else 'not quantised'}")
    return ["openvino", EXACT, "nnU-Net"]


def main() -> None:
    """Small inputs are measured aside, and nothing of them is kept."""
    arguments = options(__doc__ or "")
    if not (PEERS / "nnunet").exists():
        raise SystemExit("no nnU-Net: python -m benchmarks.peers")
    work = WORK / ("end_to_end_quick" if arguments.quick else "end_to_end_torso")
    if arguments.fresh or arguments.quick:
        (work / "measured.json").unlink(missing_ok=True)
    finish("end_to_end", measure(work, arguments), arguments)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"exit status {error.returncode} of {error.cmd[:4]}") from error
