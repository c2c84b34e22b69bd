"""Twenty studies in one batch against the network alone: how much of the rest is hidden behind it.

The next study is read and prepared, and the one before restored and written, while the network
works. The network's own time is taken from studies that run alone, stage after stage, since in the
batch the other stages take processor time from it.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.alternate import Seconds
from benchmarks.memory import write_ct
from benchmarks.random_bundle import QUICK_SPACING_MM, SPACING_MM, write_random
from benchmarks.record import Row, finish, options
from medmtl.data.intake import open_input
from medmtl.inference.batch import BatchOptions, run_batch
from medmtl.inference.predictor import load_predictor
from medmtl.inference.write_case import DEFAULT_FORMATS, write_case

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medmtl.core.study import Listing
    from medmtl.inference.batch import Analyser

STUDIES, ALONE, SHAPE = 20, 5, (256, 256, 100)
QUICK_STUDIES, QUICK_ALONE, QUICK_SHAPE = 3, 2, (96, 96, 40)
NETWORK = "SegResNet of 16 filters"
LIMIT = 1.15


def one_by_one(
    listing: Listing, analyser: Analyser, folder: Path, count: int
) -> list[Mapping[str, float]]:
    """Seconds per stage of studies that have the machine for themselves."""
    seconds: list[Mapping[str, float]] = []
    for study in listing.studies[:count]:
        start_s = time.perf_counter()
        volumes = [ref.read() for ref in analyser.select(study)]
        read_s = time.perf_counter() - start_s
        prediction = analyser.analyse(study, volumes)
        stages = write_case(
            folder / study.case_id, study, prediction, formats=DEFAULT_FORMATS, resume={},
            read_s=read_s,
        )  # fmt: skip
        seconds.append(stages)
    return seconds


def in_a_batch(listing: Listing, analyser: Analyser, source: Path, out: Path) -> tuple[float, int]:
    """Wall seconds, and the largest resident memory that was seen after a case."""
    process, peak_bytes = psutil.Process(), 0
    start_s = time.perf_counter()
    outcomes = run_batch(
        listing, analyser, out=out, input_path=source, options=BatchOptions(restart=True)
    )
    for outcome in outcomes:
        if outcome.status != "done":
            raise SystemExit("a case failed")
        peak_bytes = max(peak_bytes, process.memory_info().rss)
    return time.perf_counter() - start_s, peak_bytes


def main() -> None:
    """The stages alone first, then the batch."""
    arguments = options(__doc__ or "")
    quick = arguments.quick
    count, alone = (QUICK_STUDIES, QUICK_ALONE) if quick else (STUDIES, ALONE)
    shape = QUICK_SHAPE if quick else SHAPE
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        for number in range(count):
            write_ct(folder / "in" / f"{number:02d}", shape, name=f"pipeline {number}")
        spacing_mm = QUICK_SPACING_MM if quick else SPACING_MM
        write_random(folder / "bundle", NETWORK, spacing_mm=spacing_mm)
        analyser = load_predictor(folder / "bundle", backend="auto")
        listing = open_input(folder / "in")
        (folder / "alone").mkdir()
        one_by_one(listing, analyser, folder / "alone", 1)  # what is slow at its first use
        (folder / "again").mkdir()
        stages = one_by_one(listing, analyser, folder / "again", alone)
        wall_s, peak_bytes = in_a_batch(listing, analyser, folder / "in", folder / "out")
    network = Seconds(tuple(one["network"] for one in stages))
    total = Seconds(tuple(one["total"] for one in stages))
    ratio = wall_s / (count * network.median)
    size = "x".join(map(str, shape))
    rows = [
        Row(f"network alone, one {size} CT", str(network)),
        Row("all stages, one after the other", str(total)),
        *(
            Row(f"of these: {stage}", str(Seconds(tuple(one[stage] for one in stages))))
            for stage in ("read", "preprocess", "postprocess", "write")
        ),
        Row(f"batch of {count}", f"{wall_s:.1f} s, {peak_bytes / 2**30:.2f} GiB"),
        Row("batch over the sum of the network's times", f"{ratio:.2f}", f"<= {LIMIT:g}",
            ratio <= LIMIT),
        Row("without overlap it would be", f"{total.median / network.median:.2f}"),
    ]  # fmt: skip
    finish("pipeline", rows, arguments)


if __name__ == "__main__":
    main()
