"""How long a training step waits for its data, once the cache is warm.

The network, the grid and the augmentation of `cardiac-mr`, one study per step,
one worker process. On the real ACDC where it is at hand, else on generated stacks of its size.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.record import ROOT, Row, finish, options
from medmtl.data.dataset import DataSource, StudyDataset
from medmtl.data.loader import StudyLoader
from medmtl.data.manifest import read_manifest
from medmtl.data.sampling import SamplingConfig, TaskSampler
from medmtl.losses.diagnosis import known_binary_cross_entropy
from medmtl.losses.partial import marginal_dice_cross_entropy
from medmtl.networks.joint import JointNet
from medmtl.training.augmentation import PlanarMR, build_augmentation
from pipelines.recipes.cardiac_settings import FINDINGS, NETWORK, PREPROCESSING, SEGMENTS
from tests.data_factory import make_source

if TYPE_CHECKING:
    from medmtl.data.samples import Batch

CASES, QUICK_CASES = 20, 2
STEPS, QUICK_STEPS = 20, 2
WARM_UP = 2
LARGEST_SHARE = 0.10
STACK_SHAPE, STACK_MM = (216, 256, 10), (1.56, 1.56, 10.0)


@dataclass(frozen=True)
class Timing:
    """Seconds per study of the cold and the warm pass and of making a batch, and per step."""

    cold_s: float
    warm_s: float
    batch_s: float
    step_s: float
    wait_s: float


def acdc_source(cases: int) -> DataSource | None:
    """Training patients of ACDC, or None where it is not at hand."""
    shared = ROOT.parent / "shared" / "data"
    if not (shared / "acdc" / "training").is_dir():
        return None
    manifest = read_manifest(ROOT / "data_manifests" / "acdc")
    return DataSource(manifest, shared / "acdc", manifest.in_split("train")[:cases])


def made_source(folder: Path, cases: int) -> DataSource:
    """Stacks of the size of ACDC's with the same names."""
    truth: dict[str, bool | None] = dict.fromkeys(FINDINGS, False)
    return make_source(
        folder,
        name="made",
        labels={name: label for label, name in enumerate(SEGMENTS, 1)},
        findings=FINDINGS,
        truths=[truth] * cases,
        volumes=NETWORK.volumes,
        shape=STACK_SHAPE,
        spacing_mm=STACK_MM,
    )


def pass_over(dataset: StudyDataset) -> float:
    """Seconds per study."""
    began = time.perf_counter()
    for index in range(len(dataset)):
        dataset[index]
    return (time.perf_counter() - began) / len(dataset)


def train_step(net: JointNet, optimiser: torch.optim.Optimizer, batch: Batch) -> None:
    """One step of the joint stage."""
    with torch.autocast("cpu", torch.bfloat16):
        output = net(batch.images, spacing_mm=batch.spacing_mm, covariates=batch.covariates)
    masks = [
        marginal_dice_cross_entropy(logits, labels, batch.is_annotated[:, volume])
        for volume, (logits, labels) in enumerate(
            zip(output.segmentation_logits, batch.labels, strict=True)
        )
    ]
    losses = [loss for loss in masks if loss is not None]
    if output.finding_logits is not None:
        losses.append(known_binary_cross_entropy(output.finding_logits, batch.findings))
    optimiser.zero_grad()
    torch.autograd.backward(torch.stack(losses).sum())
    optimiser.step()


def measure(source: DataSource, cache: Path, *, steps: int) -> Timing:
    dataset = StudyDataset([source], network=NETWORK, preprocessing=PREPROCESSING, cache_dir=cache)
    cold_s, warm_s = pass_over(dataset), pass_over(dataset)
    net = JointNet(NETWORK)
    optimiser = torch.optim.AdamW(net.parameters())
    sampler = TaskSampler(dataset.table, SamplingConfig(), batch_size=1, seed=0)
    alone, loader = (
        StudyLoader(
            dataset, sampler, divisor=net.divisor, seed=0,
            augment=build_augmentation(PlanarMR()), workers=workers,
        )
        for workers in (0, 1)
    )  # fmt: skip
    batches = len(list(alone.batches(0, steps)))
    began, waited_s = 0.0, 0.0
    for step, batch in enumerate(loader.batches(0, WARM_UP + steps)):
        if step == WARM_UP:
            # The worker starts and the first step allocates once per run, not per step.
            began, waited_s = time.perf_counter(), loader.times.wait_s
        train_step(net, optimiser, batch)
    elapsed_s, wait_s = time.perf_counter() - began, loader.times.wait_s - waited_s
    return Timing(cold_s, warm_s, alone.times.wait_s / batches, elapsed_s / steps, wait_s / steps)


def main() -> None:
    arguments = options(__doc__ or "")
    cases, steps = (QUICK_CASES, QUICK_STEPS) if arguments.quick else (CASES, STEPS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = None if arguments.quick else acdc_source(cases)
        source = found or made_source(folder / "data", cases)
        timing = measure(source, folder / "cache", steps=steps)
    share = timing.wait_s / timing.step_s
    what = "ACDC" if found else "generated stacks"
    rows = [
        Row(f"{what}: a study read and prepared", f"{timing.cold_s:.3f} s"),
        Row(f"{what}: the same study from the cache", f"{timing.warm_s:.3f} s"),
        Row("a batch of one study from the cache, augmented", f"{timing.batch_s:.3f} s"),
        Row("training step of `cardiac-mr`, one study", f"{timing.step_s:.2f} s"),
        Row(
            "share of the step that waits for data, cache warm, one worker",
            f"{100 * share:.1f} %",
            f"< {100 * LARGEST_SHARE:.0f} %",
            share < LARGEST_SHARE,
        ),
    ]
    finish("data_loading", rows, arguments)


if __name__ == "__main__":
    main()
