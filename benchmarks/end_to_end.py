"""A 512x512x300 CT to masks on its own grid: `medmtl predict` against nnU-Net's predictor.

A torso with air around it, on a network grid of 256x256x160 voxels, ten classes, and two networks
that were trained on such torsos (`benchmarks.trained_bundle`), with the same weights in both.

- nnU-Net: from a NIfTI file made before to a label map; 128-cube tiles, step 0.5, no mirroring.
- torch, equal tiles: medmtl with nnU-Net's own interpolation, tiles and weights; masks only.
- openvino, int8: medmtl's own steps, from the DICOM series to masks, diagnoses, activation maps and
  previews.

int8 only where its parity report holds.

Whole processes are timed, imports included; converted networks are kept before, as for any user,
and medmtl is compiled to byte code, as pip does with whatever it installs, nnU-Net too.
Rivals take turns, for as many rounds as the time allows. Each run is kept when it ends
(`~/.cache/medmtl-benchmarks`): a start that was stopped goes on where it was; `--fresh` measures
all of them anew, `--minutes` ends in time. `--only` measures one network and `--way` one way, with
other rows left as they are; `--steps` has the network learn for less, where its memory alone is
asked for.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import warnings
from compileall import compile_dir
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, cast

import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measured import Measured, Run
from benchmarks.peers.__main__ import PEERS
from benchmarks.random_bundle import BACKBONES
from benchmarks.record import ROOT, WORK, Row, finish, former_rows, in_place, parser_of
from benchmarks.torso_ct import write_torso_ct
from benchmarks.trained_bundle import PATCH_OF_NNUNET, SEEDS, TRAINED, make, quantise
from medmtl.core.errors import ConfigError
from medmtl.data.intake import open_input
from medmtl.inference.backend import give_engine, verify_quantised
from medmtl.inference.bundle import load_bundle
from medmtl.report.nifti import write_image
from pipelines.model_source import converted_cache

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from medmtl.inference.bundle import Bundle
    from medmtl.networks.joint import JointNet
    from medmtl.transforms.settings import PreprocessingConfig, WindowHU

FULL = {"SegResNet of 16 filters": 6.0, "five-level nnU-Net network": 3.5}
INT8 = {"SegResNet of 16 filters": 10.0, "five-level nnU-Net network": 6.0}
EXACT = {"SegResNet of 16 filters": 2.5, "five-level nnU-Net network": 1.8}
"""Times as fast as nnU-Net at least, in full precision, in int8, and on torch at equal tiles."""


@dataclass(frozen=True)
class Way:
    """One way to the masks.

    Attributes:
        bundle: Of a trained network: "bundle", or "as-nnunet", which gives masks only.
        options: Of `medmtl predict`.
        least: How many times as fast as nnU-Net it is to be, by network.
        is_nnunets: Whether it takes the steps of nnU-Net, so that labels are to be equal.
    """

    bundle: str
    options: tuple[str, ...]
    least: Mapping[str, float]
    is_nnunets: bool = False


OURS = {
    "torch, equal tiles": Way(
        "as-nnunet", ("--speed", "balanced", "--backend", "torch"), EXACT, is_nnunets=True
    ),
    "openvino": Way("bundle", ("--backend", "openvino"), FULL),
    "int8": Way("bundle", ("--backend", "int8"), INT8),
}
SHARE_OF_MEMORY = 1 / 3
EQUAL_LABELS = 0.9999
ROUNDS = 3
QUICK_STEPS = 2


class Masks(nn.Module):
    """The segmentation of a joint network."""

    def __init__(self, net: JointNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return self.net.encode_and_decode(image)[1]


def prepare(
    work: Path,
    bundles: Collection[str],
    *,
    networks: Collection[str],
    steps: int | None,
    is_quick: bool,
    until_s: float,
) -> dict[str, Path]:
    """The image, and the folder of each network, of which these bundles are quantised; once.

    Raises:
        TimeoutError: If the time ended while a network was trained.
    """
    for package in ("medmtl", "pipelines"):
        compile_dir(ROOT / package, quiet=1)
    if not (work / "image.nii.gz").exists():
        shutil.rmtree(work / "ct", ignore_errors=True)
        write_torso_ct(work / "ct", is_quick=is_quick)
        (study,) = open_input(work / "ct").studies
        write_image(work / "image.nii.gz", study.volumes[0].read())
    trained = {}
    for network in networks:
        if is_quick:
            folder = make(network, root=work / "trained", steps=QUICK_STEPS, seeds=SEEDS[:1])
        else:
            root = TRAINED if steps is None else work / "trained"
            folder = make(network, root=root, steps=steps, until_s=until_s)
            quantise(folder, bundles)
        write_case(work / folder.name, load_bundle(folder / "bundle"))
        trained[network] = folder
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


def command(work: Path, rival: str, way: Way | None, trained: Path) -> list[str]:
    """What is run and timed; nnU-Net is no way of ours."""
    folder = work / trained.name
    if way is None:
        python = PEERS / "nnunet" / "bin" / "python"
        script = ROOT / "benchmarks" / "peers" / "nnunet_predict.py"
        places = (folder / "network.pt", work / "image.nii.gz", folder / "case.json",
                  folder / "nnunet.nii.gz")  # fmt: skip
        return [str(python), str(script), *map(str, places)]
    return [
        sys.executable, "-m", "medmtl", "predict", str(work / "ct"), "-o", str(folder / rival),
        "--model", str(trained / way.bundle), "--device", "cpu", "--quiet", "--restart",
        *way.options,
    ]  # fmt: skip


def case_folder(folder: Path, rival: str) -> Path:
    """Of medmtl's answer."""
    (record,) = (folder / rival).glob("*/case.json")
    return record.parent


def equal_share(folder: Path, rival: str) -> float:
    """Voxels with the same label as nnU-Net's; segments are numbered alike."""
    (mask,) = case_folder(folder, rival).glob("*/segmentation.nii.gz")
    ours = np.asarray(nib.load(mask).dataobj)
    theirs = np.asarray(nib.load(folder / "nnunet.nii.gz").dataobj)
    return float(np.mean(ours == theirs))


def stages(folder: Path, rival: str) -> str:
    """Where the seconds of the last run went, imports and start left out."""
    path = case_folder(folder, rival) / "case.json"
    seconds = json.loads(path.read_text(encoding="utf-8"))["timings_s"]
    return ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items() if name != "total")


def runs_of(measured: Measured, trained: str, rival: str) -> list[Run]:
    """Every round that is known."""
    start = f"{trained}, {rival}, round"
    return [run for name, run in measured.runs.items() if name.startswith(start)]


def middle(runs: list[Run]) -> tuple[float, int]:
    """Median seconds and peak."""
    return median(run.seconds for run in runs), int(median(run.peak_bytes for run in runs))


def text(runs: list[Run]) -> str:
    """Median, spread where there is one, peak."""
    seconds, peak_bytes = middle(runs)
    each = [run.seconds for run in runs]
    spread = f" ({min(each):.1f} to {max(each):.1f})" if len(runs) > 1 else ""
    return f"{seconds:.1f} s{spread}, {peak_bytes / 2**30:.2f} GiB"


def rows_of(
    work: Path, measured: Measured, trained: Mapping[str, Path], ways: Mapping[str, Way]
) -> list[Row]:
    """Rows for what is known so far."""
    rows = []
    for network, made in trained.items():
        theirs = runs_of(measured, made.name, "nnU-Net")
        if theirs:
            rows.append(Row(f"{network}, nnU-Net: NIfTI to masks", text(theirs)))
        for rival, way in ways.items():
            ours, folder = runs_of(measured, made.name, rival), work / made.name
            if not ours:
                continue
            is_plain = way.bundle == "as-nnunet"
            given = "masks" if is_plain else "masks, diagnoses, maps, previews"
            rows.append(Row(f"{network}, medmtl, {rival}: DICOM to {given}", text(ours)))
            rows.append(Row(f"{network}, {rival}: of that", stages(folder, rival)))
            if theirs:
                rows += _compared(network, rival, way, folder, theirs=theirs, ours=ours)
    return rows


def _compared(
    network: str, rival: str, way: Way, folder: Path, *, theirs: list[Run], ours: list[Run]
) -> list[Row]:
    (their_s, their_bytes), (our_s, our_bytes) = middle(theirs), middle(ours)
    ratio, share = their_s / our_s, our_bytes / their_bytes
    least = way.least[network]
    equal = equal_share(folder, rival)
    wanted, why = (f">= {EQUAL_LABELS}", "") if way.is_nnunets else ("", " (other steps)")
    return [
        Row(f"{network}: times as fast, {rival}", f"{ratio:.1f}", f">= {least:g}", ratio >= least),
        Row(f"{network}: share of the memory, {rival}", f"{share:.2f}", "<= 1/3",
            share <= SHARE_OF_MEMORY),
        Row(f"{network}: voxels equal, {rival}{why}", f"{equal:.6f}", wanted,
            equal >= EQUAL_LABELS if way.is_nnunets else None),
    ]  # fmt: skip


def measure(work: Path, ways: Mapping[str, Way], arguments: argparse.Namespace) -> list[Row]:
    """Run what is not known yet until the time is over."""
    until_s = time.monotonic() + 60 * arguments.minutes
    bundles = {way.bundle for way in ways.values() if "int8" in way.options}
    networks = [arguments.only] if arguments.only else tuple(BACKBONES)
    trained = prepare(
        work,
        bundles,
        networks=networks,
        steps=arguments.steps,
        is_quick=arguments.quick,
        until_s=until_s,
    )
    measured = Measured.at(work / "measured.json")
    for number in range(1, (1 if arguments.quick else ROUNDS) + 1):
        for folder in trained.values():
            for rival, way in [*_proven(folder, ways).items(), ("nnU-Net", None)]:
                name = f"{folder.name}, {rival}, round {number}"
                run = command(work, rival, way, folder)
                if not measured.run(name, run, limit_s=until_s - time.monotonic()):
                    print(f"out of time before {name}; start again to go on")
                    return rows_of(work, measured, trained, ways)
    return rows_of(work, measured, trained, ways)


def _proven(trained: Path, ways: Mapping[str, Way]) -> dict[str, Way]:
    """Without int8 where there is no proof that its answers are the same."""
    found = {}
    for rival, way in reversed(list(ways.items())):
        problem = _unproven(trained / way.bundle) if "int8" in way.options else ""
        if problem:
            print(f"{trained.name}: no {rival}, {problem}")
        else:
            found[rival] = way
    return found


def _unproven(bundle: Path) -> str:
    try:
        report = verify_quantised(load_bundle(bundle), cache=converted_cache())
    except ConfigError as error:
        return str(error)
    return "" if report else "not quantised"


def run(name: str, description: str, ways: Mapping[str, Way]) -> None:
    """Measure and write; small inputs are measured aside, and nothing of them is kept.

    Raises:
        SystemExit: If a command failed, a target was missed or the time ended within a training.
    """
    parser = parser_of(description)
    parser.add_argument("--only", choices=tuple(BACKBONES), help="One network; the rest is kept.")
    parser.add_argument("--way", choices=tuple(ways), help="One way; the rest is kept.")
    parser.add_argument("--steps", type=int, help="Of learning, in place of the usual number.")
    arguments = parser.parse_args()
    if arguments.way:
        ways = {arguments.way: ways[arguments.way]}
    if not (PEERS / "nnunet").exists():
        raise SystemExit("no nnU-Net: python -m benchmarks.peers")
    size = "quick" if arguments.quick else "torso"
    taught = f"_{arguments.steps}" if arguments.steps else ""  # no figure of one is the other's
    work = WORK / f"end_to_end_{size}{taught}"
    if arguments.fresh or arguments.quick:
        (work / "measured.json").unlink(missing_ok=True)
    try:
        rows = measure(work, ways, arguments)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"exit status {error.returncode} of {error.cmd[:4]}") from error
    except TimeoutError as error:
        raise SystemExit(str(error)) from error
    if arguments.steps:
        rows.append(Row(f"{arguments.only or 'both'}: steps of learning", str(arguments.steps)))
    if arguments.only or arguments.way:
        rows = in_place(former_rows(name, out=arguments.out), rows)
    finish(name, rows, arguments)


if __name__ == "__main__":
    run("end_to_end", __doc__ or "", OURS)
