"""Two encoders by one switch: tied by their weights, or exchanging features."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from medmtl.inference.bundle import load_bundle, shipped_bundles
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import JointNet, JointOutput, NetworkConfig
from medmtl.networks.soft_sharing import CrossStitch

BACKBONES = {
    "dynunet": {
        "name": "dynunet",
        "filters": (4, 6, 8),
        "kernels": ((3, 3, 3),) * 3,
        "strides": ((1, 1, 1), (2, 2, 2), (2, 2, 2)),
    },
    "planar_dynunet": {"name": "planar_dynunet", "filters": (4, 6, 8)},
    "segresnet_ds": {"name": "segresnet_ds", "init_filters": 8, "blocks_down": (1, 1, 1)},
}
SPACING = torch.tensor([[[8.0, 1.5, 1.5]]])
"""(B, V, 3) along K J I."""


def build(sharing: str, backbone: str = "dynunet", **fields: object) -> JointNet:
    torch.manual_seed(0)
    config = NetworkConfig.model_validate(
        {
            "backbone": BACKBONES[backbone],
            "segments": ("liver", "spleen"),
            "findings": ("lesion",),
            "head": HeadConfig(pooling=("global",), embedding=8, hidden=8),
            "sharing": sharing,
        }
        | fields
    )
    return JointNet(config).eval()


def image() -> Tensor:
    return torch.randn(1, 1, 8, 16, 16, generator=torch.Generator().manual_seed(1))


def run(net: JointNet, volume: Tensor) -> JointOutput:
    output: JointOutput = net([volume], spacing_mm=SPACING, covariates={})
    return output


def findings_of(output: JointOutput) -> Tensor:
    assert output.finding_logits is not None
    return output.finding_logits


def not_reached(net: JointNet, output: JointOutput) -> list[str]:
    both = output.segmentation_logits[0].mean() + findings_of(output).mean()
    torch.autograd.backward(both)
    return [name for name, weight in net.named_parameters() if weight.grad is None]


def test_hard_sharing_is_the_default_and_adds_no_weights() -> None:
    assert NetworkConfig().sharing == "hard"
    assert not [name for name in build("hard").state_dict() if "partner" in name]
    assert build("hard").sharing_penalty() is None


def test_bundles_written_before_still_load() -> None:
    bundles = shipped_bundles()
    assert bundles
    for folder in bundles.values():
        assert load_bundle(folder).settings.network.sharing == "hard"


@pytest.mark.parametrize("sharing", ["soft", "cross_stitch"])
@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_each_encoder_has_its_own_weights_and_no_second_decoder(
    sharing: str, backbone: str
) -> None:
    hard, net = build("hard", backbone), build(sharing, backbone)
    output = run(net, image())
    assert output.segmentation_logits[0].shape == (1, 3, 8, 16, 16)
    assert not_reached(net, output) == not_reached(hard, run(hard, image()))
    encoder = sum(p.numel() for p in net.partner.parameters()) if net.partner else 0
    assert 0 < encoder < sum(p.numel() for p in net.backbone.parameters()) + 500


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_untied_at_first_both_encoders_say_the_same_as_one(backbone: str) -> None:
    """The partner starts as a copy; with stitches that do not mix, nothing else differs."""
    hard, soft, stitched = (build(kind, backbone) for kind in ("hard", "soft", "cross_stitch"))
    soft.load_state_dict(hard.state_dict(), strict=False)
    stitched.load_state_dict(hard.state_dict(), strict=False)
    assert stitched.partner is not None
    for net in (soft, stitched):
        assert net.partner is not None
        for name, weight in net.partner.encoder.named_parameters():
            weight.data.copy_(hard.backbone.get_parameter(name))
    for stitch in stitched.partner.stitches:
        assert isinstance(stitch, CrossStitch)
        stitch.mixture.data.copy_(torch.eye(2)[..., None].expand_as(stitch.mixture))
    with torch.no_grad():
        wanted = run(hard, image())
        for net in (soft, stitched):
            found = run(net, image())
            torch.testing.assert_close(findings_of(found), findings_of(wanted))
            torch.testing.assert_close(
                found.segmentation_logits[0], wanted.segmentation_logits[0], rtol=1e-4, atol=1e-5
            )


def test_tied_encoders_meet_only_in_the_penalty() -> None:
    net = build("soft")
    torch.autograd.backward(findings_of(run(net, image())).sum())
    assert all(p.grad is None for p in net.backbone.parameters())
    penalty = net.sharing_penalty()
    assert penalty is not None
    assert float(penalty.detach()) == 0.0  # the partner starts as a copy
    assert net.partner is not None
    weight = next(net.partner.encoder.parameters())
    with torch.no_grad():
        weight.view(-1)[0] += 3.0
    moved = net.sharing_penalty()
    assert moved is not None
    assert float(moved.detach()) == pytest.approx(9.0, rel=1e-5)
    net.zero_grad()
    torch.autograd.backward(moved)
    other = next(net.backbone.parameters())
    assert weight.grad is not None
    assert other.grad is not None
    assert float(weight.grad.view(-1)[0]) == pytest.approx(6.0, rel=1e-5)  # pulled back,
    assert float(other.grad.view(-1)[0]) == pytest.approx(-6.0, rel=1e-5)  # and the other after it


def test_a_stitch_mixes_channel_by_channel() -> None:
    stitch = CrossStitch(2)
    first, second = torch.ones(1, 2, 1, 1, 1), torch.full((1, 2, 1, 1, 1), 11.0)
    mixed = stitch(first, second)
    torch.testing.assert_close(mixed[0], torch.full_like(first, 0.9 + 1.1))
    torch.testing.assert_close(mixed[1], torch.full_like(first, 0.1 + 9.9))
    stitch.mixture.data[0, 1, 0] = 0.0
    assert stitch(first, second)[0].flatten().tolist() == pytest.approx([0.9, 2.0])


def test_through_stitches_a_diagnosis_reaches_both_encoders() -> None:
    net = build("cross_stitch")
    torch.autograd.backward(findings_of(run(net, image())).sum())
    stem = net.backbone.get_parameter("net.input_block.conv1.conv.weight")
    assert stem.grad is not None
    assert stem.grad.abs().sum() > 0


def test_stitches_need_an_encoder_in_stages() -> None:
    with pytest.raises(ValidationError, match="swin_unetr"):
        NetworkConfig.model_validate(
            {"backbone": {"name": "swin_unetr"}, "sharing": "cross_stitch"}
        )
