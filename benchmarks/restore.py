"""Labels on the source grid from logits of 10 and 60 classes: medmtl against nnU-Net's export.

Both load the same logits from a file; the seconds are those of the export alone, the memory is the
peak of the process, logits included. nnU-Net runs once, medmtl three times (the median is said).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.alternate import Seconds
from benchmarks.peak import run_and_watch
from benchmarks.peers.__main__ import PEERS
from benchmarks.record import ROOT, Row, finish, options

TIMES_AS_FAST, SHARE_EQUAL = 30.0, 0.99999
NETWORK_MM = 1.5
CASES = ((10, (300, 512, 512)), (60, (150, 256, 256)))
"""Classes and source grid (k, j, i). nnU-Net needs 19 GB for the results of 60 classes on the
larger grid, which this machine does not have."""
ROUNDS = 3
QUICK_CASES = ((4, (30, 64, 64)),)
SOURCE_MM = (1.0, 0.78125, 0.78125)


@dataclass(frozen=True)
class Export:
    """One export: its seconds, the peak of its process, and the labels."""

    seconds: float
    peak_gib: float
    labels: np.ndarray


def write_case(folder: Path, classes: int, shape_kji: tuple[int, int, int], scale: float) -> None:
    """Logits of balls in a background, as a network gives organs, on a grid of about 1.5 mm."""
    spacing = [mm * scale for mm in SOURCE_MM]
    extent = [size * mm for size, mm in zip(shape_kji, spacing, strict=True)]
    network = [round(mm / NETWORK_MM) for mm in extent]
    rng = np.random.default_rng(0)
    axes = [(np.arange(n, dtype=np.float32) + 0.5) / n for n in network]
    logits = np.empty((classes, *network), np.float32)
    logits[0] = -((0.5 / classes ** (1 / 3)) ** 2)
    for one in logits[1:]:
        k, j, i = (
            ((axis - centre) ** 2).astype(np.float32)
            for axis, centre in zip(axes, rng.uniform(0.1, 0.9, 3), strict=True)
        )
        one[...] = -(k[:, None, None] + j[None, :, None] + i[None, None, :])
    logits *= 400
    np.save(folder / "logits.npy", logits)
    case = {
        "source_shape_kji": shape_kji,
        "source_spacing_kji": spacing,
        "network_spacing_kji": [mm / n for mm, n in zip(extent, network, strict=True)],
    }
    (folder / "case.json").write_text(json.dumps(case), encoding="utf-8")


def export(python: Path, script: list[str], folder: Path) -> Export:
    """Run one export in a process of its own."""
    out, said = folder / "labels.npy", folder / "seconds"
    command = [str(python), *script, *(str(folder / n) for n in ("logits.npy", "case.json"))]
    with said.open("w") as sink:
        peak_bytes, _ = run_and_watch([*command, str(out)], stdout=sink)
    seconds = float(said.read_text().split()[-1])
    labels = np.load(out)
    out.unlink()
    return Export(seconds, peak_bytes / 2**30, labels)


def compare(classes: int, shape_kji: tuple[int, int, int], nnunet: Path) -> list[Row]:
    """Rows for one number of classes."""
    size = "x".join(map(str, shape_kji[::-1]))
    what = f"label map of {size} from {classes} classes"
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        write_case(folder, classes, shape_kji, 512 / shape_kji[1])
        again = [
            export(Path(sys.executable), ["-m", "benchmarks.restore_once"], folder)
            for _ in range(ROUNDS)
        ]
        ours = sorted(again, key=lambda one: one.seconds)[ROUNDS // 2]
        spread = Seconds(tuple(one.seconds for one in again))
        rows = [Row(f"medmtl: {what}", f"{spread}, {ours.peak_gib:.2f} GiB")]
        if not nnunet.exists():
            print(f"no nnU-Net at {nnunet}: python -m benchmarks.peers")
            return rows
        script = str(ROOT / "benchmarks" / "peers" / "nnunet_restore.py")
        theirs = export(nnunet, [script], folder)
    ratio = theirs.seconds / ours.seconds
    equal = float(np.mean(ours.labels == theirs.labels))
    return [
        Row(f"nnU-Net's export: {what}", f"{theirs.seconds:.1f} s, {theirs.peak_gib:.2f} GiB"),
        *rows,
        Row(f"times as fast, {classes} classes", f"{ratio:.0f}", f">= {TIMES_AS_FAST:g}",
            ratio >= TIMES_AS_FAST),
        Row(f"voxels equal, {classes} classes", f"{equal:.7f}", f">= {SHARE_EQUAL:g}",
            equal >= SHARE_EQUAL),
    ]  # fmt: skip


def main() -> None:
    """Nothing but the exports: the logits are made, not predicted."""
    arguments = options(__doc__ or "")
    rows: list[Row] = []
    for classes, shape in QUICK_CASES if arguments.quick else CASES:
        rows += compare(classes, shape, PEERS / "nnunet" / "bin" / "python")
    finish("restore", rows, arguments)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"exit status {error.returncode} of {error.cmd[:4]}") from error
