"""One forward pass gives masks and diagnosis; each can be switched off; batches do not matter."""

import math

import pytest
import torch
from torch import Tensor

from medmtl.networks.backbones import DynUNetConfig, SegResNetDSConfig
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import COVARIATES, JointNet, JointOutput, NetworkConfig

BACKBONE = DynUNetConfig(
    filters=(4, 6, 8),
    kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
)
HEAD = HeadConfig(
    levels=(-2, -1), measurements="cardiac", covariates=COVARIATES, embedding=8, hidden=8, members=2
)
CONFIG = NetworkConfig(
    backbone=BACKBONE,
    slice_context=1,
    volumes=("ed", "es"),
    segments=("right_ventricle", "myocardium", "left_ventricle"),
    findings=("dcm", "hcm"),
    head=HEAD,
)
SHAPE = (4, 32, 24)


def build(config: NetworkConfig = CONFIG) -> JointNet:
    torch.manual_seed(0)
    return JointNet(config).eval()


def inputs(batch: int) -> tuple[list[Tensor], Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    volumes = [torch.randn(batch, 1, *SHAPE, generator=generator) for _ in range(2)]
    spacing = torch.tensor([8.0, 1.5, 1.5]).expand(batch, 2, 3).clone()
    covariates = {name: torch.rand(batch, generator=generator) * 100 for name in COVARIATES}
    return volumes, spacing, covariates


def run(net: JointNet, batch: int = 2, rows: slice = slice(None)) -> JointOutput:
    volumes, spacing, covariates = inputs(batch)
    with torch.no_grad():
        output: JointOutput = net(
            [volume[rows] for volume in volumes],
            spacing_mm=spacing[rows],
            covariates={name: value[rows] for name, value in covariates.items()},
        )
    return output


def changed(**fields: object) -> NetworkConfig:
    return NetworkConfig.model_validate(CONFIG.model_dump() | fields)


def findings_of(output: JointOutput) -> Tensor:
    assert output.finding_logits is not None
    return output.finding_logits


def test_one_pass_gives_masks_and_diagnosis() -> None:
    net = build()
    output = run(net)
    assert [tuple(logits.shape) for logits in output.segmentation_logits] == [(2, 4, *SHAPE)] * 2
    assert findings_of(output).shape == (2, 2)
    assert output.measurements.shape == (2, len(net.measurement_names))
    assert output.is_empty.shape == (2, 2, 3)
    assert torch.isfinite(findings_of(output)).all()


def test_the_configuration_survives_storage() -> None:
    for backbone in (BACKBONE, SegResNetDSConfig()):
        config = CONFIG.model_copy(update={"backbone": backbone})
        assert NetworkConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("row", [0, 1])
def test_a_batch_of_two_equals_two_batches_of_one(row: int) -> None:
    net = build()
    together, alone = run(net), run(net, rows=slice(row, row + 1))
    torch.testing.assert_close(
        findings_of(together)[row], findings_of(alone)[0], rtol=1e-4, atol=1e-4
    )
    for volume in range(2):
        torch.testing.assert_close(
            together.segmentation_logits[volume][row],
            alone.segmentation_logits[volume][0],
            rtol=1e-4,
            atol=1e-4,
        )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_pooling_tile_by_tile_in_any_order_gives_the_same_diagnosis(order: tuple[int, ...]) -> None:
    net = build()
    volumes, spacing, covariates = inputs(1)
    probabilities, pooled = [], []
    with torch.no_grad():
        for volume in volumes:
            features = net.encode(volume)
            masks = net.decode(features).softmax(dim=1)
            tiles = [
                net.pool(
                    [f[..., s * n : s * n + s] for f in features for s in [f.shape[-1] // 3]],
                    masks[..., 8 * n : 8 * n + 8],
                )
                for n in range(3)
            ]
            probabilities.append(masks)
            pooled.append([a + b + c for a, b, c in zip(*[tiles[n] for n in order], strict=True)])
        logits, _, _ = net.diagnose(
            pooled, probabilities, spacing_mm=spacing, covariates=covariates
        )
        whole = net(volumes, spacing_mm=spacing, covariates=covariates)
    assert logits is not None
    torch.testing.assert_close(logits, findings_of(whole), rtol=1e-4, atol=1e-4)


def test_a_weight_of_one_changes_nothing() -> None:
    net = build()
    volumes, _, _ = inputs(1)
    with torch.no_grad():
        features = net.encode(volumes[0])
        masks = net.decode(features).softmax(dim=1)
        plain = net.pool(features, masks)
        weighted = net.pool(features, masks, torch.ones(SHAPE))
    for a, b in zip(plain, weighted, strict=True):
        torch.testing.assert_close(a.numerator, b.numerator)
        torch.testing.assert_close(a.denominator, b.denominator)


def test_diagnosis_can_be_switched_off() -> None:
    for config in (changed(head=None), changed(findings=())):
        output = run(build(config))
        assert output.finding_logits is None
        assert len(output.segmentation_logits) == 2
        assert output.measurements.shape == (2, 0)


def test_segmentation_can_be_switched_off() -> None:
    head = HeadConfig(pooling=("global", "attention", "mask"), embedding=8, hidden=8)
    output = run(build(changed(has_segmentation=False, head=head)))
    assert output.segmentation_logits == []
    assert torch.isfinite(findings_of(output)).all()


def test_a_head_of_measurements_alone_reads_the_masks_only() -> None:
    output = run(build(changed(head=HEAD.model_copy(update={"embedding": 0}))))
    assert findings_of(output).shape == (2, 2)
    assert output.is_empty.shape == (2, 2, 0)


def test_unknown_covariates_are_allowed_and_known_ones_matter() -> None:
    net = build()
    volumes, spacing, known = inputs(1)
    unknown = {name: torch.full((1,), math.nan) for name in COVARIATES}
    with torch.no_grad():
        with_all = findings_of(net(volumes, spacing_mm=spacing, covariates=known))
        without = findings_of(net(volumes, spacing_mm=spacing, covariates=unknown))
    assert torch.isfinite(without).all()
    assert not torch.allclose(with_all, without)


def test_an_empty_organ_is_told_apart_by_volume() -> None:
    net = build()
    volumes, spacing, covariates = inputs(1)
    full = torch.full((1, 4, *SHAPE), 0.25)
    empty = full.clone()
    empty[:, 2] = 0.0
    with torch.no_grad():
        pooled = [
            net.pool(net.encode(volume), masks)
            for volume, masks in zip(volumes, (full, empty), strict=True)
        ]
        _, _, is_empty = net.diagnose(
            pooled, [full, empty], spacing_mm=spacing, covariates=covariates
        )
    assert is_empty.tolist() == [[[False, False, False], [False, True, False]]]


@pytest.mark.parametrize("is_detached", [False, True])
def test_detached_measurements_let_no_gradient_into_the_masks(is_detached: bool) -> None:
    head = HEAD.model_copy(update={"embedding": 0, "detach_measurements": is_detached})
    net = build(changed(head=head))
    _, spacing, covariates = inputs(1)
    # A slab of left ventricle in its wall, so that there is something to measure.
    masks = torch.full((1, 4, *SHAPE), 0.01)
    masks[:, 2, :, 6:26, 2:22] = 0.97
    masks[:, 3, :, 10:22, 6:18] = 0.97
    masks = (masks / masks.sum(dim=1, keepdim=True)).requires_grad_()
    logits, _, _ = net.diagnose([[], []], [masks, masks], spacing_mm=spacing, covariates=covariates)
    assert logits is not None
    gradients = torch.autograd.grad(logits.sum(), masks, allow_unused=True)
    reached: list[Tensor] = list(filter(torch.is_tensor, gradients))
    assert len(reached) == (0 if is_detached else 1)
    for gradient in reached:
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0


def test_the_diagnosis_loss_reaches_the_shared_encoder_and_the_masks() -> None:
    net = build()
    volumes, spacing, covariates = inputs(1)
    output = net(volumes, spacing_mm=spacing, covariates=covariates)
    findings_of(output).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in net.backbone.parameters()]
    used = [gradient for gradient in gradients if gradient is not None]
    assert all(torch.isfinite(gradient).all() for gradient in used)
    first = next(net.backbone.parameters()).grad
    assert first is not None
    assert first.abs().sum() > 0


def test_covariate_names_are_those_of_the_network() -> None:
    net = build()
    volumes, spacing, covariates = inputs(1)
    del covariates["age_years"]
    with pytest.raises(KeyError, match="age_years"):
        net(volumes, spacing_mm=spacing, covariates=covariates)
