"""Refitting the diagnosis head on the frozen network.

With a hundred patients the encoder's schedule is far too short for the head, and the head's far
too long for the encoder; its inputs are a few hundred numbers per view, so they are kept in memory.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from medmtl.losses.diagnosis import known_binary_cross_entropy
from medmtl.networks.joint import COVARIATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np

    from medmtl.networks.diagnosis_head import DiagnosisHead
    from medmtl.networks.joint import JointNet

__all__ = [
    "HeadOptions",
    "HeadTable",
    "collect_head_inputs",
    "fit_head",
    "hold_standardised",
    "standardise_pooled",
]

_CONSTANT = 1e-4
"""Deviation below which a normalised feature says nothing."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeadOptions:
    """Numbers of the refit.

    Attributes:
        steps: Optimiser steps.
        batch: Views per step.
        peak_lr: Cosine from here to zero.
        weight_decay: Of AdamW.
        blur: Relative noise on the measurements: masks of unseen patients are less exact than
            those of the training patients.
        covariate_dropout: Share of views whose covariates are made unknown.
    """

    steps: int = 1000
    batch: int = 64
    peak_lr: float = 2e-3
    weight_decay: float = 0.05
    blur: float = 0.08
    covariate_dropout: float = 0.2


@dataclass(frozen=True, eq=False)
class HeadTable:
    """What the head reads, N views: pooled (N, D), measurements (N, M), findings (N, F)."""

    pooled: Tensor
    measurements: Tensor
    findings: Tensor
    covariates: dict[str, Tensor]


@torch.no_grad()
def collect_head_inputs(
    net: JointNet, views: Iterable[tuple[Tensor, dict[str, Tensor], Callable[[], object]]]
) -> HeadTable:
    """Run the network over views and keep what reaches its head.

    Args:
        net: In evaluation mode.
        views: For each view its findings (F,), covariates (1,) each, and a call that runs `net`.

    Raises:
        ValueError: If the network has no head.
    """
    head = _head(net)
    seen: list[tuple[Tensor, Tensor]] = []
    hook = head.register_forward_pre_hook(
        lambda _, inputs: seen.append((inputs[0].float(), inputs[1].float()))
    )
    known: list[tuple[Tensor, dict[str, Tensor]]] = []
    try:
        for findings, covariates, run in views:
            run()
            known.append((findings, covariates))
    finally:
        hook.remove()
    return HeadTable(
        torch.cat([pooled for pooled, _ in seen]),
        torch.cat([measurements for _, measurements in seen]),
        torch.stack([findings for findings, _ in known]),
        {name: torch.cat([facts[name] for _, facts in known]) for name in COVARIATES},
    )


def fit_head(
    net: JointNet, table: HeadTable, options: HeadOptions, rng: np.random.Generator
) -> None:
    """Train the head alone, in place, and leave the network in evaluation mode."""
    head = _head(net)
    head.facts.fit(head.known_facts(table.measurements, table.covariates))
    optimiser = torch.optim.AdamW(head.parameters(), weight_decay=options.weight_decay)
    head.train()
    size = options.batch
    for step in range(options.steps):
        for group in optimiser.param_groups:
            group["lr"] = options.peak_lr * 0.5 * (1 + math.cos(math.pi * step / options.steps))
        chosen = torch.from_numpy(rng.integers(len(table.findings), size=size))
        blur = 1 + options.blur * torch.randn(size, table.measurements.shape[1])
        is_dropped = torch.from_numpy(rng.random(size) < options.covariate_dropout)
        covariates = {
            name: torch.where(is_dropped, torch.nan, values[chosen])
            for name, values in table.covariates.items()
        }
        logits = head(table.pooled[chosen], table.measurements[chosen] * blur, covariates)
        loss = known_binary_cross_entropy(logits, table.findings[chosen])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    logger.info("head refitted, last loss %.4f", loss.item())
    net.eval()


@torch.no_grad()
def standardise_pooled(net: JointNet, table: HeadTable) -> None:
    """Let the norm before the projection give each pooled feature mean 0 and deviation 1.

    Features of a frozen encoder are large beside what differs between patients. They become
    z-scores over the training views, by the norm's own scale and shift, which stay as they are
    then; a feature that never changes is left out.
    """
    norm = _norm(net)
    if norm is None:
        return
    seen = nn.functional.layer_norm(table.pooled, norm.normalized_shape, eps=norm.eps)
    deviation = seen.std(dim=0, correction=0)
    scale = torch.where(deviation > _CONSTANT, 1 / deviation.clamp_min(_CONSTANT), 0.0)
    norm.weight.copy_(scale)
    norm.bias.copy_(-seen.mean(dim=0) * scale)
    hold_standardised(net)


def hold_standardised(net: JointNet) -> None:
    """Let no training change the scale and shift of `standardise_pooled`."""
    if (norm := _norm(net)) is not None:
        norm.requires_grad_(requires_grad=False)


def _norm(net: JointNet) -> nn.LayerNorm | None:
    project = _head(net).project
    return None if project is None else cast("nn.LayerNorm", cast("nn.Sequential", project)[0])


def _head(net: JointNet) -> DiagnosisHead:
    if net.head is None:
        raise ValueError("The network has no diagnosis head.")
    return net.head
