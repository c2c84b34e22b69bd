"""`[head_refit]`: the diagnosis head, refitted after training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from medmtl.config.section import Section
from medmtl.training.head import HeadOptions

__all__ = ["HeadRefitConfig"]


class HeadRefitConfig(Section):
    """The refit of the diagnosis head on the frozen network; see `training.head`.

    Attributes:
        steps: Optimiser steps.
        batch: Views per step.
        lr: Cosine from here to zero.
        weight_decay: Of AdamW.
        blur: Relative noise on the measurements.
        covariate_dropout: Share of views whose covariates are made unknown.
        views: Augmented views of every training case.
    """

    steps: PositiveInt = 1000
    batch: PositiveInt = 64
    lr: PositiveFloat = 2e-3
    weight_decay: NonNegativeFloat = 0.05
    blur: NonNegativeFloat = 0.08
    covariate_dropout: Annotated[float, Field(ge=0, le=1)] = 0.2
    views: PositiveInt = 3

    @property
    def options(self) -> HeadOptions:
        """The numbers of one refit."""
        return HeadOptions(
            steps=self.steps,
            batch=self.batch,
            peak_lr=self.lr,
            weight_decay=self.weight_decay,
            blur=self.blur,
            covariate_dropout=self.covariate_dropout,
        )
