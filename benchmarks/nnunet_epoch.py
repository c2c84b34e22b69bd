"""One epoch of an nnU-Net trainer, for the scripts beside it that run in nnU-Net's environment."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["run_epoch"]


def run_epoch(trainer: Any) -> None:
    """nnU-Net's own steps and one of validation, without checkpoint, plot and whole images."""
    trainer.on_train_epoch_start()
    outputs = [
        trainer.train_step(next(trainer.dataloader_train))
        for _ in range(trainer.num_iterations_per_epoch)
    ]
    trainer.on_train_epoch_end(outputs)
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val))])
