"""Runs in the environment of nnU-Net, never in that of medmtl: a 2d model of ACDC in minutes.

    python nnunet_acdc_peer.py plan WORK ACDC CASES_CSV HELD_OUT_FOLD
    python nnunet_acdc_peer.py train WORK MINUTES

Planner, preprocessing, trainer, augmentation and losses are nnU-Net's own. What is not: a smaller
network, patch and batch than it plans, and as many iterations as fit into the minutes, on one
thread. It learns from the cases of CASES_CSV that are not in the held-out fold.
`encoder_acdc.py` runs it with the environment variables that nnU-Net needs.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

NAME = "Dataset505_AcdcFold"
ITERATIONS = 50
"""Of an epoch; nnU-Net's has 250."""
NETWORK = {
    "n_stages": 5,
    "features_per_stage": [16, 32, 64, 128, 128],
    "kernel_sizes": [[3, 3]] * 5,
    "strides": [[1, 1], [2, 2], [2, 2], [2, 2], [2, 2]],
    "n_conv_per_stage": [2] * 5,
    "n_conv_per_stage_decoder": [2] * 4,
}
PATCH, BATCH = [128, 128], 8


def main() -> None:
    """One of the two steps."""
    action, work, *more = sys.argv[1:]
    plans = Path(work) / "preprocessed" / NAME / "nnUNetPlans.json"
    if action == "train":
        _train(Path(work), plans, minutes=float(more[0]))
        return
    acdc, table, fold = more
    _write_dataset(Path(work) / "raw" / NAME, Path(acdc), Path(table), held_out=fold)
    _plan(plans)


def _write_dataset(folder: Path, acdc: Path, table: Path, *, held_out: str) -> None:
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    with table.open(encoding="utf-8") as stream:
        rows = [r for r in csv.DictReader(stream) if (r["split"], r["fold"]) != ("train", held_out)]
    rows = [row for row in rows if row["split"] == "train"]
    for row in rows:
        name = f"{row['case_id']}_{row['volume_id']}"
        (folder / "imagesTr" / f"{name}_0000.nii.gz").symlink_to(acdc / row["image"])
        (folder / "labelsTr" / f"{name}.nii.gz").symlink_to(acdc / row["segmentation"])
    labels = {"background": 0, "right_ventricle_cavity": 1, "myocardium": 2}
    labels["left_ventricle_cavity"] = 3
    header = {"channel_names": {"0": "MRI"}, "labels": labels}
    more = {"numTraining": len(rows), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(header | more))


def _plan(path: Path) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    extract_fingerprints([505], num_processes=1, check_dataset_integrity=False)
    plan_experiments([505])
    plans = json.loads(path.read_text())
    wanted = plans["configurations"]["2d"]
    wanted["patch_size"], wanted["batch_size"] = PATCH, BATCH
    wanted["architecture"]["arch_kwargs"] |= NETWORK
    path.write_text(json.dumps(plans))
    preprocess([505], configurations=("2d",), num_processes=(1,))


def _train(work: Path, path: Path, *, minutes: float) -> None:
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.manual_seed(0)
    plans = json.loads(path.read_text())
    header = json.loads((path.parent / "dataset.json").read_text())
    asked = {**plans, "continue_training": False}
    trainer = nnUNetTrainer(asked, "2d", "all", header, torch.device("cpu"))
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = ITERATIONS, 1
    trainer.on_train_start()
    began, epoch = time.monotonic(), 0
    while True:
        _epoch(trainer)
        epoch, spent = epoch + 1, time.monotonic() - began
        fitting = max(epoch, int(minutes * 60 / (spent / epoch)))
        trainer.num_epochs = trainer.lr_scheduler.max_steps = fitting
        print(f"epoch {epoch} of {fitting}, {spent:.0f} s", flush=True)
        if epoch >= fitting:
            break
    folder = work / "models" / "acdc_2d"
    (folder / "fold_all").mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(str(folder / "fold_all" / "checkpoint_final.pth"))
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(header))


def _epoch(trainer: Any) -> None:
    """nnU-Net's own epoch without checkpoint and plot."""
    import torch

    trainer.on_train_epoch_start()
    outputs = [
        trainer.train_step(next(trainer.dataloader_train))
        for _ in range(trainer.num_iterations_per_epoch)
    ]
    trainer.on_train_epoch_end(outputs)
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val))])
    trainer.current_epoch += 1


if __name__ == "__main__":
    main()
