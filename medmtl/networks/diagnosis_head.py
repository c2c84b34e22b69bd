"""The multi-label diagnosis head: pooled features, measurements and covariates to logits.

Tensors: B batch, V volume of the study, D pooled features, M measurements, F findings.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveInt,
    field_validator,
)
from torch import Tensor, nn

__all__ = ["DiagnosisHead", "HeadConfig"]


class HeadConfig(BaseModel):
    """What the diagnosis reads and how large its layers are.

    Attributes:
        levels: Encoder levels to pool, as indices into the feature maps (-1 is the coarsest).
        pooling: Any of "global", "attention", "mask" (inside predicted organs).
        measurements: Name of a measurement set of the predicted masks, or None.
        measure_largest_piece: Whether only the largest connected piece of the foreground is
            measured, for masks of one connected organ such as the heart.
        detach_measurements: Whether the diagnosis loss must not reach the masks through them.
        covariates: Clinical covariates, any of age_years, sex_male, height_cm, weight_kg.
        embedding: Width of the pooled features after projection; 0 leaves them out.
        hidden: Width of the hidden layer.
        members: Parallel classifiers whose logits are averaged (bagging inside one pass).
        dropout: Probability during training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: tuple[int, ...] = (-2, -1)
    pooling: tuple[Literal["global", "attention", "mask"], ...] = ("global", "attention", "mask")
    measurements: str | None = None
    measure_largest_piece: bool = False
    detach_measurements: bool = False
    covariates: tuple[str, ...] = ()
    embedding: int = Field(default=32, ge=0)
    hidden: PositiveInt = 32
    members: PositiveInt = 1
    dropout: NonNegativeFloat = Field(default=0.3, lt=1.0)

    @field_validator("pooling")
    @classmethod
    def _global_first(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        if kinds[:1] != ("global",):
            raise ValueError(f"pooling must start with 'global', the fallback. Found {kinds}.")
        return kinds


class Standardise(nn.Module):
    """Facts to bounded z-scores, of the value and of its logarithm, with indicators of unknowns.

    The logarithm tells a small lesion from none, where the value itself tells large from larger.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2 * size))
        self.register_buffer("std", torch.ones(2 * size))

    @torch.no_grad()
    def fit(self, values: Tensor) -> None:
        """Set the buffers from training values (N, size), ignoring NaN."""
        both = _with_logarithm(values)
        mean = both.nanmean(dim=0)
        std = (both - mean).square().nanmean(dim=0).sqrt()
        self.mean.copy_(torch.nan_to_num(mean))
        self.std.copy_(torch.nan_to_num(std, nan=1.0).clamp_min(1e-6))

    def forward(self, values: Tensor) -> Tensor:
        """(B, size) to (B, 3 size); what is unknown is 0 in both z-scores."""
        is_unknown = values.isnan()
        both = _with_logarithm(torch.where(is_unknown, torch.zeros_like(values), values))
        z = (both - self.mean) / self.std
        z = torch.where(is_unknown.repeat(1, 2), torch.zeros_like(z), z)
        # Far outside of the training range the answer must saturate, not extrapolate.
        return torch.cat([4.0 * torch.tanh(z / 4.0), is_unknown.to(values.dtype)], dim=-1)


def _with_logarithm(values: Tensor) -> Tensor:
    """(B, size) to (B, 2 size): the value and sign(value) log(1 + |value|)."""
    return torch.cat([values, values.sign() * values.abs().log1p()], dim=-1)


class DiagnosisHead(nn.Module):
    """Logits of F findings for a study of V volumes."""

    def __init__(
        self, config: HeadConfig, *, pooled: int, measurements: int, findings: int
    ) -> None:
        super().__init__()
        self.config = config
        self.facts = Standardise(measurements + len(config.covariates))
        width = 3 * (measurements + len(config.covariates))
        self.project: nn.Module | None = None
        if config.embedding:
            self.project = nn.Sequential(
                nn.LayerNorm(pooled),
                nn.Dropout(config.dropout),
                nn.Linear(pooled, config.embedding),
            )
            width += config.embedding
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, config.hidden),
                nn.GELU(),
                nn.Dropout(config.dropout),
                nn.Linear(config.hidden, findings),
            )
            for _ in range(config.members)
        )

    def known_facts(self, measurements: Tensor, covariates: dict[str, Tensor]) -> Tensor:
        """Measurements and the chosen covariates, (B, M + covariates), NaN where unknown."""
        known = [covariates[name].unsqueeze(-1) for name in self.config.covariates]
        return torch.cat([measurements, *known], dim=-1)

    def inputs(self, pooled: Tensor, measurements: Tensor, covariates: dict[str, Tensor]) -> Tensor:
        """The vector (B, width) that the classifiers read.

        Args:
            pooled: (B, D), the volumes of the study joined.
            measurements: (B, M), NaN where unknown.
            covariates: (B,) each, NaN where unknown.
        """
        facts = self.facts(self.known_facts(measurements, covariates))
        if self.project is None:
            return torch.as_tensor(facts)
        return torch.cat([facts, self.project(pooled)], dim=-1)

    def forward(
        self, pooled: Tensor, measurements: Tensor, covariates: dict[str, Tensor]
    ) -> Tensor:
        """Logits (B, F), see `inputs`."""
        return self.classify(self.inputs(pooled, measurements, covariates))

    def classify(self, vector: Tensor) -> Tensor:
        """Logits (B, F) of the vector (B, width) of `inputs`."""
        return torch.stack([member(vector) for member in self.members]).mean(dim=0)
