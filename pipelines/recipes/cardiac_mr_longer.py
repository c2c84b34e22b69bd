"""Train the shipped `cardiac-mr` longer on the patients of ACDC and write its bundle anew.

    python -m pipelines.recipes.cardiac_mr_longer --data-root ../shared/data/acdc -o runs/longer

1. slices: more single slices. Those where a structure ends, and end systole, come more often:
   there the masks are weakest, out of fold too.
2. joint and 3. head: as in `cardiac_mr`.
The shipped network knows all training patients, so nothing here measures it: figures, calibration
and thresholds stay those of its cross-validation. A killed run continues from its last checkpoint.
"""

from __future__ import annotations

import json
import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import typer

from medmtl.data.manifest import read_manifest
from medmtl.inference.bundle import CamSettings, load_bundle, write_bundle
from medmtl.training.card import as_json, card_text
from medmtl.training.loop import FitOptions

from .cardiac_mr import (
    SEGMENTS,
    fit_diagnosis,
    fit_slices,
    fit_studies,
    load_examples,
    slice_batches,
)

if TYPE_CHECKING:
    from medmtl.inference.bundle import Bundle
    from medmtl.networks.joint import JointNet

    from .cardiac_mr import Example

VERSION = "1.2.0"
SLICES = FitOptions(
    steps=2700, peak_lr=2e-3, warmup_steps=200, save_every=100, log_every=25, compiled=True
)
JOINT = FitOptions(
    steps=300, peak_lr=4e-4, warmup_steps=30, ema_decay=0.99, save_every=25, log_every=10
)
END_SYSTOLE_SHARE = 0.55
END_SLICE_SHARE = 0.3


def draw_weak_slices(example: Example, rng: np.random.Generator) -> tuple[int, int]:
    """Phase and slice: end systole and the ends of the structures more often than others."""
    phase = int(rng.random() < END_SYSTOLE_SHARE)
    ends = end_slices(example)[phase]
    if ends and rng.random() < END_SLICE_SHARE:
        return phase, ends[int(rng.integers(len(ends)))]
    return phase, int(rng.integers(example.images[phase].shape[0]))


@cache
def end_slices(example: Example) -> tuple[list[int], list[int]]:
    """For each phase the slices where a structure begins or ends, with their neighbours."""
    diastole, systole = (sorted(_ends(labels)) for labels in example.labels)
    return diastole, systole


def _ends(labels_kji: torch.Tensor) -> set[int]:
    found: set[int] = set()
    for label in range(1, len(SEGMENTS) + 1):
        slices = (labels_kji == label).flatten(1).any(dim=1).nonzero().flatten().tolist()
        for end in (slices[0], slices[-1]) if slices else ():
            found |= {k for k in (end - 1, end, end + 1) if 0 <= k < labels_kji.shape[0]}
    return found


def write_longer(start: Bundle, net: JointNet, folder: Path) -> None:
    """The bundle with the new weights; what was measured out of fold stays as it was."""
    old = start.settings
    metrics = json.loads((start.folder / "metrics.json").read_text(encoding="utf-8"))
    card = (start.folder / "card.md").read_text(encoding="utf-8")
    training, evaluation = (_section(card, title) for title in ("Training", "Evaluation"))
    cam = CamSettings(method="attribution", levels=(), min_share=old.cam.min_share)
    settings = old.model_copy(update={"version": VERSION, "sha256": {}, "cam": cam})
    text = card_text(
        settings,
        training=f"{training} Then {SLICES.steps} steps on slices and {JOINT.steps} on studies "
        "more (`pipelines/recipes/cardiac_mr_longer.py`): slices of end systole and those where "
        "a structure ends were drawn more often.",
        evaluation=f"{evaluation} These are the figures of version {old.version}: the weights "
        f"of {VERSION} know all patients and were not measured on unseen ones.",
        metrics=metrics,
    )
    write_bundle(folder, settings, net.state_dict(), card=text, metrics_json=as_json(metrics))


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
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Train longer and write the bundle."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(threads)
    start = load_bundle(bundle)
    net = start.net.requires_grad_()
    examples = load_examples(read_manifest(manifest), data_root, out / "examples.pt")
    batches = slice_batches(examples, np.random.default_rng([5, 0]), draw=draw_weak_slices)
    fit_slices(net, batches, SLICES, checkpoint=out / "slices.ckpt")
    fit_studies(net, examples, np.random.default_rng([5, 1]), JOINT, checkpoint=out / "joint.ckpt")
    fit_diagnosis(net, examples)
    write_longer(start, net, bundle)


if __name__ == "__main__":
    typer.run(main)
