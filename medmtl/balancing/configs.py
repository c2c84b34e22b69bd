"""The settings of every balancer, selected by `name`.

The methods and their numbers are those of torchjd 0.18, where each class links its paper, but for
GradNorm (`gradnorm.py`) and the solver of Nash-MTL (`nash.py`). Left out, with the reason:

- torchjd's MoDo and SDMGrad: they need the Jacobians of two independent batches at every step.
- torchjd's Sum, Mean, Constant and Random *on gradients*: the same sums as on the losses.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

__all__ = ["BalancerConfig", "GradientSettings", "LossSettings"]

TaskWeights = dict[str, NonNegativeFloat]
"""Task name to weight; a task not named has weight 1."""
Share = Annotated[float, Field(ge=0, le=1)]


class _Settings(BaseModel):
    """Of every balancer.

    Attributes:
        report_every: Gradient norms and cosines are measured in every such micro-batch, where they
            cost a backward pass per task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    report_every: PositiveInt = 50


class LossSettings(_Settings):
    """Of a balancer that weighs losses."""


class GradientSettings(_Settings):
    """Of a balancer that works on the gradients of the tasks.

    Attributes:
        on: "features" meets the tasks where they part, with one backward pass through all that is
            shared; "encoder" at the outputs of the encoder, with a second pass through a decoder
            whose masks the diagnosis reads; "weights" in the encoder's parameters, with one pass
            per task.
    """

    on: Literal["features", "encoder", "weights"] = "features"

    @property
    def place(self) -> Literal["features", "weights"]:
        """What the balancer is given: feature maps, or parameters."""
        return "weights" if self.on == "weights" else "features"


class SumConfig(LossSettings):
    """Plain sum of the losses."""

    name: Literal["sum"] = "sum"


class MeanConfig(LossSettings):
    """Plain mean of the losses present."""

    name: Literal["mean"] = "mean"


class FixedConfig(LossSettings):
    """Sum with fixed weights."""

    name: Literal["fixed"] = "fixed"
    weights: TaskWeights = Field(default_factory=dict)


class RandomConfig(LossSettings):
    """Random weights that sum to 1, anew in every batch (arXiv:2111.10603)."""

    name: Literal["random"] = "random"


class UWConfig(LossSettings):
    """Uncertainty weighting (Kendall et al. 2018, arXiv:1705.07115)."""

    name: Literal["uw"] = "uw"


class IMTLLConfig(LossSettings):
    """IMTL-L, learned scales of the losses (Liu et al. 2021)."""

    name: Literal["imtl_l"] = "imtl_l"


class DWAConfig(LossSettings):
    """Dynamic weight average (Liu et al. 2019, arXiv:1803.10704).

    Attributes:
        window: Batches of a task that make up what the paper calls an epoch.
    """

    name: Literal["dwa"] = "dwa"
    temperature: PositiveFloat = 2.0
    window: PositiveInt = 100


class GeometricMeanConfig(LossSettings):
    """Geometric mean of the losses present, which must be positive."""

    name: Literal["geometric_mean"] = "geometric_mean"


class STCHConfig(LossSettings):
    """Smooth Tchebycheff scalarisation (arXiv:2402.19078).

    Attributes:
        mu: Smoothing; smaller is closer to the largest loss alone.
        weights: Preference; shares are taken of the tasks present.
        reference: Lowest loss thought possible, per task; 0 where not named.
    """

    name: Literal["stch"] = "stch"
    mu: PositiveFloat = 0.1
    weights: TaskWeights = Field(default_factory=dict)
    reference: dict[str, FiniteFloat] = Field(default_factory=dict)


class FAMOConfig(LossSettings):
    """Fast adaptive multitask optimisation (arXiv:2306.03792); costs one more forward pass.

    Attributes:
        min_losses: Lowest loss thought possible, per task; 0 where not named.
    """

    name: Literal["famo"] = "famo"
    lr: PositiveFloat = 0.025
    weight_decay: NonNegativeFloat = 1e-3
    min_losses: dict[str, FiniteFloat] = Field(default_factory=dict)


class COSMOSConfig(LossSettings):
    """Weighted sum that rewards losses along the preference (arXiv:2103.13392)."""

    name: Literal["cosmos"] = "cosmos"
    penalty: NonNegativeFloat = 1.0
    weights: TaskWeights = Field(default_factory=dict)


class PBIConfig(LossSettings):
    """Penalty-based boundary intersection (Zhang and Li 2007)."""

    name: Literal["pbi"] = "pbi"
    theta: NonNegativeFloat = 5.0
    weights: TaskWeights = Field(default_factory=dict)
    reference: dict[str, FiniteFloat] = Field(default_factory=dict)


class GradNormConfig(GradientSettings):
    """GradNorm (Chen et al. 2018, arXiv:1711.02257).

    Attributes:
        alpha: How strongly a task that lags behind gains; 0 makes all gradient norms equal.
        lr: Learning rate of the task weights (Adam).
        initial_batches: Batches of a task whose mean loss is its loss at the start.
    """

    name: Literal["gradnorm"] = "gradnorm"
    alpha: NonNegativeFloat = 1.5
    lr: PositiveFloat = 0.025
    initial_batches: PositiveInt = 10


class PCGradConfig(GradientSettings):
    """Gradient surgery (arXiv:2001.06782)."""

    name: Literal["pcgrad"] = "pcgrad"


class MGDAConfig(GradientSettings):
    """Smallest convex combination (Sener and Koltun 2018, arXiv:1810.04650)."""

    name: Literal["mgda"] = "mgda"
    epsilon: PositiveFloat = 1e-3
    max_iters: PositiveInt = 100


class CAGradConfig(GradientSettings):
    """Conflict-averse gradient (arXiv:2110.14048)."""

    name: Literal["cagrad"] = "cagrad"
    c: NonNegativeFloat = 0.5


class GradVacConfig(GradientSettings):
    """Gradient vaccine (arXiv:2010.05874)."""

    name: Literal["gradvac"] = "gradvac"
    beta: Share = 0.5


class GradDropConfig(GradientSettings):
    """Gradient sign dropout (arXiv:2010.06808).

    Attributes:
        leak: Share of each task's gradient that always passes; 0 where not named.
    """

    name: Literal["graddrop"] = "graddrop"
    leak: dict[str, Share] = Field(default_factory=dict)


class NashMTLConfig(GradientSettings):
    """Bargaining game (arXiv:2202.01017).

    Attributes:
        max_norm: Largest norm of the update relative to the root mean square of the tasks' gradient
            norms; 0 for no limit.
    """

    name: Literal["nash_mtl"] = "nash_mtl"
    max_norm: NonNegativeFloat = 1.0


class IMTLGConfig(GradientSettings):
    """IMTL-G, equal projections on all gradients (Liu et al. 2021)."""

    name: Literal["imtl_g"] = "imtl_g"


class AlignedMTLConfig(GradientSettings):
    """Independent component alignment (arXiv:2305.19000)."""

    name: Literal["aligned_mtl"] = "aligned_mtl"
    scale_mode: Literal["min", "median", "rmse"] = "min"


class FairGradConfig(GradientSettings):
    """Alpha-fair resource allocation (arXiv:2402.15638)."""

    name: Literal["fairgrad"] = "fairgrad"
    alpha: NonNegativeFloat = 1.0


class ConFIGConfig(GradientSettings):
    """Conflict-free direction of equal projections on the unit gradients (arXiv:2408.11104)."""

    name: Literal["config"] = "config"


class UPGradConfig(GradientSettings):
    """Projection on the dual cone, gradient by gradient (arXiv:2406.16232)."""

    name: Literal["upgrad"] = "upgrad"


class DualProjConfig(GradientSettings):
    """Projection of the mean gradient on the dual cone (arXiv:1706.08840)."""

    name: Literal["dualproj"] = "dualproj"


class KrumConfig(GradientSettings):
    """Multi-Krum: the gradients closest to the others; for 3 tasks or more."""

    name: Literal["krum"] = "krum"
    n_byzantine: NonNegativeInt = 0
    n_selected: PositiveInt = 1


class TrimmedMeanConfig(GradientSettings):
    """Mean without the extremes, element by element; for 2 * trim_number + 1 tasks or more."""

    name: Literal["trimmed_mean"] = "trimmed_mean"
    trim_number: PositiveInt = 1


class CRMOGMConfig(GradientSettings):
    """Weights of another method, smoothed over the batches (Zhou et al. 2022).

    Attributes:
        method: Whose weights.
        alpha: Share of the weights before.
    """

    name: Literal["cr_mogm"] = "cr_mogm"
    method: Literal["upgrad", "mgda", "pcgrad", "imtl_g", "dualproj"] = "mgda"
    alpha: Share = 0.9


class PCDConfig(GradientSettings):
    """Priority-constrained descent (arXiv:2606.29521).

    Attributes:
        primary: The task that comes first; the first of all tasks if not given.
        tau: Progress guaranteed to each of the others.
    """

    name: Literal["pcd"] = "pcd"
    primary: str | None = None
    tau: Share = 0.02
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.999


class ExcessMTLConfig(GradientSettings):
    """Excess risks (arXiv:2402.02009); sums squared gradients, so only in the weights."""

    name: Literal["excess_mtl"] = "excess_mtl"
    on: Literal["weights"] = "weights"
    robust_step_size: PositiveFloat = 1.0
    warmup_batches: NonNegativeInt = 100


BalancerConfig = Annotated[
    SumConfig
    | MeanConfig
    | FixedConfig
    | RandomConfig
    | UWConfig
    | IMTLLConfig
    | DWAConfig
    | GeometricMeanConfig
    | STCHConfig
    | FAMOConfig
    | COSMOSConfig
    | PBIConfig
    | GradNormConfig
    | PCGradConfig
    | MGDAConfig
    | CAGradConfig
    | GradVacConfig
    | GradDropConfig
    | NashMTLConfig
    | IMTLGConfig
    | AlignedMTLConfig
    | FairGradConfig
    | ConFIGConfig
    | UPGradConfig
    | DualProjConfig
    | KrumConfig
    | TrimmedMeanConfig
    | CRMOGMConfig
    | PCDConfig
    | ExcessMTLConfig,
    Field(discriminator="name"),
]
"""The balancer of a run, selected by name."""
