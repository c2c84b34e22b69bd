"""Which weights of a trained network learn on, and how fast."""

from __future__ import annotations

import pytest
from torch import nn

from medmtl.networks.backbones import DynUNetConfig
from medmtl.networks.joint import BackboneConfig, JointNet, NetworkConfig
from medmtl.networks.nnunet import PlainConvUNetConfig
from medmtl.networks.planar import PlanarDynUNetConfig
from medmtl.training.encoder_layers import encoder_levels, learning_scales
from medmtl.training.loop import train_steps
from medmtl.training.state import FitOptions, TrainState
from medmtl.training.step import TaskLosses

PLAIN = PlainConvUNetConfig(
    filters=(4, 8, 8), kernels=((3, 3),) * 3, strides=((1, 1), (2, 2), (2, 2)),
    convs=(1, 1, 1), decoder_convs=(1, 1),
)  # fmt: skip
OTHERS = (
    DynUNetConfig(
        filters=(4, 4, 4), kernels=((3, 3, 3),) * 3, strides=((1, 1, 1), (2, 2, 2), (2, 2, 2))
    ),
    PlanarDynUNetConfig(filters=(4, 4, 4)),
)


def network(backbone: BackboneConfig) -> JointNet:
    return JointNet(NetworkConfig(backbone=backbone, segments=("one",)))


def test_levels_are_the_stages_of_nnunet() -> None:
    levels = encoder_levels(network(PLAIN))
    for name, level in levels.items():
        assert name.startswith(f"backbone.encoder.stages.{level}.")
    assert set(levels.values()) == {0, 1, 2}


@pytest.mark.parametrize("backbone", OTHERS, ids=lambda one: one.name)
def test_any_backbone_has_levels_and_a_decoder_without(backbone: BackboneConfig) -> None:
    net = network(backbone)
    needed = [weight.requires_grad for weight in net.parameters()]
    levels = encoder_levels(net)
    assert set(levels.values()) == {0, 1, 2}
    assert set(levels) < {name for name, _ in net.named_parameters()}
    assert [weight.requires_grad for weight in net.parameters()] == needed
    assert net.training


def test_rates_fall_from_the_coarsest_level_to_the_finest() -> None:
    net = network(PLAIN)
    scales = learning_scales(net, unfreeze=None, decay=0.5)
    of_stage = [scales[f"backbone.encoder.stages.{n}.0.convs.0.conv.weight"] for n in range(3)]
    assert of_stage == [0.125, 0.25, 0.5]
    assert scales["backbone.decoder.seg_layers.1.weight"] == 0.5
    assert all(weight.requires_grad for weight in net.parameters())


def test_only_the_coarsest_levels_and_the_decoder_are_unfrozen() -> None:
    net = network(PLAIN)
    learning_scales(net, unfreeze=1, decay=0.5)
    frozen = {name for name, weight in net.named_parameters() if not weight.requires_grad}
    assert frozen == {n for n, level in encoder_levels(net).items() if level < 2}


def test_a_scaled_weight_moves_by_its_share() -> None:
    """The first step of AdamW is as long as the learning rate, whatever the gradient."""
    model = nn.ModuleDict(
        {"slow": nn.Linear(1, 1, bias=False), "fast": nn.Linear(1, 1, bias=False)}
    )
    before = {name: weight.item() for name, weight in model.named_parameters()}
    options = FitOptions(steps=1, peak_lr=0.1, warmup_steps=0, weight_decay=0.0, ema_decay=0.0)
    state = TrainState.start(model, options, scales={"slow.weight": 0.25})

    def objective(net: nn.Module, _: object) -> TaskLosses:
        return TaskLosses({"sum": sum(weight.sum() for weight in net.parameters())})  # type: ignore[dict-item]

    next(train_steps(state, iter([None]), objective, options))
    moved = {name: before[name] - weight.item() for name, weight in model.named_parameters()}
    lr = options.lr(0)
    assert moved["fast.weight"] == pytest.approx(lr, rel=1e-4)
    assert moved["slow.weight"] == pytest.approx(0.25 * lr, rel=1e-4)
