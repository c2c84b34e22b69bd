"""Train the shipped `cardiac-mr` longer on the patients of ACDC and write its bundle anew.

    python -m pipelines.recipes.cardiac_mr_longer --data-root ../shared/data/acdc -o runs/longer

1. slices: more single slices. Those where a structure ends, and end systole, come more often:
   there the masks are weakest, out of fold too. The second round keeps the learning rate up,
   averages the weights over 2,000 steps (stochastic weight averaging, P. Izmailov et al.,
   https://arxiv.org/abs/1803.05407) and turns, scales and bends its slices more. The third shows
   half of them in a mirror, and what it learned is averaged with what was there before it (a model
   soup, M. Wortsman et al., https://arxiv.org/abs/2203.05482).
2. joint, in the first two rounds, and 3. head: as in `cardiac_mr`.
The shipped network knows all training patients, so nothing here measures it: figures, calibration
and thresholds stay those of its cross-validation. A killed run continues from its last checkpoint.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import torch
import typer
from torch import nn

from medmtl.data.manifest import read_manifest
from medmtl.inference.bundle import load_bundle, write_bundle
from medmtl.training.augment import PlaneAugmentation
from medmtl.training.card import as_json, card_text
from medmtl.training.loop import FitOptions

from .cardiac_settings import SEGMENTS
from .cardiac_stages import fit_diagnosis, fit_slices, fit_studies
from .cardiac_views import SLICE_AUGMENTATION, load_samples, masks_of, slice_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from medmtl.data.samples import Sample
    from medmtl.inference.bundle import Bundle
    from medmtl.networks.joint import JointNet


class Round(NamedTuple):
    """One round of training.

    Attributes:
        seed: Of the draws.
        views: Of the slices.
        slices: Steps on them.
        joint: Steps on studies, if any.
        share: Of the new weights in the mean with those from before the round.
    """

    seed: int
    views: PlaneAugmentation
    slices: FitOptions
    joint: FitOptions | None = None
    share: float = 1.0


VERSION = "1.4.0"
MEASURED = "1.1.0"
"""Version whose networks of the folds gave the figures."""
FOLD = (
    "A network of fold 0 that was trained much like them, from nothing on 67 patients "
    "(`pipelines/recipes/cardiac_mr_fold.py`), reached a mean Dice of 0.913 (0.903 to 0.921) on "
    "its 33 unseen patients, 30 of them in the right class; that weights are averaged was chosen "
    "on these patients."
)
"""What the program for one fold measured."""
FAR = replace(SLICE_AUGMENTATION, any_angle=0.25, elastic=0.25, log_scale=0.26)
SLICES = FitOptions(
    steps=3800, peak_lr=1.2e-3, floor_lr=3e-4, warmup_steps=200, weight_decay=1e-2,
    ema_decay=0.9995, save_every=100, log_every=25, compiled=True,
)  # fmt: skip
JOINT = FitOptions(
    steps=250, peak_lr=3e-4, warmup_steps=30, ema_decay=0.99, save_every=25, log_every=25
)
AVERAGED = Round(6, FAR, SLICES, JOINT)
MIRRORED = Round(
    11, replace(FAR, mirrored=0.5), replace(SLICES, steps=3600, peak_lr=1.5e-3), share=0.5
)
ROUNDS = (
    Round(
        5,
        SLICE_AUGMENTATION,
        replace(
            SLICES, steps=5000, peak_lr=2e-3, floor_lr=1e-6, weight_decay=1e-3, ema_decay=0.998
        ),
        replace(JOINT, steps=300, peak_lr=4e-4),
    ),
    AVERAGED,
    MIRRORED,
)
"""From 1.2.0 on; 1.3.0 had the first two."""
STATISTICS_BATCHES = 80
END_SYSTOLE_SHARE = 0.55
END_SLICE_SHARE = 0.3


def draw_weak_slices(sample: Sample, rng: np.random.Generator) -> tuple[int, int]:
    """Phase and slice: end systole and the ends of the structures more often than others."""
    phase = int(rng.random() < END_SYSTOLE_SHARE)
    ends = end_slices(sample)[phase]
    if ends and rng.random() < END_SLICE_SHARE:
        return phase, ends[int(rng.integers(len(ends)))]
    return phase, int(rng.integers(sample.images[phase].shape[0]))


@cache
def end_slices(sample: Sample) -> tuple[list[int], list[int]]:
    """For each phase the slices where a structure begins or ends, with their neighbours."""
    diastole, systole = (sorted(_ends(labels)) for labels in masks_of(sample))
    return diastole, systole


def _ends(labels_kji: torch.Tensor) -> set[int]:
    found: set[int] = set()
    for label in range(1, len(SEGMENTS) + 1):
        slices = (labels_kji == label).flatten(1).any(dim=1).nonzero().flatten().tolist()
        for end in (slices[0], slices[-1]) if slices else ():
            found |= {k for k in (end - 1, end, end + 1) if 0 <= k < labels_kji.shape[0]}
    return found


@torch.no_grad()
def renew_statistics(
    planar: nn.Module, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    """The batch norms' statistics for averaged weights: the mean over some batches."""
    norms = [module for module in planar.modules() if isinstance(module, nn.BatchNorm2d)]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    planar.train()
    with torch.autocast("cpu", torch.bfloat16):
        for images, _ in islice(batches, STATISTICS_BATCHES):
            planar(images.contiguous(memory_format=torch.channels_last))
    for norm, value in zip(norms, momentum, strict=True):
        norm.momentum = value
    planar.eval()


def fit_round(
    net: JointNet, samples: Sequence[Sample], one: Round, out: Path, *, number: int
) -> None:
    """Slices, then studies where the round has any, in place; its checkpoints lie in `out`."""
    planar = net.backbone.get_submodule("net")
    before = {name: weight.clone() for name, weight in planar.state_dict().items()}
    batches = slice_batches(
        samples,
        np.random.default_rng([one.seed, 0]),
        draw=draw_weak_slices,
        augmentation=one.views,
    )
    fit_slices(net, batches, one.slices, checkpoint=out / f"slices_{number}.ckpt")
    planar.load_state_dict(between(before, planar.state_dict(), share=one.share))
    rng = np.random.default_rng([one.seed, 1])
    renew_statistics(planar, slice_batches(samples, rng))
    if one.joint is not None:
        fit_studies(net, samples, rng, one.joint, checkpoint=out / f"joint_{number}.ckpt")


def between(
    old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor], *, share: float
) -> dict[str, torch.Tensor]:
    """The mean of two networks' weights; counters are those of the new one."""
    return {
        name: torch.lerp(old[name], weight, share) if weight.is_floating_point() else weight
        for name, weight in new.items()
    }


def write_longer(start: Bundle, net: JointNet, folder: Path, *, rounds: Sequence[Round]) -> None:
    """The bundle with the new weights; what was measured out of fold stays as it was."""
    old = start.settings
    metrics = json.loads((start.folder / "metrics.json").read_text(encoding="utf-8"))
    card = (start.folder / "card.md").read_text(encoding="utf-8")
    training, evaluation = (_section(card, title) for title in ("Training", "Evaluation"))
    settings = old.model_copy(update={"version": VERSION, "sha256": {}})
    text = card_text(
        settings,
        training=f"{training} {_said(rounds)}",
        evaluation=f"{evaluation.split(' These are the figures')[0]} These are the figures of "
        f"version {MEASURED}: the weights of {VERSION} know all patients and were not measured on "
        f"unseen ones. {FOLD}",
        metrics=metrics,
    )
    write_bundle(folder, settings, net.state_dict(), card=text, metrics_json=as_json(metrics))


def _said(rounds: Sequence[Round]) -> str:
    steps = ", then ".join(
        f"{one.slices.steps} steps on slices and {one.joint.steps if one.joint else 0} on studies"
        for one in rounds
    )
    return (
        f"For {VERSION}: {steps} more, the last round with half of its slices in a mirror and its "
        "weights averaged with those before it."
    )


def _section(card: str, title: str) -> str:
    """The first paragraph under a heading of a card."""
    return card.split(f"## {title}\n\n", maxsplit=1)[1].split("\n\n", maxsplit=1)[0]


def main(
    data_root: Annotated[Path, typer.Option(help="Folder that holds ACDC's training/.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder.")],
    manifest: Annotated[Path, typer.Option(help="Manifest.")] = Path("data_manifests/acdc"),
    bundle: Annotated[Path, typer.Option(help="Bundle to start from and to replace.")] = Path(
        "medmtl/bundles/cardiac-mr"
    ),
    first: Annotated[int, typer.Option(help="Round to begin with: 2 continues 1.3.0.")] = 2,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Train longer and write the bundle."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(threads)
    start = load_bundle(bundle)
    net = start.net.requires_grad_()
    samples = load_samples(read_manifest(manifest), data_root, out / "cache")
    for number, one in enumerate(ROUNDS[first:], start=first):
        fit_round(net, samples, one, out, number=number)
    fit_diagnosis(net, samples)
    write_longer(start, net, bundle, rounds=ROUNDS[first:])


if __name__ == "__main__":
    typer.run(main)
