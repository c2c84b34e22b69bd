"""Refitting the diagnosis head on a frozen network."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from medmtl.networks.backbones import DynUNetConfig
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import COVARIATES, JointNet, NetworkConfig
from medmtl.training.head import HeadOptions, HeadTable, collect_head_inputs, fit_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

SPACING_MM = torch.tensor([[[4.0, 4.0, 4.0]]])
QUICK = HeadOptions(steps=250, batch=32, peak_lr=1e-2, blur=0.02)


def network(*, head: HeadConfig | None = None) -> JointNet:
    torch.manual_seed(0)
    return JointNet(
        NetworkConfig(
            backbone=DynUNetConfig(
                filters=(4, 4, 4), kernels=((3, 3, 3),) * 3, strides=((1, 1, 1),) + ((2, 2, 2),) * 2
            ),
            segments=("lung", "heart"),
            findings=("large_heart", "old"),
            head=head
            or HeadConfig(
                levels=(-1,), pooling=("global",), measurements="torso", covariates=("age_years",),
                embedding=0, hidden=8, dropout=0.0,
            ),
        )
    ).eval()  # fmt: skip


def planted(views: int = 300, *, unknown_age: float = 0.0) -> HeadTable:
    """The heart is large from 600 mL, the patient old from 60 years."""
    rng = np.random.default_rng(0)
    lung, heart = rng.uniform(2000, 6000, views), rng.uniform(300, 900, views)
    age = rng.uniform(20, 100, views)
    findings = np.stack([heart > 600, age > 60], axis=1).astype(np.float32)
    known_age = np.where(rng.random(views) < unknown_age, np.nan, age)
    covariates = {name: torch.full((views,), math.nan) for name in COVARIATES}
    covariates["age_years"] = torch.from_numpy(known_age).float()
    measurements = np.stack([lung, heart, np.full(views, np.nan)], axis=1)
    return HeadTable(
        torch.zeros(views, 4),
        torch.from_numpy(measurements).float(),
        torch.from_numpy(findings),
        covariates,
    )


@torch.no_grad()
def answers(net: JointNet, heart_ml: list[float], age: list[float]) -> Tensor:
    assert net.head is not None
    count = len(heart_ml)
    measurements = torch.tensor([[4000.0, heart, math.nan] for heart in heart_ml])
    covariates = {name: torch.full((count,), math.nan) for name in COVARIATES}
    covariates["age_years"] = torch.tensor(age)
    logits: Tensor = net.head(torch.zeros(count, 4), measurements, covariates)
    return logits.sigmoid()


def test_a_planted_rule_is_learned_and_the_network_is_left_alone() -> None:
    net = network()
    before = {name: value.clone() for name, value in net.backbone.state_dict().items()}
    fit_head(net, planted(), QUICK, np.random.default_rng(1))
    found = answers(net, [400, 500, 700, 800], [30, 80, 30, 80])
    assert (found[:, 0] > 0.5).tolist() == [False, False, True, True]
    assert (found[:, 1] > 0.5).tolist() == [False, True, False, True]
    assert not net.training
    after = net.backbone.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_unknown_covariates_and_unknown_findings_are_allowed() -> None:
    table = planted(unknown_age=0.4)
    table.findings[::3, 1] = math.nan
    net = network()
    fit_head(net, table, QUICK, np.random.default_rng(1))
    found = answers(net, [400, 800], [math.nan, math.nan])
    assert torch.isfinite(found).all()
    assert (found[:, 0] > 0.5).tolist() == [False, True]
    assert ((found[:, 1] > 0.05) & (found[:, 1] < 0.95)).all()  # nobody can know


def test_a_network_without_a_head_is_refused() -> None:
    net = JointNet(network().config.model_copy(update={"head": None}))
    with pytest.raises(ValueError, match="no diagnosis head"):
        fit_head(net, planted(), QUICK, np.random.default_rng(0))


def test_what_is_collected_gives_the_same_answer_as_the_whole_network() -> None:
    net = network(head=HeadConfig(levels=(-2, -1), measurements="torso", embedding=4, hidden=4))
    facts = {name: torch.tensor([math.nan]) for name in COVARIATES}
    images = [torch.randn(1, 1, 8, 8, 8) for _ in range(3)]
    seen: list[Tensor] = []

    def run(image: Tensor) -> None:
        output = net([image], spacing_mm=SPACING_MM, covariates=facts)
        seen.append(output.finding_logits)

    def views() -> Iterator[tuple[Tensor, dict[str, Tensor], Callable[[], object]]]:
        for number, image in enumerate(images):
            yield torch.tensor([float(number), math.nan]), facts, partial(run, image)

    table = collect_head_inputs(net, views())
    assert net.head is not None
    assert table.findings[:, 0].tolist() == [0.0, 1.0, 2.0]
    with torch.no_grad():
        logits = net.head(table.pooled, table.measurements, table.covariates)
    torch.testing.assert_close(logits, torch.cat(seen))
    assert not net.head._forward_pre_hooks
