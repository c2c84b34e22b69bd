"""Folds of ACDC's training patients, and the answers of each fold's network to its own."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medmtl.evidence.input_ranges import InputRanges
from medmtl.inference.bundle import write_bundle
from medmtl.inference.evaluate import Evaluation
from medmtl.inference.predictor import load_predictor
from medmtl.metrics.scores import CaseScore
from medmtl.metrics.summary import summarise

from .cardiac_settings import FINDINGS, bundle_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.data.cases import Case, Manifest
    from medmtl.data.samples import Sample

FOLDS = 3


def outside_fold(manifest: Manifest, samples: Sequence[Sample], fold: int) -> list[Sample]:
    """The patients that the network of a fold learns from."""
    folds = assign_folds(manifest.in_split("train"), FOLDS)
    return [sample for sample in samples if folds[sample.case_id] != fold]


def assign_folds(cases: Sequence[Case], folds: int) -> dict[str, int]:
    """Folds by patient, each group spread evenly; deterministic."""
    groups: dict[tuple[bool | None, ...], list[str]] = {}
    for case in cases:
        groups.setdefault(tuple(case.findings[name] for name in FINDINGS), []).append(case.case_id)
    draw = random.Random(0)  # noqa: S311 - reproducible folds, no secret
    assigned: dict[str, int] = {}
    for offset, key in enumerate(sorted(groups, key=_group_order)):
        members = sorted(groups[key])
        draw.shuffle(members)
        for place, case_id in enumerate(members):
            assigned[case_id] = (place + offset) % folds
    return assigned


def _group_order(key: tuple[bool | None, ...]) -> float:
    """DCM, HCM, MINF, normal, RV: the alphabetical order of ACDC's group names."""
    return key.index(True) if True in key else 2.5


def trained_folds(out: Path) -> list[int]:
    """Folds whose network is there."""
    return [fold for fold in range(FOLDS) if (out / f"fold_{fold}" / "net.pt").exists()]


def cross_validated(
    manifest: Manifest, samples: Sequence[Sample], data_root: Path, out: Path, ranges: InputRanges
) -> list[CaseScore]:
    """Every patient, answered by the network that never saw it, through the user's predictor."""
    settings = bundle_settings(manifest, samples, ranges, {})
    scores: list[CaseScore] = []
    everybody = manifest.in_split("train")
    folds = assign_folds(everybody, FOLDS)
    for fold in trained_folds(out):
        folder = out / f"fold_{fold}" / "bundle"
        weights = torch.load(out / f"fold_{fold}" / "net.pt", weights_only=True)
        write_bundle(folder, settings, weights, card="cross-validation fold", metrics_json="{}")
        evaluation = Evaluation(
            analyser=load_predictor(folder, cam="all"),
            manifest=manifest,
            data_root=data_root,
            records=out / f"fold_{fold}" / "scores",
        )
        cases = [case for case in everybody if folds[case.case_id] == fold]
        for result in evaluation.run(cases):
            if not isinstance(result, CaseScore):
                raise TypeError(f"{result.what} failed: {result.reason}")
            scores.append(result)
    return scores


def out_of_fold_metrics(scores: Sequence[CaseScore]) -> dict[str, Any]:
    """metrics.json of what `cross_validated` gives."""
    figures = summarise(scores, findings=list(FINDINGS), is_exclusive=True)
    return {"split": "train, out of fold", "n_cases": len(scores), **figures}
