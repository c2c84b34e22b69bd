"""A diagnosis head on nnU-Net, on ACDC: frozen and fine-tuned, against learning both from nothing.

    python -m benchmarks encoder_acdc --python NNUNET_VENV/bin/python --work DIR [--joint SCORES]

`nnunet_acdc_peer.py` trains a small 2d nnU-Net on the patients that are not in fold 0; it is
imported, and every arm learns findings on it from the same patients. `--joint` is `scores.json` of
the arm `joint` of `medmtl compare acdc_compare`. Every step that is done is not done again; an
arm that was not begun within `--minutes` is left out.

All arms deliver uncalibrated probabilities decided at 0.5; differences come with a bootstrap that
draws the held-out patients once for both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.__main__ import PEERS
from benchmarks.record import RESULTS, ROOT, WORK, Row, finish
from medmtl.build import train_run
from medmtl.config import TrainConfig, load_config
from medmtl.imports.nnunet import NnunetChoices, import_nnunet
from medmtl.inference.score_record import score_of
from medmtl.metrics.paired import MEAN, compare_scores
from medmtl.training.config_file import settings_of

FOLD = 0
MINUTES = 14
ARMS: dict[str, dict[str, Any]] = {
    "frozen": {},
    "measured": {"embedding": 0},
    "tuned": {"training": "full"},
}
"""Frozen encoder with features and measurements; the measurements of its masks alone; all of it."""
_PEER = Path(__file__).with_name("nnunet_acdc_peer.py")
_DATA = ROOT.parent / "shared" / "data" / "acdc"


def main() -> None:
    """Train what is missing, compare what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, default=PEERS / "nnunet" / "bin" / "python")
    parser.add_argument("--work", type=Path, default=WORK / "encoder_acdc")
    parser.add_argument("--minutes", type=float, default=120, help="no arm is begun after these")
    parser.add_argument("--data", type=Path, default=_DATA)
    parser.add_argument("--joint", type=Path, help="scores.json of the joint arm")
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.set_defaults(quick=False)
    options = parser.parse_args()
    began = time.monotonic()
    torch.set_num_threads(1)
    if not (options.work / "models").exists():
        _peer(options.python, options.work, options.data)
    bundle = options.work / "imported"
    if not bundle.exists():
        folder = options.work / "models" / "acdc_2d"
        import_nnunet(folder, bundle, choices=NnunetChoices(has_mirroring=False))
    for name in options.arms:
        folder = options.work / "arms" / name
        is_late = time.monotonic() - began > options.minutes * 60
        if not is_late and not (folder / "scores.json").exists():
            train_run(_config(bundle, options.work, **ARMS[name]), folder, data_root=options.data)
    finish("encoder_acdc", _rows(options.work, options.joint), options)


def _peer(python: Path, work: Path, data: Path) -> None:
    """nnU-Net's two steps, augmentation in the process that trains."""
    table = ROOT / "data_manifests" / "acdc" / "cases.csv"
    steps = (("plan", 1, [str(data), str(table), str(FOLD)]), ("train", 0, [str(MINUTES)]))
    for step, processes, more in steps:
        variables = [
            *(f"nnUNet_{name}={work / name}" for name in ("raw", "preprocessed", "results")),
            "nnUNet_compile=f",
            "nnUNet_def_n_proc=1",
            "OMP_NUM_THREADS=1",
            f"nnUNet_n_proc_DA={processes}",
        ]
        command = ["/usr/bin/env", *variables, str(python), str(_PEER), step, str(work), *more]
        subprocess.run(command, check=True)


def _config(bundle: Path, work: Path, *, training: str = "frozen", **head: Any) -> TrainConfig:
    """That of the joint arm, with the encoder in place of its network."""
    joint = load_config(ROOT / "pipelines" / "configs" / "acdc_compare.toml")
    values = joint.model_dump(exclude_unset=True)
    for name in ("preprocessing", "compare", "tracking"):
        values.pop(name)
    for name in ("backbone", "segments", "slice_context"):
        values["network"].pop(name)
    values["network"]["head"] |= {"pooling": ("global", "mask")} | head
    values["bundle"].pop("components")
    values["encoder"] = {"from": str(bundle), "training": training, "max_dice_loss": 0.02}
    values["data"]["cache_dir"] = str(work / "cache")
    values["trainer"] |= {
        "max_steps": 200, "steps_per_epoch": 200, "lr": 5e-4, "precision": "float32",
        "deep_supervision": 0, "deliver": "last",
    }  # fmt: skip
    values["augmentation"]["patch_px"] = 80  # 125 mm at the plans' spacing
    values["head_refit"] = {"steps": 500}
    values["calibration"] = {"method": "none", "threshold": {"name": "fixed", "value": 0.5}}
    values["tracking"] = {"enabled": False}
    return settings_of(TrainConfig, values, source="encoder_acdc")


def _rows(work: Path, joint: Path | None) -> list[Row]:
    places = {name: work / "arms" / name / "scores.json" for name in ARMS}
    if joint is not None:
        places = {"joint from nothing": joint, **places}
    scores = {
        name: [score_of(row) for row in json.loads(path.read_text(encoding="utf-8"))]
        for name, path in places.items()
        if path.exists()
    }
    rows = []
    for name in ARMS:
        if name in scores:
            run = json.loads((work / "arms" / name / "run.json").read_text(encoding="utf-8"))
            rows += _own_rows(name, run)
    names = list(scores)
    for number, other in enumerate(names):
        for reference in names[:number]:
            rows += _differences(reference, other, scores)
    return rows


def _own_rows(name: str, run: dict[str, Any]) -> list[Row]:
    said = run["encoder"]
    dice = [said[when]["mean"] for when in ("dice_before", "dice_after")]
    where = f"{name}: {run['val_cases']} held-out patients"
    return [
        Row(f"{where}, mean Dice before, after", f"{dice[0]:.4f}, {dice[1]:.4f}"),
        Row(f"{name}: largest loss of a segment", f"{said['loss']:.4f}", "<= 0.02"),
        Row(f"{name}: share of voxels that stayed", f"{said['equal_voxels']:.6f}"),
        Row(f"{name}: training, under load", f"{run['seconds']:.0f} s"),
    ]


def _differences(reference: str, other: str, scores: dict[str, Any]) -> list[Row]:
    findings = [finding.name for finding in scores[other][0].findings]
    rows = []
    compared = compare_scores(
        scores[reference], scores[other], findings=findings, is_exclusive=True
    )
    for one in compared:
        if one.part != MEAN or one.metric not in ("dice", "auroc", "accuracy"):
            continue
        interval = one.difference.ci95
        shown = "" if interval is None else f" ({interval[0]:+.3f} to {interval[1]:+.3f})"
        rows.append(
            Row(
                f"{one.metric}: {other} {one.other:.3f}, {reference} {one.reference:.3f}",
                f"{one.difference.value:+.3f}{shown}: {one.verdict}",
            )
        )
    return rows


if __name__ == "__main__":
    main()
