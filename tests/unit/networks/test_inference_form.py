"""A network in its inference form says what it said before, by fused layers only."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.fast_layers import FastConv
from medmtl.networks.inference_form import InferenceForm
from medmtl.networks.joint import BackboneConfig, JointNet, NetworkConfig
from medmtl.networks.monai_nets import MonaiNetConfig
from tests.unit.networks.test_backbones import SMALL
from tests.unit.networks.test_nnunet import plain, residual

Shape = tuple[int, int, int]
STRIDES: Any = [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
CUBE: Shape = (8, 12, 16)


def of_monai(network: Any, **arguments: Any) -> MonaiNetConfig:
    return MonaiNetConfig(network=network, arguments=arguments)


DYNUNET = {
    "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2],
    "filters": [4, 6, 8], "norm_name": "instance",
}  # fmt: skip
NETWORKS: dict[str, tuple[BackboneConfig, Shape]] = {
    **SMALL,
    "nnU-Net": (plain(3), CUBE),
    "nnU-Net of slices": (plain(2), (1, 8, 12)),
    "nnU-Net, residual": (residual(), (8, 16, 16)),
    "MONAI SegResNet": (of_monai("SegResNet", init_filters=8, blocks_down=[1, 1, 1],
                                 blocks_up=[1, 1]), CUBE),
    "MONAI SegResNetDS": (of_monai("SegResNetDS", init_filters=8, blocks_down=[1, 1, 1]), CUBE),
    "MONAI DynUNet": (of_monai("DynUNet", **DYNUNET), CUBE),
    "MONAI UNet": (of_monai("UNet", channels=[4, 6, 8], strides=[2, 2], num_res_units=2,
                            norm="batch"), CUBE),
}  # fmt: skip
TRACED = set(NETWORKS) - {"swin_unetr", "MONAI SegResNetDS"}


def build(backbone: BackboneConfig, **settings: Any) -> JointNet:
    """With norms that learned something."""
    torch.manual_seed(0)
    net = JointNet(NetworkConfig(backbone=backbone, segments=("a", "b"), **settings)).eval()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for values in (module.running_mean, module.weight, module.bias):
                nn.init.normal_(values)  # type: ignore[arg-type]  # there are statistics
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    return net


def check(net: JointNet, image: Tensor, levels: tuple[int, ...]) -> InferenceForm:
    form = InferenceForm(net, levels=levels)
    assert form.agrees(net)
    with torch.no_grad():
        stem = net.context(image)
        features, expected = net.torch_pass(stem)
        kept = stem.clone()
        for _ in range(2):  # weights are packed at the first
            found, logits = form(stem)
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
            assert logits.is_contiguous()
            assert (logits.argmax(1) == expected.argmax(1)).float().mean() >= 0.9999
            assert len(found) == len(features)
            for level, (own, other) in enumerate(zip(found, features, strict=True)):
                if level in levels:
                    torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)
                else:
                    assert own.numel() == 0
        assert torch.equal(stem, kept)
    return form


def test_two_threads_may_come_first_at_the_same_time() -> None:
    """Weights are packed at the first input, by one of them."""
    backbone, shape = NETWORKS["MONAI DynUNet"]
    net = build(backbone)
    stem = net.context(torch.randn(1, 1, *shape)).detach()
    with torch.no_grad():
        expected = net.torch_pass(stem)[1]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            form, begin = InferenceForm(net, levels=()), threading.Barrier(4)

            def answer(form: InferenceForm, begin: threading.Barrier) -> Tensor:
                begin.wait()
                with torch.no_grad():
                    return form(stem)[1]

            with ThreadPoolExecutor(4) as pool:
                asked = [pool.submit(answer, form, begin) for _ in range(4)]
            for one in asked:
                torch.testing.assert_close(one.result(), expected, rtol=1e-4, atol=1e-4)
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("keeps", [False, True])
def test_the_answers_are_those_of_the_network(name: str, *, keeps: bool) -> None:
    backbone, shape = NETWORKS[name]
    net = build(backbone)
    depth = len(net.backbone.channels)  # type: ignore[arg-type]
    form = check(net, torch.randn(1, 1, *shape), tuple(range(depth)) if keeps else ())
    assert isinstance(form.run, torch.fx.GraphModule) == (name in TRACED)


@pytest.mark.parametrize("sharing", ["soft", "cross_stitch"])
def test_two_encoders(sharing: Any) -> None:
    backbone, shape = SMALL["segresnet_ds"]
    check(build(backbone, sharing=sharing), torch.randn(1, 1, *shape), (3, 5))


def test_other_sizes_several_images_axes_and_slices_as_channels() -> None:
    backbone, _ = NETWORKS["nnU-Net"]
    net = build(backbone, axes=(2, 0, 1), slice_context=1)
    form = check(net, torch.randn(2, 1, 8, 8, 8), (1,))
    with torch.no_grad():
        stem = net.context(torch.randn(1, 1, 8, 16, 8))
        torch.testing.assert_close(form(stem)[1], net.torch_pass(stem)[1], rtol=1e-4, atol=1e-4)


def test_a_network_without_masks() -> None:
    backbone, shape = SMALL["dynunet"]
    net = build(backbone, has_segmentation=False, findings=("x",), head=HeadConfig(levels=(-1,)))
    check(net, torch.randn(1, 1, *shape), (2,))


@pytest.mark.parametrize("name", sorted(TRACED))
def test_no_convolution_takes_another_way_and_what_can_be_is_fused(name: str) -> None:
    backbone, shape = NETWORKS[name]
    net = build(backbone)
    stem = torch.randn(1, 1, *shape)
    form = InferenceForm(net, levels=())
    with torch.no_grad():
        form(stem)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            form(stem)
    called = [event.key for event in profile.key_averages()]
    assert any("mkldnn::_convolution_pointwise" in key for key in called)
    assert not [key for key in called if "slow_conv" in key or key == "aten::conv3d"]
    assert "aten::cat" not in called or name == "MONAI UNet"
    if name in ("dynunet", "planar_dynunet"):  # every norm follows a convolution
        assert "aten::native_batch_norm" not in called


def test_the_network_keeps_its_weights_and_its_gradients() -> None:
    backbone, shape = SMALL["dynunet"]
    net = build(backbone)
    image = torch.randn(1, 1, *shape)
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    before = torch.autograd.grad(net.torch_pass(image)[1].square().sum(), list(net.parameters()))
    net.engine = check(net, image, ())
    after = torch.autograd.grad(net.torch_pass(image)[1].square().sum(), list(net.parameters()))
    assert net.state_dict().keys() == kept.keys()
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


class _Odd(nn.Module):
    """A map that is read after the sum, and one that an activation changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 1)
        self.last = nn.Conv3d(4, 3, (1, 3, 3), padding=(0, 1, 1), padding_mode="replicate")
        self.relu = nn.ReLU(inplace=True)
        self.channels, self.divisor = (4, 4), (1, 1, 1)

    def encode(self, image: Tensor) -> list[Tensor]:
        x = self.first(image)
        y = self.relu(x)
        total = self.second(y) + x
        return [total, total * y + x]

    def decode(self, features: list[Tensor]) -> Tensor:
        x = self.second(features[1])
        both = self.second(x) + x
        logits: Tensor = self.last(both + x)
        return logits


def test_a_map_that_is_read_again_is_not_written_over() -> None:
    net = build(SMALL["dynunet"][0])
    net.backbone = _Odd().eval()
    check(net, torch.randn(1, 1, 4, 6, 8), (0, 1))


@pytest.mark.parametrize("fault", [0.0, RuntimeError("no such step")])
def test_a_form_that_answers_otherwise_or_fails_is_found_out(
    monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    def forward(_: FastConv, x: Tensor, **__: Any) -> Tensor:
        if isinstance(fault, RuntimeError):
            raise fault
        answer: Tensor = x * fault
        return answer

    net = build(SMALL["dynunet"][0])
    monkeypatch.setattr(FastConv, "forward", forward)
    assert not InferenceForm(net, levels=()).agrees(net)


def test_half_precision_has_no_such_form() -> None:
    net = build(SMALL["dynunet"][0])
    assert InferenceForm.fits(net)
    assert not InferenceForm.fits(net.half())
    assert not any(isinstance(module, FastConv) for module in net.modules())
