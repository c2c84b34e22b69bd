"""What one study costs in a batch, full size: processor time, wall time, memory and storage.

One model and backend `auto`, all default results. Processor time is that of the process and its
children, so it holds also where others share the machine; `python -m benchmarks report` makes
`docs/scale.md` of it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from benchmarks.memory import QUICK_SHAPE, SHAPE, write_ct
from benchmarks.peak import run_and_watch
from benchmarks.random_bundle import QUICK_SPACING_MM, SPACING_MM, write_random
from benchmarks.record import Row, finish, options

if TYPE_CHECKING:
    from collections.abc import Sequence

FEW, MORE = 1, 3
"""The difference of two batches is free of start and model loading."""
NETWORK = "SegResNet of 16 filters"
MIB = 2**20


def batch(folder: Path, model: str, out: str, studies: Sequence[str]) -> tuple[float, float, int]:
    """Wall and processor seconds, and peak bytes, of one command over some studies."""
    source = folder / f"in-{out}"
    source.mkdir()
    for name in studies:
        (source / name).symlink_to(folder / "studies" / name)
    command = [
        sys.executable, "-m", "benchmarks.study_cost_once", str(source), str(folder / out), model,
    ]  # fmt: skip
    said = folder / f"{out}.json"
    with said.open("w") as sink:
        peak_bytes, _ = run_and_watch(command, stdout=sink)
    seconds = json.loads(said.read_text(encoding="utf-8").splitlines()[-1])
    return seconds["wall_s"], seconds["processor_s"], peak_bytes


def size_mib(folder: Path) -> float:
    """Of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MIB


def main() -> None:
    """The shipped CT model, and a network of the usual size on a grid of 3 mm."""
    arguments = options(__doc__ or "")
    shape = QUICK_SHAPE if arguments.quick else SHAPE
    size = "x".join(map(str, shape))
    rows = []
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        names = [f"{number:02d}" for number in range(MORE)]
        for name in names:
            write_ct(folder / "studies" / name, shape, name=f"cost {name}")
        spacing_mm = QUICK_SPACING_MM if arguments.quick else SPACING_MM
        write_random(folder / "bundle", NETWORK, spacing_mm=spacing_mm)
        models = {
            "torso-ct-phantom": "torso-ct-phantom",
            f"{NETWORK}, {spacing_mm:g} mm": str(folder / "bundle"),
        }
        for number, (what, model) in enumerate(models.items()):
            few = batch(folder, model, f"few-{number}", names[:FEW])
            more = batch(folder, model, f"more-{number}", names)
            wall_s, processor_s = (np.array(more[:2]) - np.array(few[:2])) / (MORE - FEW)
            out_mib = size_mib(folder / f"more-{number}") / MORE
            rows += [
                Row(f"{what}: processor time per study", f"{processor_s:.1f} s"),
                Row(f"{what}: wall time per study, {psutil.cpu_count()} cores", f"{wall_s:.1f} s"),
                Row(f"{what}: peak memory", f"{more[2] / 2**30:.2f} GiB"),
                Row(f"{what}: results per study", f"{out_mib:.2f} MiB"),
            ]
        input_mib = size_mib(folder / "studies") / MORE
        rows.append(Row(f"input per study, {size}, uncompressed", f"{input_mib:.0f} MiB"))
    finish("study_cost", rows, arguments)


if __name__ == "__main__":
    main()
