"""Runs in the environment of nnU-Net, never in that of medmtl: a 2d model in minutes on one core.

    python nnunet_short_peer.py plan WORK     plans, preprocessed images, then `planned`
    python nnunet_short_peer.py train WORK    models/2d, as nnU-Net's predictor wants it

`WORK/data.json` says what to learn: `channel_names` and `labels` of nnU-Net's `dataset.json`,
`cases` (name to image and label map), `minutes`. Planner, preprocessing, sampling, augmentation
and losses are nnU-Net's own. Not its own are: a smaller network, patch and batch than it plans;
AdamW in place of SGD with momentum 0.99, which gets nowhere in so few steps; bfloat16 steps; as
many iterations as fit into the minutes, of processor time, so that a load on the machine changes
nothing. A run that was cut off goes on from its last checkpoint. `encoder_arms.py` runs it with the
environment variables that nnU-Net needs.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

NUMBER, NAME = 505, "Dataset505_Short"
ITERATIONS = 50
"""Of an epoch; nnU-Net's has 250."""
SAVE_S = 120
RATE = 2e-3
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
    action, folder = sys.argv[1:]
    work = Path(folder)
    asked = json.loads((work / "data.json").read_text())
    plans = work / "preprocessed" / NAME / "nnUNetPlans.json"
    if action == "train":
        _train(work, plans, minutes=asked["minutes"])
        return
    _write_dataset(work / "raw" / NAME, asked)
    _plan(plans)
    (work / "planned").touch()


def _write_dataset(folder: Path, asked: dict[str, Any]) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for name, (image, mask) in asked["cases"].items():
        (folder / "imagesTr" / f"{name}_0000.nii.gz").symlink_to(image)
        (folder / "labelsTr" / f"{name}.nii.gz").symlink_to(mask)
    header = {name: asked[name] for name in ("channel_names", "labels")}
    more = {"numTraining": len(asked["cases"]), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(header | more))


def _plan(path: Path) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    extract_fingerprints([NUMBER], num_processes=1, check_dataset_integrity=False)
    plan_experiments([NUMBER])
    plans = json.loads(path.read_text())
    wanted = plans["configurations"]["2d"]
    wanted["patch_size"], wanted["batch_size"] = PATCH, BATCH
    wanted["architecture"]["arch_kwargs"] |= NETWORK
    path.write_text(json.dumps(plans))
    preprocess([NUMBER], configurations=("2d",), num_processes=(1,))


def _train(work: Path, path: Path, *, minutes: float) -> None:
    import torch
    from nnunet_epoch import run_epoch  # type: ignore[import-not-found]  # beside this script

    torch.manual_seed(0)
    plans = json.loads(path.read_text())
    header = json.loads((path.parent / "dataset.json").read_text())
    asked = {**plans, "continue_training": False}
    trainer = _trainer_class()(asked, "2d", "all", header, torch.device("cpu"))
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = ITERATIONS, 1
    trainer.on_train_start()
    checkpoint = work / "checkpoint.pth"
    before = _resume(trainer, checkpoint)
    began, saved = time.process_time(), time.monotonic()
    while True:
        run_epoch(trainer)
        trainer.current_epoch += 1
        epoch, spent = trainer.current_epoch, before + time.process_time() - began
        fitting = max(epoch, int(minutes * 60 / (spent / epoch)))
        trainer.num_epochs = trainer.lr_scheduler.max_steps = fitting
        print(f"epoch {epoch} of {fitting}, {spent:.0f} s", flush=True)
        if epoch >= fitting:
            break
        if time.monotonic() - saved > SAVE_S:
            saved = time.monotonic()
            _save(trainer, checkpoint, spent)
    folder = work / "models" / "2d"
    (folder / "fold_all").mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(header))
    _save(trainer, folder / "fold_all" / "checkpoint_final.pth", spent)


def _trainer_class() -> type[Any]:
    """nnU-Net's trainer with an optimiser and a precision for a short schedule on a CPU."""
    import torch
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class ShortTrainer(nnUNetTrainer):  # type: ignore[misc]  # nnunetv2 is not in our environment
        def configure_optimizers(self) -> tuple[Any, Any]:
            weights = self.network.parameters()
            optimizer = torch.optim.AdamW(weights, RATE, weight_decay=self.weight_decay)
            return optimizer, PolyLRScheduler(optimizer, RATE, self.num_epochs)

        def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16):
                outputs = self.network(batch["data"])
            loss = self.loss([output.float() for output in outputs], batch["target"])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12)
            self.optimizer.step()
            return {"loss": loss.detach().numpy()}

    return ShortTrainer


def _save(trainer: Any, path: Path, spent: float) -> None:
    """nnU-Net's checkpoint, complete or not there, and beside it the seconds that it took."""
    partial = path.with_suffix(".part")
    trainer.current_epoch -= 1  # nnU-Net saves within an epoch and writes the number of the next
    trainer.save_checkpoint(str(partial))
    trainer.current_epoch += 1
    path.with_name("seconds.json").write_text(json.dumps(spent))
    partial.replace(path)


def _resume(trainer: Any, path: Path) -> float:
    """Seconds already spent."""
    if not path.exists():
        return 0.0
    trainer.load_checkpoint(str(path))
    return float(json.loads(path.with_name("seconds.json").read_text()))


if __name__ == "__main__":
    main()
