"""Each backbone by name, and the same numbers as the MONAI network that it takes apart."""

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from medmtl.networks.backbones import (
    Backbone,
    DynUNetConfig,
    SegResNetDSConfig,
    SwinUNETRConfig,
)
from medmtl.networks.joint import BackboneConfig
from medmtl.networks.planar import PlanarDynUNetConfig, SliceMixer

ADAPTER: TypeAdapter[BackboneConfig] = TypeAdapter(BackboneConfig)
SMALL: dict[str, tuple[BackboneConfig, tuple[int, int, int]]] = {
    "dynunet": (
        DynUNetConfig(
            filters=(4, 6, 8),
            kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
            strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        ),
        (4, 8, 12),
    ),
    "planar_dynunet": (PlanarDynUNetConfig(filters=(4, 6, 8), mixed_levels=1), (5, 8, 12)),
    "segresnet_ds": (
        SegResNetDSConfig(init_filters=4, blocks_down=(1, 1, 1), resolution_mm=(8.0, 1.5, 1.5)),
        (4, 8, 12),
    ),
    "swin_unetr": (
        SwinUNETRConfig(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2)),
        (32, 32, 64),
    ),
}


def build(name: str, *, in_channels: int = 1) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    config, shape = SMALL[name]
    net = config.build(in_channels=in_channels, out_channels=3).eval()
    return net, torch.randn(1, in_channels, *shape)


@pytest.mark.parametrize("name", SMALL)
def test_the_name_selects_the_backbone_and_survives_storage(name: str) -> None:
    config, _ = SMALL[name]
    assert config.name == name
    assert ADAPTER.validate_json(config.model_dump_json()) == config
    assert isinstance(ADAPTER.validate_python({"name": name}), type(config))


@pytest.mark.parametrize("name", SMALL)
def test_features_run_from_fine_to_coarse_and_logits_lie_on_the_grid(name: str) -> None:
    net, image = build(name)
    backbone: Backbone = net  # type: ignore[assignment]
    assert all(
        size % divisor == 0 for size, divisor in zip(image.shape[2:], backbone.divisor, strict=True)
    )
    with torch.no_grad():
        features = backbone.encode(image)
        logits = backbone.decode(features)
    assert tuple(feature.shape[1] for feature in features) == backbone.channels
    voxels = [feature[0, 0].numel() for feature in features]
    assert voxels == sorted(voxels, reverse=True)
    assert voxels[0] > voxels[-1]
    assert logits.shape == (1, 3, *image.shape[2:])


@pytest.mark.parametrize("name", ["dynunet", "segresnet_ds", "swin_unetr"])
def test_encoder_and_decoder_together_are_the_monai_network(name: str) -> None:
    net, image = build(name)
    with torch.no_grad():
        apart = net.decode(net.encode(image))  # type: ignore[operator]
        whole = net.net(image)  # type: ignore[operator]
    torch.testing.assert_close(apart, whole)


def test_planar_slices_start_alone_and_meet_in_the_mixers() -> None:
    net, image = build("planar_dynunet")
    mixers = [module for module in net.modules() if isinstance(module, SliceMixer)]
    with torch.no_grad():
        whole = net.decode(net.encode(image))  # type: ignore[operator]
        alone = net.net(image[:, :, 2])  # type: ignore[operator]
        torch.testing.assert_close(whole[:, :, 2], alone)
        nn.init.normal_(mixers[0].conv.weight)
        mixed = net.decode(net.encode(image))  # type: ignore[operator]
        other = image.clone()
        other[:, :, 1] = 0.0
        disturbed = net.decode(net.encode(other))  # type: ignore[operator]
    assert len(mixers) == 1
    assert not torch.allclose(mixed[:, :, 2], alone)
    assert not torch.allclose(mixed[:, :, 2], disturbed[:, :, 2])
    torch.testing.assert_close(mixed[:, :, 4], disturbed[:, :, 4])  # three slices reach one apart


def test_anisotropic_resolution_makes_planar_kernels() -> None:
    net, _ = build("segresnet_ds")
    assert net.divisor[0] < net.divisor[1]  # type: ignore[index]
    kernels = {
        module.kernel_size for module in net.modules() if isinstance(module, nn.Conv3d)
    }  # fmt: skip
    assert (1, 3, 3) in kernels


def test_an_unknown_name_or_option_is_refused() -> None:
    with pytest.raises(ValidationError, match="swin_unetr"):
        ADAPTER.validate_python({"name": "resnet"})
    with pytest.raises(ValidationError, match="Extra inputs"):
        ADAPTER.validate_python({"name": "dynunet", "filter": [1]})
