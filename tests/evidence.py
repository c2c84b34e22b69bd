"""Bundles with a card and figures that pass the shipped gate."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from medmtl.inference.bundle import write_bundle
from medmtl.inference.bundle_settings import FindingSettings
from medmtl.tracking.bundle_files import read_bundle
from tests.tiny_bundle import TORSO, TORSO_FINDINGS, random_net, torso_settings

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.tracking.bundle_files import BundleRecord

CARD = "# A model\n\n" + "It knows what it was taught. " * 40


def number(value: float, half_width: float = 0.02) -> dict[str, Any]:
    """A figure of metrics.json."""
    return {"value": value, "ci95": [value - half_width, value + half_width], "n": 60}


def good_metrics(**fields: Any) -> dict[str, Any]:
    """Figures of 60 test cases that pass every limit of the shipped gate."""
    finding = {"auroc": number(0.9), "brier": number(0.1), "ece": number(0.05)}
    return {
        "manifest": {"name": "m", "sha256": "c" * 64},
        "split": "test",
        "n_cases": 60,
        "n_failed": 0,
        "segmentation": {
            "mean_dice": number(0.9),
            "per_segment": {name: {"dice": number(0.9)} for name in TORSO},
        },
        "diagnosis": {
            "macro_auroc": number(0.9),
            "per_finding": {name: dict(finding) for name in TORSO_FINDINGS},
        },
        "evidence": {
            "per_finding": {name: {"pointing_game": number(0.8)} for name in TORSO_FINDINGS}
        },
        **fields,
    }


def write_evident(
    folder: Path,
    *,
    version: str = "1",
    metrics: dict[str, Any] | None = None,
    card: str = CARD,
    is_calibrated: bool = True,
) -> BundleRecord:
    """Write such a bundle; another version is another bundle."""
    settings = torso_settings(
        name="tiny-torso",
        version=version,
        findings=tuple(
            FindingSettings(name=name, segments=TORSO, calibrated=is_calibrated)
            for name in TORSO_FINDINGS
        ),
    )
    content = json.dumps(good_metrics() if metrics is None else metrics)
    write_bundle(
        folder, settings, random_net(settings).state_dict(), card=card, metrics_json=content
    )
    return read_bundle(folder)
