"""Many studies in one batch against the network alone: how much the rest adds to it.

As in `medmtl predict`, two studies at a time go through all stages, each on half of the cores,
while the next one is read and prepared. The network's own time is taken from studies that run
alone, stage after stage, on all cores. A network on a CPU leaves no core idle, so what the other
stages cost in processor time is added, however they overlap.

Small studies go through the shipped CT model and a larger network with random weights, studies of
512x512x300 voxels through the two networks of `benchmarks.trained_bundle`. Large ones are the torso
of `benchmarks.torso_ct` under other identifiers; networks that are not trained yet are trained
first, within the time given.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pydicom
import torch
from pydicom.uid import generate_uid

from benchmarks.alternate import Seconds
from benchmarks.memory import write_ct
from benchmarks.random_bundle import BACKBONES, MODEL, QUICK_SPACING_MM, write_random
from benchmarks.record import WORK, Row, finish, options
from benchmarks.torso_ct import write_torso_ct
from benchmarks.trained_bundle import make
from medmtl.data.intake import open_input
from medmtl.inference.batch import BatchOptions, run_batch
from medmtl.inference.bundle import find_bundle
from medmtl.inference.cores import networks_at_once
from medmtl.inference.predictor import load_predictor
from medmtl.inference.write_case import DEFAULT_FORMATS, write_case
from pipelines.model_source import converted_cache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medmtl.core.study import Listing
    from medmtl.inference.batch import Analyser

SMALL, LARGE, QUICK = (256, 256, 100), (512, 512, 300), (96, 96, 40)
QUICK_STUDIES, QUICK_ALONE = 3, 2
LIMIT = 1.15
SEGRESNET, FIVE_LEVELS = BACKBONES


@dataclass(frozen=True)
class Setting:
    """One batch.

    Attributes:
        network: MODEL as it is shipped, or one of BACKBONES: with random weights on a grid of 3 mm
            for small studies, trained on the grid of `end_to_end` for large ones.
        backend: That runs it.
        is_large: The size of the studies.
        studies: In the batch.
        alone: Studies for the time of each stage.
        minutes: What it takes at most.
    """

    network: str
    backend: str
    is_large: bool
    studies: int
    alone: int
    minutes: float


SETTINGS = (
    Setting(MODEL, "openvino", is_large=False, studies=20, alone=5, minutes=1),
    Setting(SEGRESNET, "openvino", is_large=False, studies=20, alone=5, minutes=1.5),
    Setting(SEGRESNET, "torch", is_large=False, studies=20, alone=3, minutes=1.5),
    Setting(SEGRESNET, "openvino", is_large=True, studies=20, alone=2, minutes=5),
    Setting(FIVE_LEVELS, "openvino", is_large=True, studies=20, alone=2, minutes=9),
)


def one_by_one(
    listing: Listing, analyser: Analyser, folder: Path, count: int
) -> list[Mapping[str, float]]:
    """Seconds per stage of studies that have the machine for themselves."""
    folder.mkdir()
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
    options = BatchOptions(restart=True, networks=networks_at_once(torch.device("cpu")))
    start_s = time.perf_counter()
    outcomes = run_batch(listing, analyser, out=out, input_path=source, options=options)
    for outcome in outcomes:
        if outcome.status != "done":
            raise SystemExit("a case failed")
        peak_bytes = max(peak_bytes, process.memory_info().rss)
    return time.perf_counter() - start_s, peak_bytes


def write_studies(folder: Path, setting: Setting, *, is_quick: bool) -> None:
    """As many as the batch has, each in a folder of its own."""
    for number in range(QUICK_STUDIES if is_quick else setting.studies):
        place = folder / f"{number:02d}"
        if setting.is_large:
            _copy_torso(place)
        else:
            write_ct(place, QUICK if is_quick else SMALL, name=f"pipeline {number}")


def _copy_torso(folder: Path) -> None:
    """The torso of `end_to_end` as another study."""
    source = WORK / "end_to_end_torso" / "ct"
    if not source.exists():
        write_torso_ct(source)
    folder.mkdir(parents=True)
    study, series = generate_uid(), generate_uid()
    for path in sorted(source.iterdir()):
        image = pydicom.dcmread(path)
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.save_as(folder / path.name)


def bundle_of(setting: Setting, aside: Path, *, is_quick: bool, until_s: float) -> Path:
    """The folder of the model; TimeoutError if it is still to be trained and the time ended."""
    if setting.network == MODEL:
        return find_bundle(MODEL)
    if setting.is_large:
        return make(setting.network, until_s=until_s) / "bundle"
    spacing = {"spacing_mm": QUICK_SPACING_MM} if is_quick else {}
    write_random(aside / "bundle", setting.network, **spacing)
    return aside / "bundle"


def measure(setting: Setting, *, is_quick: bool, until_s: float) -> list[Row]:
    """The stages alone first, then the batch."""
    with tempfile.TemporaryDirectory() as name:
        aside = Path(name)
        write_studies(aside / "in", setting, is_quick=is_quick)
        bundle = bundle_of(setting, aside, is_quick=is_quick, until_s=until_s)
        analyser = load_predictor(bundle, backend=setting.backend, cache=converted_cache())
        listing = open_input(aside / "in")
        one_by_one(listing, analyser, aside / "alone", 1)  # what is slow at its first use
        alone = QUICK_ALONE if is_quick else setting.alone
        stages = one_by_one(listing, analyser, aside / "again", alone)
        wall_s, peak_bytes = in_a_batch(listing, analyser, aside / "in", aside / "out")
        return _rows(setting, stages, len(listing.studies), wall_s, peak_bytes, is_quick=is_quick)


def _rows(
    setting: Setting,
    stages: list[Mapping[str, float]],
    count: int,
    wall_s: float,
    peak_bytes: int,
    *,
    is_quick: bool,
) -> list[Row]:
    each = {
        name: Seconds(tuple(one[name] for one in stages))
        for name in ("network", "total", "read", "preprocess", "postprocess", "write")
    }
    network, total = each["network"], each["total"]
    ratio = wall_s / (count * network.median)
    size = "x".join(map(str, QUICK if is_quick else LARGE if setting.is_large else SMALL))
    what = f"{setting.network}, {setting.backend}, {size}"
    rest = (f"{name} {each[name].median:.2f} s" for name in list(each)[2:])
    return [
        Row(f"{what}: network alone", str(network)),
        Row(f"{what}: all stages, one after the other", str(total)),
        Row(f"{what}: of these", ", ".join(rest)),
        Row(f"{what}: batch of {count}", f"{wall_s:.1f} s, {peak_bytes / 2**30:.2f} GiB"),
        Row(f"{what}: batch over the sum of the network's times", f"{ratio:.2f}", f"<= {LIMIT:g}",
            ratio <= LIMIT),
        Row(f"{what}: without overlap it would be", f"{total.median / network.median:.2f}"),
    ]  # fmt: skip


def main() -> None:
    """One batch after the other, until the time is over; the large ones are never quick."""
    arguments = options(__doc__ or "")
    end_s = time.monotonic() + arguments.minutes * 60
    rows: list[Row] = []
    for setting in SETTINGS:
        if setting.is_large and arguments.quick:
            continue
        until_s = end_s - setting.minutes * 60
        if time.monotonic() > until_s and not arguments.quick:
            print(f"no time for {setting}")
            continue
        try:
            rows += measure(setting, is_quick=arguments.quick, until_s=until_s)
        except TimeoutError:
            print(f"not trained in time: {setting}")
    finish("pipeline", rows, arguments)


if __name__ == "__main__":
    main()
