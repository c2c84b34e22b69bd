"""Train `cardiac-mr` on ACDC, cross-validate it, calibrate it and write its bundle.

    python -m pipelines.recipes.cardiac_mr --data-root ../shared/data/acdc -o runs/cardiac-mr

1. slices: the planar encoder and decoder learn masks from single slices with their neighbours.
2. joint: the same weights, now the 3D network with slice mixers, learn masks and diagnosis of
   whole studies (end diastole and end systole together).
3. head: the diagnosis head is refitted on the frozen network.
The three stages run for each fold and for all patients. The out-of-fold answers, made by the same
predictor that users run, give the figures of the card, the calibration and nothing else. A killed
run continues from its last checkpoint.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import typer

from medmtl.data.manifest import read_manifest
from medmtl.inference.bundle import write_bundle
from medmtl.networks.joint import JointNet
from medmtl.training.card import as_json, card_text
from medmtl.training.loop import FitOptions
from medmtl.training.standardise import fit_standardiser

from .cardiac_folds import FOLDS, cross_validated, out_of_fold_metrics, outside_fold, trained_folds
from .cardiac_settings import FINDINGS, NETWORK, THRESHOLD, bundle_settings, training_ranges
from .cardiac_stages import fit_diagnosis, fit_slices, fit_studies
from .cardiac_views import load_samples, slice_batches
from .publish import calibrate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.data.cases import Manifest
    from medmtl.data.samples import Sample

SLICES = (  # rounds, each with its own warm-up and cosine
    FitOptions(steps=4000, peak_lr=3e-3, warmup_steps=150, save_every=250),
    FitOptions(steps=5000, peak_lr=3e-3, warmup_steps=150, save_every=250, compiled=True),
    FitOptions(steps=2000, peak_lr=2.5e-3, warmup_steps=150, save_every=250, compiled=True),
)
SLICES_FOLD = (
    FitOptions(steps=1300, peak_lr=3e-3, warmup_steps=150, save_every=250),
    FitOptions(steps=4500, peak_lr=3e-3, warmup_steps=150, save_every=250, compiled=True),
)
JOINT = (FitOptions(steps=500, peak_lr=6e-4, warmup_steps=30, ema_decay=0.99, save_every=50),)
JOINT_FOLD = (FitOptions(steps=400, peak_lr=6e-4, warmup_steps=30, ema_decay=0.99, save_every=50),)
TRAINING = (
    "ACDC (O. Bernard, A. Lalande, C. Zotti, F. Cervenansky et al., IEEE Transactions on Medical "
    "Imaging 37(11), 2514-2525, 2018, doi 10.1109/TMI.2018.2837502), all 100 training patients; "
    "`pipelines/recipes/cardiac_mr.py`: masks from single slices, then masks and diagnosis of "
    "whole studies together, then the diagnosis head on the frozen network. Weights shared under "
    "the licence of the data."
)


def train(
    samples: Sequence[Sample],
    out: Path,
    *,
    slices: Sequence[FitOptions],
    joint: Sequence[FitOptions],
) -> JointNet:
    """All three stages on these patients."""
    torch.manual_seed(0)
    net = JointNet(NETWORK)
    for number, options in enumerate(slices):
        batches = slice_batches(samples, np.random.default_rng([1, number]))
        fit_slices(net, batches, options, checkpoint=out / f"slices_{number}.ckpt")
    fit_standardiser(net, samples)
    for number, options in enumerate(joint):
        rng = np.random.default_rng([2, number])
        fit_studies(net, samples, rng, options, checkpoint=out / f"joint_{number}.ckpt")
    fit_diagnosis(net, samples)
    done = {"slices": _steps(slices), "joint": _steps(joint)}
    (out / "steps.json").write_text(json.dumps(done), encoding="utf-8")
    torch.save(net.state_dict(), out / "net.pt")
    return net.eval()


def publish(
    manifest: Manifest, samples: Sequence[Sample], data_root: Path, out: Path, bundle: Path
) -> None:
    """Cross-validate, calibrate on the out-of-fold answers, and write the bundle."""
    ranges = training_ranges(manifest, data_root)
    scores = cross_validated(manifest, samples, data_root, out, ranges)
    thresholds = dict.fromkeys(FINDINGS, THRESHOLD)
    settings = bundle_settings(manifest, samples, ranges, calibrate(scores), thresholds)
    metrics = out_of_fold_metrics(scores)
    folds = trained_folds(out)
    schedules = "; ".join(f"fold {n}: {_schedule(out / f'fold_{n}')}" for n in folds)
    card = card_text(
        settings,
        training=TRAINING,
        evaluation=f"Cross-validation inside the 100 ACDC training patients: folds "
        f"{', '.join(map(str, folds))} of {FOLDS}, {len(scores)} patients, each answered by a "
        "network trained on the patients of the other folds only, through the predictor that "
        f"users run. Steps on slices + on studies: {schedules}; the shipped network, trained on "
        f"all patients: {_schedule(out / 'final')}. The probabilities here are uncalibrated; the "
        "bundle's calibration and threshold were fitted on them. The official test patients were "
        "not available and not used.",
        metrics=metrics,
    )
    weights = torch.load(out / "final" / "net.pt", weights_only=True)
    write_bundle(bundle, settings, weights, card=card, metrics_json=as_json(metrics))


def _steps(rounds: Sequence[FitOptions]) -> int:
    return sum(options.steps for options in rounds)


def _schedule(folder: Path) -> str:
    """How long a network was really trained: a fold may have had a shorter schedule."""
    done = json.loads((folder / "steps.json").read_text(encoding="utf-8"))
    return f"{done['slices']} + {done['joint']}"


def main(
    data_root: Annotated[Path, typer.Option(help="Folder that holds ACDC's training/.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder.")],
    manifest: Annotated[Path, typer.Option(help="Manifest.")] = Path("data_manifests/acdc"),
    bundle: Annotated[Path, typer.Option(help="Where the bundle goes.")] = Path(
        "medmtl/bundles/cardiac-mr"
    ),
    only: Annotated[
        str, typer.Option(help="all, final, publish, or the number of a fold.")
    ] = "all",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Train the cardiac model and its cross-validation."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(threads)
    known = read_manifest(manifest)
    samples = load_samples(known, data_root, out / "cache")
    for fold in range(FOLDS):
        if only in ("all", str(fold)):
            others = outside_fold(known, samples, fold)
            train(others, out / f"fold_{fold}", slices=SLICES_FOLD, joint=JOINT_FOLD)
    if only in ("all", "final"):
        train(samples, out / "final", slices=SLICES, joint=JOINT)
    if only in ("all", "publish"):
        publish(known, samples, data_root, out, bundle)


if __name__ == "__main__":
    typer.run(main)
