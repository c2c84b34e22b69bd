"""The U-Nets of nnU-Net: the names of their weights, and what a network of slices sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medmtl.networks.nnunet import PlainConvUNetConfig, ResidualEncoderUNetConfig

PLAIN = {
    "filters": (4, 8, 8), "convs": (2, 1, 1), "decoder_convs": (1, 2),
}  # fmt: skip


def plain(dimensions: int) -> PlainConvUNetConfig:
    return PlainConvUNetConfig.model_validate(
        PLAIN
        | {
            "kernels": [[3] * dimensions] * 3,
            "strides": [[1] * dimensions, [2] * dimensions, [1] * (dimensions - 1) + [2]],
        }
    )


def residual() -> ResidualEncoderUNetConfig:
    return ResidualEncoderUNetConfig(
        filters=(4, 8),
        kernels=((1, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (1, 2, 2)),
        blocks=(1, 2),
        decoder_convs=(1,),
    )


def test_plain_names_are_those_of_nnunet() -> None:
    """Read off a checkpoint that nnU-Net 2.8.1 wrote, its second names left out."""
    names = set(plain(3).build(in_channels=1, out_channels=3).state_dict())
    stacks = [
        "encoder.stages.0.0.convs.0", "encoder.stages.0.0.convs.1", "encoder.stages.1.0.convs.0",
        "encoder.stages.2.0.convs.0", "decoder.stages.0.convs.0", "decoder.stages.1.convs.0",
        "decoder.stages.1.convs.1",
    ]  # fmt: skip
    outer = [f"decoder.{kind}.{n}" for kind in ("transpconvs", "seg_layers") for n in (0, 1)]
    modules = [f"{stack}.{part}" for stack in stacks for part in ("conv", "norm")] + outer
    assert names == {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}


def test_residual_names_are_those_of_nnunet() -> None:
    names = set(residual().build(in_channels=1, out_channels=3).state_dict())
    with_bias = [
        "encoder.stem.convs.0", *(f"encoder.stages.0.blocks.0.conv{n}" for n in (1, 2)),
        *(f"encoder.stages.1.blocks.{block}.conv{n}" for block in (0, 1) for n in (1, 2)),
        "decoder.stages.0.convs.0",
    ]  # fmt: skip
    expected = {
        f"{stack}.{part}.{kind}"
        for stack in with_bias
        for part in ("conv", "norm")
        for kind in ("weight", "bias")
    }
    skip = "encoder.stages.1.blocks.0.skip.1"  # behind the pooling; its convolution has no bias
    expected |= {f"{skip}.conv.weight", f"{skip}.norm.weight", f"{skip}.norm.bias"}
    outer = ("decoder.transpconvs.0", "decoder.seg_layers.0")
    assert names == expected | {f"{one}.{kind}" for one in outer for kind in ("weight", "bias")}


@pytest.mark.parametrize("config", [plain(3), plain(2), residual()], ids=str)
def test_levels_have_the_stated_sizes(
    config: PlainConvUNetConfig | ResidualEncoderUNetConfig,
) -> None:
    net: Any = config.build(in_channels=1, out_channels=3).eval()
    sizes = tuple(2 * step for step in net.divisor)
    features = net.encode(torch.randn(1, 1, *sizes))
    assert tuple(feature.shape[1] for feature in features) == net.channels
    assert [level.shape for level in net.decode_levels(features)] == [
        f.shape for f in features[:-1]
    ]
    assert net.decode(features).shape == (1, 3, *sizes)


def test_a_network_of_slices_sees_each_slice_alone() -> None:
    net: Any = plain(2).build(in_channels=1, out_channels=2).eval()
    image = torch.randn(1, 1, 3, 8, 8)
    whole = net.decode(net.encode(image))
    alone = net.decode(net.encode(image[:, :, 1:2]))
    torch.testing.assert_close(whole[:, :, 1:2], alone, rtol=1e-5, atol=1e-5)


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="must fit 3 stages"):
        PlainConvUNetConfig.model_validate(
            PLAIN | {"kernels": [[3, 3]] * 3, "strides": [[1, 1]] * 2}
        )
    with pytest.raises(ValueError, match="all have 2 or all have 3"):
        PlainConvUNetConfig.model_validate(
            PLAIN | {"kernels": [[3, 3]] * 3, "strides": [[1, 1, 1]] * 3}
        )
