"""What the longer training of `cardiac-mr` is worth on patients that it never saw: one fold.

    python -m pipelines.recipes.cardiac_mr_fold --data-root ../shared/data/acdc -o runs/fold

Trains from nothing on the patients of the other folds, the later rounds as in `cardiac_mr_longer`,
and answers those of this one (`--fold`, 0 of three) by the predictor that users run. Nothing is
chosen on them: rounds, steps and the threshold of the findings stood before. Writes `metrics.json`
beside the fold. A killed run continues from its last checkpoint.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer

from medmtl.data.manifest import read_manifest
from medmtl.networks.joint import JointNet
from medmtl.training.card import as_json
from medmtl.training.standardise import fit_standardiser

from .cardiac_folds import cross_validated, out_of_fold_metrics, outside_fold
from .cardiac_mr_longer import AVERAGED, MIRRORED, SLICES, Round, fit_round
from .cardiac_settings import NETWORK, training_ranges
from .cardiac_stages import fit_diagnosis
from .cardiac_views import SLICE_AUGMENTATION, load_samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.data.samples import Sample

ROUNDS = (
    Round(
        5,
        SLICE_AUGMENTATION,
        replace(
            SLICES, steps=5000, peak_lr=3e-3, floor_lr=1e-3, weight_decay=1e-3, ema_decay=0.998
        ),
    ),
    AVERAGED,
    MIRRORED,
)


def train_fold(samples: Sequence[Sample], folder: Path) -> None:
    """All rounds on these patients, then the head; leaves `net.pt`."""
    torch.manual_seed(0)
    net = JointNet(NETWORK)
    fit_standardiser(net, samples)
    for number, one in enumerate(ROUNDS):
        fit_round(net, samples, one, folder, number=number)
    fit_diagnosis(net, samples)
    torch.save(net.state_dict(), folder / "net.pt")


def main(
    data_root: Annotated[Path, typer.Option(help="Folder that holds ACDC's training/.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder.")],
    fold: Annotated[int, typer.Option(help="Of three, the patients left out.")] = 0,
    manifest: Annotated[Path, typer.Option(help="Manifest.")] = Path("data_manifests/acdc"),
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Train one fold and measure it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(threads)
    known = read_manifest(manifest)
    samples = load_samples(known, data_root, out / "cache")
    folder = out / f"fold_{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "net.pt").exists():
        train_fold(outside_fold(known, samples, fold), folder)
    scores = cross_validated(known, samples, data_root, out, training_ranges(known, data_root))
    metrics = out_of_fold_metrics(scores)
    (out / "metrics.json").write_text(as_json(metrics), encoding="utf-8")
    typer.echo(json.dumps(metrics["segmentation"], indent=1))


if __name__ == "__main__":
    typer.run(main)
