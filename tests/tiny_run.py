"""A training run of seconds: eight studies of 8 x 16 x 16 voxels, a network of a few channels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from medmtl.config import TrainConfig
from medmtl.data.manifest import write_manifest
from medmtl.training.config_file import settings_of
from tests.data_factory import make_source

STEPS = 6


def write_data(root: Path, *, truths: list[dict[str, bool | None]] | None = None) -> Path:
    """Eight cases with masks and findings, of which three validate; the manifest's folder."""
    known = truths or [{"big": n % 2 == 0, "old": n % 3 == 0 if n % 4 else None} for n in range(8)]
    source = make_source(
        root,
        name="tiny",
        labels={"liver": 1, "spleen": 2},
        findings=("big", "old"),
        truths=known,
        shape=(16, 16, 8),
        spacing_mm=(2.0, 2.0, 2.0),
    )
    cases = tuple(
        replace(case, split="train" if number < 5 else "val")
        for number, case in enumerate(source.manifest.cases)
    )
    write_manifest(replace(source.manifest, cases=cases), root)
    return root


def settings(root: Path, **trainer: Any) -> dict[str, Any]:
    """The configuration as plain values."""
    return {
        "name": "tiny",
        "data": {"manifests": [{"folder": str(root)}]},
        "preprocessing": {
            "spacing_mm": [2.0, 2.0, 2.0],
            "intensity": {"name": "robust_z_score"},
            "divisor": [4, 4, 4],
        },
        "network": {
            "segments": ["liver", "spleen"],
            "findings": ["big", "old"],
            "backbone": {
                "name": "dynunet",
                "filters": [4, 4, 4],
                "kernels": [[3, 3, 3]] * 3,
                "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
            },
            "head": {"embedding": 4, "hidden": 4},
        },
        "trainer": {
            "max_steps": STEPS,
            "steps_per_epoch": 3,
            "lr": 1e-2,
            "warmup_steps": 2,
            "ema_decay": 0.5,
            "device": "cpu",
        }
        | trainer,
        "tracking": {"enabled": False},
        "bundle": {
            "name": "tiny",
            "licence": "CC0",
            "intended_use": "Tests.",
            "limits": "Tests.",
            "input": {"modality": "MR"},
        },
    }


def configuration(root: Path, *overrides: str, **trainer: Any) -> TrainConfig:
    """The configuration, with `--set` on top."""
    return settings_of(TrainConfig, settings(root, **trainer), source="tiny", overrides=overrides)


def write_configuration(root: Path, path: Path, **trainer: Any) -> Path:
    """The configuration as a file."""
    path.write_text(tomli_w.dumps(settings(root, **trainer)), encoding="utf-8")
    return path
