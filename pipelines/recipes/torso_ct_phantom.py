"""Train `torso-ct-phantom` on generated torso CT, calibrate it, test it and write its bundle.

    python -m pipelines.recipes.torso_ct_phantom -o runs/torso-ct-phantom

One SegResNetDS encoder at 4 mm serves the masks and six findings. Training, calibration and test
use different seeds of the generator. A killed run continues from its last checkpoint.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import typer
from torch import Tensor, nn

from medmtl.losses.diagnosis import known_binary_cross_entropy
from medmtl.losses.segmentation import dice_cross_entropy
from medmtl.networks.backbones import SegResNetDSConfig
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import COVARIATES, JointNet, NetworkConfig
from medmtl.phantom import generate_torso
from medmtl.phantom.torso_plan import TORSO_SCHEMA
from medmtl.training.loop import FitOptions, fit
from medmtl.transforms.preprocessing import Preprocessing, PreprocessingConfig, WindowHU

if TYPE_CHECKING:
    from collections.abc import Iterator

SPACING_MM = (4.0, 4.0, 4.0)
TRAIN_SEEDS = range(1000, 1120)
CALIBRATION_SEEDS = range(2000, 2040)
TEST_SEEDS = range(3000, 3060)
DIAGNOSIS_WEIGHT = 0.5

PREPROCESSING = PreprocessingConfig(
    orientation="LPS",
    spacing_mm=SPACING_MM,
    intensity=WindowHU(low_hu=-1000.0, high_hu=400.0),
    divisor=(8, 8, 8),
)
NETWORK = NetworkConfig(
    backbone=SegResNetDSConfig(init_filters=8, blocks_down=(1, 2, 2, 4)),
    volumes=("ct",),
    segments=TORSO_SCHEMA.segment_names,
    findings=TORSO_SCHEMA.finding_names,
    head=HeadConfig(levels=(-2, -1), measurements="torso", embedding=16, hidden=32),
)
STAGE = FitOptions(steps=700, peak_lr=4e-3, warmup_steps=50, ema_decay=0.99, save_every=50)


@dataclass(frozen=True, eq=False)
class Example:
    """One phantom on the network grid: image and labels (K, J, I), findings (F,), spacing (3,)."""

    image: Tensor
    labels: Tensor
    findings: Tensor
    spacing_mm: Tensor


def make_example(seed: int, folder: Path) -> Example:
    """Generate one phantom, or read it back from the cache."""
    path = folder / f"{seed}.pt"
    if path.exists():
        stored = torch.load(path, weights_only=True)
        return Example(*(stored[name] for name in ("image", "labels", "findings", "spacing_mm")))
    phantom = generate_torso(seed, spacing_mm=SPACING_MM)
    prepared = Preprocessing(PREPROCESSING).apply(phantom.volume)
    labels = Preprocessing(PREPROCESSING).apply_labels(phantom.label_map, prepared)
    example = Example(
        torch.from_numpy(prepared.array_kji.astype(np.float16)),
        torch.from_numpy(np.ascontiguousarray(labels)),
        torch.tensor([float(phantom.findings[name]) for name in TORSO_SCHEMA.finding_names]),
        torch.tensor(prepared.geometry.spacing_mm[::-1]),
    )
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(vars(example), path)
    return example


def batches(examples: list[Example], rng: np.random.Generator) -> Iterator[Example]:
    """Endless single studies in random order, with shifts, scaled contrast and noise."""
    for _ in itertools.count():
        for index in rng.permutation(len(examples)):
            example = examples[index]
            shift = [int(value) for value in rng.integers(-3, 4, size=3)]
            image = torch.roll(example.image.float(), shift, dims=(0, 1, 2))
            noise = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
            image = image * rng.uniform(0.92, 1.08) + rng.uniform(-0.05, 0.05)
            image = image + noise * float(rng.uniform(0, 0.04))
            labels = torch.roll(example.labels, shift, dims=(0, 1, 2))
            yield Example(image, labels.long(), example.findings, example.spacing_mm)


def unknown_covariates(batch: int) -> dict[str, Tensor]:
    """Covariates of studies that say nothing about the patient."""
    return {name: torch.full((batch,), torch.nan) for name in COVARIATES}


def joint_losses(model: nn.Module, example: Example) -> dict[str, Tensor]:
    """Segmentation and diagnosis loss of one study from one forward pass."""
    with torch.autocast("cpu", torch.bfloat16):
        output = model(
            [example.image[None, None]],
            spacing_mm=example.spacing_mm[None, None],
            covariates=unknown_covariates(1),
        )
    return {
        "segmentation": dice_cross_entropy(output.segmentation_logits[0], example.labels[None]),
        "diagnosis": DIAGNOSIS_WEIGHT
        * known_binary_cross_entropy(output.finding_logits, example.findings[None]),
    }


def fit_standardiser(net: JointNet, examples: list[Example]) -> None:
    """Standardise the head's measurements by those of the true masks."""
    if net.measure is None or net.head is None:
        raise ValueError("The recipe needs a head with measurements.")
    rows = []
    for example in examples:
        one_hot = nn.functional.one_hot(example.labels.long(), len(NETWORK.segments) + 1)
        masks = one_hot.movedim(-1, 0)[None].float()
        rows.append(net.measure([masks], example.spacing_mm[None, None], unknown_covariates(1)))
    net.head.facts.fit(torch.cat(rows))


def main(
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder.")],
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Train the torso model."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    examples = [make_example(seed, out / "cache") for seed in TRAIN_SEEDS]
    net = JointNet(NETWORK)
    fit_standardiser(net, examples)
    fit(net, batches(examples, np.random.default_rng(0)), joint_losses, STAGE,
        checkpoint=out / "joint.ckpt")  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
