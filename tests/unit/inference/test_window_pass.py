"""The diagnosis of an imported network, patch by patch."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from medmtl.core.prediction import Covariates
from medmtl.inference.bundle_settings import CamSettings, RegionSettings
from medmtl.inference.window_pass import window_pass
from medmtl.inference.windows import WindowedVolume, class_shares
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import JointNet, NetworkConfig
from medmtl.networks.nnunet import PlainConvUNetConfig

BACKBONE = PlainConvUNetConfig(
    filters=(4, 8), kernels=((1, 1, 1),) * 2, strides=((1, 1, 1), (2, 2, 2)),
    convs=(1, 1), decoder_convs=(1,),
)  # fmt: skip
CPU = torch.device("cpu")


def network(**head: object) -> JointNet:
    values = {"pooling": ("global", "mask"), "measurements": "volumes", "embedding": 4} | head
    torch.manual_seed(0)
    config = NetworkConfig(
        backbone=BACKBONE,
        segments=("one", "two"),
        findings=("yes",),
        head=HeadConfig.model_validate(values),
    )
    return JointNet(config).eval().requires_grad_(requires_grad=False)


def volume(
    shape: tuple[int, int, int], patch: tuple[int, int, int], seed: int = 0
) -> WindowedVolume:
    torch.manual_seed(seed)
    return WindowedVolume(torch.randn(shape), 3 * torch.randn(3, *shape), (1.0, 1.0, 1.0), patch)


def test_one_patch_is_the_whole_network() -> None:
    net, one = network(), volume((8, 8, 8), (8, 8, 8))
    answer = window_pass(net, [one], covariates=Covariates(), cam=CamSettings(), device=CPU)
    shares = one.logits_ckji[None].softmax(dim=1)
    expected, measured, _ = net.diagnose(
        [net.pool(net.encode(one.image_kji[None, None]), shares)],
        [shares],
        spacing_mm=torch.ones(1, 1, 3),
        covariates=dict.fromkeys(
            ("age_years", "sex_male", "height_cm", "weight_kg"), torch.ones(1)
        ),
    )
    assert answer.finding_logits is not None
    assert expected is not None
    torch.testing.assert_close(answer.finding_logits, expected[0])
    torch.testing.assert_close(answer.measurements, measured[0])


def test_the_map_of_one_patch_is_layercam_of_the_whole_network() -> None:
    net, one = network(measurements=None, levels=(-1,)), volume((8, 8, 8), (8, 8, 8))
    cam = CamSettings(levels=(-1,))
    answer = window_pass(net, [one], covariates=Covariates(), cam_findings=[0], cam=cam, device=CPU)
    feature = net.encode(one.image_kji[None, None])[-1].detach().requires_grad_()
    shares = one.logits_ckji[None].softmax(dim=1)
    logits, _, _ = net.diagnose(
        [[net.poolings[0].sums(feature, shares, None)]],  # type: ignore[operator]
        [shares],
        spacing_mm=torch.ones(1, 1, 3),
        covariates={},
    )
    assert logits is not None
    (gradient,) = torch.autograd.grad(logits[0, 0], feature)
    layercam = (gradient.relu() * feature).sum(dim=1)[0].relu().detach()
    fine = torch.nn.functional.interpolate(
        layercam[None, None], size=(8, 8, 8), mode="trilinear", align_corners=False
    )
    expected = torch.nn.functional.adaptive_max_pool3d(fine / fine.max(), (8, 2, 2))[0, 0]
    torch.testing.assert_close(answer.cams[0][0], expected)


@pytest.mark.parametrize("shape", [(8, 8, 8), (12, 8, 20), (5, 9, 30)])
def test_every_voxel_counts_once(shape: tuple[int, int, int]) -> None:
    """Constant features have the constant as their mean, however many patches overlap."""
    net = network(measurements=None, pooling=("global",), levels=(0,))
    seen = []
    assert net.head is not None
    net.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    one = volume(shape, (4, 8, 8))
    net.encode_stem = lambda stem_bckji: [  # type: ignore[method-assign]
        torch.ones_like(stem_bckji).expand(-1, 4, -1, -1, -1), torch.ones(1, 8, 2, 4, 4)
    ]  # fmt: skip
    window_pass(net, [one], covariates=Covariates(), cam=CamSettings(), device=CPU)
    torch.testing.assert_close(seen[0], torch.ones(1, 4))


def test_regions_are_painted_in_their_order() -> None:
    regions = (
        RegionSettings(name="whole", paints=1, labels=(1, 2)),
        RegionSettings(name="core", paints=2, labels=(2,)),
    )
    logits = torch.tensor([[-1.0, 1.0, 1.0], [-1.0, -1.0, 1.0]]).reshape(2, 1, 1, 3)
    shares = class_shares(logits, regions)
    assert shares.argmax(dim=0).flatten().tolist() == [0, 1, 2]
    assert shares.sum(dim=0).flatten().tolist() == [1, 1, 1]


def test_axes_only_turn_the_backbone() -> None:
    """A network that takes (I, K, J) answers as the same network does to turned images."""
    torch.manual_seed(0)
    config = NetworkConfig(backbone=BACKBONE, segments=("one", "two"), axes=(2, 0, 1))
    net = JointNet(config).eval()
    plain = JointNet(config.model_copy(update={"axes": (0, 1, 2)})).eval()
    plain.load_state_dict(net.state_dict())
    image = torch.randn(1, 1, 4, 8, 6)
    turned = image.permute(0, 1, 4, 2, 3)
    answer = net.decode(net.encode(image))
    expected = plain.decode(plain.encode(turned)).permute(0, 1, 3, 4, 2)
    torch.testing.assert_close(answer, expected)
    sizes = [tuple(level.shape[2:]) for level in net.encode(image)]
    assert all(b == tuple(n // 2 for n in a) for a, b in pairwise(sizes))
