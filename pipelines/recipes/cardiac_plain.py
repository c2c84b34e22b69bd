"""What a plain 2D U-Net reaches where `cardiac_mr_fold` is measured: the same patients, in and out.

    python -m pipelines.recipes.cardiac_plain --data-root ../shared/data/acdc -o runs/plain

MONAI's residual U-Net, three neighbouring slices in, Dice and cross entropy, AdamW with cosine,
averaged weights. It answers the patients of the fold in a square round the true heart, on the grid
it learned on: easier than the whole images that the figures of `cardiac-mr` are taken from. With
`--joint` the fold's own joint network answers the same squares, and the gain comes with its paired
interval. Writes `metrics.json`. A killed run continues from its last checkpoint.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import typer
from monai.networks.nets.unet import UNet

from medmtl.data.manifest import read_manifest
from medmtl.metrics.intervals import bootstrap
from medmtl.metrics.overlap import dice
from medmtl.metrics.weighted import weighted_mean
from medmtl.networks.joint import JointNet
from medmtl.training.card import as_json
from medmtl.training.loop import FitOptions, fit

from .cardiac_folds import outside_fold
from .cardiac_settings import NETWORK, SEGMENTS
from .cardiac_stages import slice_losses
from .cardiac_views import AUGMENTATION, load_samples, masks_of, slice_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from medmtl.data.samples import Sample

SIDE_PX = 160


def plain_unet() -> nn.Module:
    """From slices with both neighbours (B, 3, J, I) to logits (B, 4, J, I)."""
    net: nn.Module = UNet(
        spatial_dims=2,
        in_channels=3,
        out_channels=1 + len(SEGMENTS),
        channels=(32, 64, 128, 192, 192),
        strides=(2, 2, 2, 2),
        num_res_units=2,
        norm="batch",
    )
    return net


def round_heart(image_kji: Tensor, labels_kji: Tensor) -> tuple[Tensor, Tensor]:
    """Image and labels in a square whose middle is the heart's, or next to it in a small image."""
    box = [slice(None)]
    for axis in (1, 2):
        at = (labels_kji > 0).nonzero()[:, axis]
        size = image_kji.shape[axis]
        side = min(SIDE_PX, size // 16 * 16)
        first = int(at.min() + at.max() + 1) // 2 - side // 2
        first = max(0, min(first, size - side))
        box.append(slice(first, first + side))
    return image_kji[tuple(box)], labels_kji[tuple(box)]


@torch.no_grad()
def plain_answer(net: nn.Module, sample: Sample) -> list[Tensor]:
    """Labels (K, J, I) round the heart at end diastole and end systole, slice by slice."""
    answers = []
    for image, truth in zip(sample.images, masks_of(sample), strict=True):
        stack, _ = round_heart(image.float(), truth)
        beyond = torch.full_like(stack[:1], float(image.min()))
        padded = torch.cat([beyond, stack, beyond])
        slices = torch.stack([padded[k : k + 3] for k in range(len(stack))])
        answers.append(net(slices).argmax(dim=1))
    return answers


@torch.no_grad()
def joint_answer(net: nn.Module, sample: Sample) -> list[Tensor]:
    """The same from one pass of `cardiac-mr`'s network over the study."""
    stacks = [
        round_heart(image.float(), truth)[0]
        for image, truth in zip(sample.images, masks_of(sample), strict=True)
    ]
    output = net(
        [stack[None, None] for stack in stacks],
        spacing_mm=torch.stack([spacing.float() for spacing in sample.spacing_mm])[None],
        covariates=sample.covariates,
    )
    return [logits.argmax(dim=1)[0] for logits in output.segmentation_logits]


def heart_dice(answers: Sequence[Tensor], sample: Sample) -> list[float]:
    """Dice of each structure at end diastole, then at end systole."""
    found = []
    for image, truth, answer in zip(sample.images, masks_of(sample), answers, strict=True):
        _, labels = round_heart(image, truth)
        for label in range(1, len(SEGMENTS) + 1):
            value = dice((answer == label).numpy(), (labels == label).numpy())
            found.append(1.0 if value is None else value)
    return found


def figures(patients: Sequence[str], table: NDArray[np.float64]) -> dict[str, Any]:
    """Mean over structures and patients with its interval over patients; each structure's mean.

    Args:
        patients: N names.
        table: Shape (N, 6), Dice or differences of Dice in the order of `heart_dice`.
    """
    each = table.mean(axis=1)
    interval = bootstrap(
        lambda weights: weighted_mean(weights, each), patients, value=float(each.mean())
    )
    names = [f"{name}, {phase}" for phase in ("ed", "es") for name in SEGMENTS]
    return {
        "mean": {"value": interval.value, "ci95": interval.ci95},
        "segments": dict(zip(names, table.mean(axis=0).tolist(), strict=True)),
        "patients": dict(zip(patients, each.tolist(), strict=True)),
    }


def main(
    data_root: Annotated[Path, typer.Option(help="Folder that holds ACDC's training/.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder.")],
    fold: Annotated[int, typer.Option(help="Of three, the patients left out.")] = 0,
    joint: Annotated[
        Path | None, typer.Option(help="net.pt of that fold by cardiac_mr_fold, to compare.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Of twelve slices.")] = 5000,
    manifest: Annotated[Path, typer.Option(help="Manifest.")] = Path("data_manifests/acdc"),
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Train the plain network on the patients outside a fold and measure it on the others."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    known = read_manifest(manifest)
    samples = load_samples(known, data_root, out / "cache")
    learned = outside_fold(known, samples, fold)
    net = plain_unet()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = slice_batches(learned, np.random.default_rng(0), augmentation=AUGMENTATION)
    options = FitOptions(steps=steps, compiled=True)
    net = fit(net, batches, slice_losses, options, checkpoint=out / "slices.ckpt")
    inside = {sample.case_id for sample in learned}
    left_out = [sample for sample in samples if sample.case_id not in inside]
    patients = [sample.case_id for sample in left_out]
    plain = np.array([heart_dice(plain_answer(net, one), one) for one in left_out])
    found = {"plain": figures(patients, plain)}
    if joint is not None:
        other = JointNet(NETWORK)
        other.load_state_dict(torch.load(joint, weights_only=True))
        other.eval()
        shared = np.array([heart_dice(joint_answer(other, one), one) for one in left_out])
        found |= {"joint": figures(patients, shared), "gain": figures(patients, shared - plain)}
    (out / "metrics.json").write_text(as_json(found), encoding="utf-8")
    typer.echo(json.dumps({name: one["mean"] for name, one in found.items()}, indent=1))


if __name__ == "__main__":
    typer.run(main)
