"""`[trainer]`: how long and how the network learns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from medmtl.config.section import Section

__all__ = ["TrainerConfig"]


class TrainerConfig(Section):
    """How long and how the network learns.

    Attributes:
        max_epochs: Epochs; the run ends with whichever of both limits comes first.
        max_steps: Optimiser steps.
        steps_per_epoch: Optimiser steps of an epoch; None for once through the training cases.
        batch_size: Studies per micro-batch and process.
        accumulate: Micro-batches per optimiser step.
        lr: Peak learning rate of AdamW; a cosine leads from there down.
        min_lr: Added to every learning rate; where the cosine ends.
        warmup_steps: Linear warm-up.
        weight_decay: Of AdamW.
        clip_norm: Largest gradient norm.
        ema_decay: Of the averaged weights, which are what a run delivers; 0 for no averaging.
        precision: Of the forward pass. "float16" scales the loss and needs CUDA.
        device: "auto" prefers CUDA.
        workers: Processes that prepare batches; 0 prepares them in the training process.
        compile: Whether encoder and decoder go through `torch.compile`; for grids of one shape.
        channels_last: Whether tensors lie channels last in memory; faster convolutions.
        deterministic: Whether only deterministic kernels may run.
        deep_supervision: How many coarser levels of the decoder have a loss of their own.
        sharing_weight: Of the distance of two tied encoders, with network.sharing "soft".
        sam_rho: Radius of sharpness-aware minimisation (arXiv:2010.01412); 0 switches it off.
        freeze_batch_norm: Whether batch statistics stay as they are: one study is no sample of a
            population.
        lesion_weight: Of the voxels of lesions in the cross entropy.
        diagnosis_weight: Of the diagnosis loss, before the balancer sees it.
        covariate_dropout: Share of the training views whose covariates are made unknown.
        checkpoint_every_s: Seconds between checkpoints, beside those at the ends of epochs.
        validate_every: Epochs between validations; the last epoch always is.
        log_every: Steps between lines of the log.
        deliver: "best" delivers the weights of the best validation, "last" those of the end.
    """

    max_epochs: PositiveInt | None = None
    max_steps: PositiveInt | None = None
    steps_per_epoch: PositiveInt | None = None
    batch_size: PositiveInt = 1
    accumulate: PositiveInt = 1
    lr: PositiveFloat = 1e-3
    min_lr: NonNegativeFloat = 1e-6
    warmup_steps: NonNegativeInt = 50
    weight_decay: NonNegativeFloat = 1e-3
    clip_norm: PositiveFloat = 5.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: NonNegativeInt = 0
    compile: bool = False
    channels_last: bool = False
    deterministic: bool = True
    deep_supervision: Annotated[int, Field(ge=0, le=4)] = 0
    sharing_weight: NonNegativeFloat = 1e-3
    sam_rho: NonNegativeFloat = 0.0
    freeze_batch_norm: bool = False
    lesion_weight: PositiveFloat = 1.0
    diagnosis_weight: PositiveFloat = 1.0
    covariate_dropout: Annotated[float, Field(ge=0, le=1)] = 0.2
    checkpoint_every_s: PositiveFloat = 180.0
    validate_every: PositiveInt = 1
    log_every: PositiveInt = 10
    deliver: Literal["best", "last"] = "best"

    @model_validator(mode="after")
    def _ends(self) -> TrainerConfig:
        if self.max_epochs is None and self.max_steps is None:
            raise ValueError("give max_epochs, max_steps, or both")
        return self
