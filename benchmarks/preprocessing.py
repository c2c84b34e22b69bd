"""A 512x512x300 CT in memory to a network grid of 1.5 mm: medmtl and four others.

Each in a process of its own, in turns; the seconds are those of the work alone, the memory is the
peak of the whole process, libraries and image included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.alternate import Seconds
from benchmarks.memory import FIELD_OF_VIEW_MM, QUICK_SHAPE, SHAPE, body_hu
from benchmarks.peak import run_and_watch
from benchmarks.peers.__main__ import PEERS
from benchmarks.record import ROOT, Row, finish, options

ROUNDS, QUICK_ROUNDS = 3, 1
TO_MM, WINDOW_HU = 1.5, (-200.0, 250.0)
HERE = [sys.executable, "-m", "benchmarks.preprocess_once"]


def peer(name: str, script: str) -> list[str]:
    return [
        str(PEERS / name / "bin" / "python"), str(ROOT / "benchmarks" / "peers" / script),
    ]  # fmt: skip


COMMANDS = {
    "medmtl, linear": [*HERE, "medmtl"],
    "SimpleITK, linear": [*HERE, "SimpleITK"],
    "MONAI, linear": [*HERE, "MONAI"],
    "TotalSegmentator, cubic": peer("totalsegmentator", "totalsegmentator_resample.py"),
    "nnU-Net, cubic": peer("nnunet", "nnunet_preprocess.py"),
}


def write_case(folder: Path, shape: tuple[int, int, int]) -> None:
    """The image as an array, and what is to be done with it."""
    planes = [body_hu(shape, k).T for k in range(shape[2])]
    np.save(folder / "image.npy", np.stack(planes, axis=2))
    spacing = [size / n for size, n in zip(FIELD_OF_VIEW_MM, shape, strict=True)]
    case = {"spacing_mm": spacing, "to_mm": TO_MM, "window_hu": WINDOW_HU}
    (folder / "case.json").write_text(json.dumps(case), encoding="utf-8")


def once(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds of the work, and the peak of the process in GiB."""
    said = folder / "seconds"
    places = [str(folder / name) for name in ("image.npy", "case.json", "out.npy")]
    with said.open("w") as sink:
        peak_bytes, _ = run_and_watch([*command, *places], stdout=sink)
    return float(said.read_text().split()[-1]), peak_bytes / 2**30


def main() -> None:
    """Rivals whose environment is not there are left out."""
    arguments = options(__doc__ or "")
    shape = QUICK_SHAPE if arguments.quick else SHAPE
    rivals = {name: command for name, command in COMMANDS.items() if Path(command[0]).exists()}
    for name in COMMANDS.keys() - rivals.keys():
        print(f"no environment for {name}: python -m benchmarks.peers")
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in rivals}
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        write_case(folder, shape)
        for _ in range(QUICK_ROUNDS if arguments.quick else ROUNDS):
            for name, command in rivals.items():
                taken[name].append(once(command, folder))
    size = "x".join(map(str, shape))
    rows = []
    for name, runs in taken.items():
        seconds, peak_gib = Seconds(tuple(s for s, _ in runs)), max(gib for _, gib in runs)
        rows.append(Row(f"{name}: {size} CT to {TO_MM} mm", f"{seconds}, {peak_gib:.2f} GiB"))
    finish("preprocessing", rows, arguments)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"exit status {error.returncode} of {error.cmd[:4]}") from error
