"""Losses of both tasks: unknown gives no loss and no gradient; deep supervision; precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from medmtl.data.samples import Batch, collate
from medmtl.networks.backbones import DynUNetConfig
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import JointNet
from medmtl.networks.planar import PlanarDynUNetConfig
from medmtl.training.deliver import bundle_weights
from medmtl.training.memory import OutOfMemoryError, memory_errors
from medmtl.training.objective import JointObjective, freeze_batch_norm
from tests.tiny_samples import NETWORK, sample


def batch(**changes: object) -> Batch:
    torch.manual_seed(7)
    other = JointNet(NETWORK).eval()  # whose answers are the truth here
    studies = [replace(sample(seed, other), **changes) for seed in (0, 1)]  # type: ignore[arg-type]
    return collate(studies, divisor=(4, 4, 4))


def net() -> JointNet:
    torch.manual_seed(1)
    return JointNet(NETWORK).train()


NO_MASKS = {"labels": (None,), "is_annotated": torch.zeros(1, 2, dtype=torch.bool)}
NO_FINDINGS = {"findings": torch.full((2,), torch.nan)}


def test_a_task_that_a_batch_does_not_know_has_no_loss() -> None:
    objective = JointObjective()
    assert set(objective(net(), batch()).by_task) == {"segmentation", "diagnosis"}
    assert set(objective(net(), batch(**NO_MASKS)).by_task) == {"diagnosis"}
    assert set(objective(net(), batch(**NO_FINDINGS)).by_task) == {"segmentation"}
    assert not objective(net(), batch(**NO_MASKS, **NO_FINDINGS)).by_task


def test_a_teacher_is_heard_where_a_study_has_no_labels_and_only_there() -> None:
    """Beside a labelled study as well, and for the segments that were not looked for."""
    torch.manual_seed(2)
    objective = JointObjective(teacher=JointNet(NETWORK).eval())
    output, labelled = JointObjective().forward(net(), batch()), batch()
    (logits,) = output.segmentation_logits

    def gradient(losses: JointObjective, *looked_for: list[bool]) -> torch.Tensor:
        """Of the loss, by study and class."""
        loss = losses.segmentation(
            output, replace(labelled, is_annotated=torch.tensor(looked_for)[:, None])
        )
        assert loss is not None
        (found,) = torch.autograd.grad(loss, logits, retain_graph=True)
        return found.flatten(2).abs().sum(dim=2)

    whole, none, liver = [True, True], [False, False], [True, False]
    assert torch.equal(gradient(objective, whole, whole), gradient(JointObjective(), whole, whole))
    mixed, alone = gradient(objective, whole, none), gradient(JointObjective(), whole, none)
    assert torch.equal(mixed[0], alone[0])
    torch.testing.assert_close(mixed[1], gradient(objective, none, none)[1])
    partly = gradient(objective, liver, liver) - gradient(JointObjective(), liver, liver)
    assert partly.abs().min(dim=0).values.gt(0).tolist() == [True, False, True]


def test_the_diagnosis_weight_is_a_factor() -> None:
    torch.manual_seed(0)
    one = JointObjective()(net().eval(), batch()).by_task["diagnosis"]
    half = JointObjective(diagnosis_weight=0.5)(net().eval(), batch()).by_task["diagnosis"]
    assert half.item() == pytest.approx(0.5 * one.item())


def test_deep_supervision_reaches_the_coarser_levels_and_stays_out_of_the_bundle() -> None:
    model = net()
    plain = set(model.state_dict())
    model.add_deep_supervision(1)
    output = JointObjective().forward(model, batch())
    assert [logits.shape[2:] for logits in output.deep_logits[0]] == [(4, 6, 6)]
    torch.autograd.backward(JointObjective()(model, batch()).by_task["segmentation"])
    assert all(p.grad is not None and p.grad.any() for p in model.deep_heads.parameters())
    assert set(bundle_weights(model.state_dict())) == plain


@pytest.mark.parametrize("name", ["dynunet", "planar"])
def test_decoding_is_classifying_the_finest_level(name: str) -> None:
    config = NETWORK
    if name == "planar":
        backbone = PlanarDynUNetConfig(filters=(4, 4, 4), mixed_levels=1)
        config = NETWORK.model_copy(update={"backbone": backbone})
    model = JointNet(config).eval()
    features = model.encode(torch.randn(1, 1, 8, 12, 12))
    levels = model.backbone.decode_levels(features)  # type: ignore[operator]
    assert torch.equal(model.decode(features), model.backbone.classify(levels[0]))  # type: ignore[operator]
    assert [level.shape[1:] for level in levels] == [f.shape[1:] for f in features[:-1]]


@pytest.mark.parametrize("at_encoder", [True, False])
@pytest.mark.parametrize("embedding", [4, 0])
def test_features_are_nodes_of_their_own(embedding: int, at_encoder: bool) -> None:
    """Going on from all features into the encoder must count every path once."""
    model = head_net(embedding).eval()
    model.add_deep_supervision(1)
    model.train()
    result = JointObjective(meets_at_encoder=at_encoder)(model, batch())
    total = torch.stack(list(result.by_task.values())).sum()
    shared = list(model.backbone.net.input_block.parameters())  # type: ignore[union-attr]
    direct = torch.autograd.grad(total, shared, retain_graph=True)
    features = list(result.features)
    grads = torch.autograd.grad(
        total, features, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    onwards = torch.autograd.grad(features, shared, grads)
    for one, other in zip(direct, onwards, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def head_net(embedding: int) -> JointNet:
    """A network whose head reads so many numbers of pooled features, beside the measurements."""
    assert NETWORK.head is not None
    changes = {"embedding": embedding, "measurements": "torso", "dropout": 0.0}
    head = NETWORK.head.model_copy(update=changes)
    torch.manual_seed(1)
    measured = {"head": head, "segments": ("lung", "heart")}
    return JointNet(NETWORK.model_copy(update=measured)).train()


def test_tasks_part_at_the_masks_and_at_what_else_the_diagnosis_reads() -> None:
    pooled, measured = (JointObjective().forward(head_net(n), batch()) for n in (4, 0))
    assert [f.shape for f in measured.features] == [f.shape for f in measured.segmentation_logits]
    assert len(pooled.features) == 1 + 2  # two pooled levels
    assert [f.shape for f in pooled.features[1:]] == [f.shape for f in pooled.encoded[-2:]]
    assert len(pooled.encoded) == len(measured.encoded) == 3
    assert NETWORK.head is not None
    head = NETWORK.head.model_copy(update={"pooling": ("global",)})  # reads no masks at all
    model = JointNet(NETWORK.model_copy(update={"head": head})).train()
    apart = JointObjective().forward(model, batch())
    assert apart.features is apart.encoded


def test_the_diagnosis_does_not_see_the_padding_of_a_batch() -> None:
    """With kernels of one voxel nothing crosses the border, so nothing at all may change."""
    assert isinstance(NETWORK.backbone, DynUNetConfig)
    backbone = NETWORK.backbone.model_copy(update={"kernels": ((1, 1, 1),) * 3, "norm": "batch"})
    torch.manual_seed(1)
    head = HeadConfig(measurements="torso", pooling=("global", "attention", "mask"), hidden=4)
    segments = ("lung", "heart")
    config = NETWORK.model_copy(update={"backbone": backbone, "head": head, "segments": segments})
    model = JointNet(config).eval()
    small, large = sample(0), sample(1)
    large = replace(
        large, images=(torch.randn(12, 16, 12),), labels=(torch.zeros(12, 16, 12).byte(),)
    )
    divisor = model.divisor
    alone = JointObjective().forward(model, collate([small], divisor=divisor))
    shared = JointObjective().forward(model, collate([small, large], divisor=divisor))
    assert alone.finding_logits is not None
    assert shared.finding_logits is not None
    torch.testing.assert_close(shared.finding_logits[:1], alone.finding_logits)
    torch.testing.assert_close(shared.measurements[:1], alone.measurements, equal_nan=True)


def test_bfloat16_is_close_to_float32() -> None:
    model = net().eval()
    exact = JointObjective()(model, batch()).by_task
    quick = JointObjective(precision="bfloat16")(model, batch()).by_task
    for name, loss in exact.items():
        assert quick[name].item() == pytest.approx(loss.item(), rel=0.05)


def test_frozen_statistics_stay() -> None:
    model = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2)).train()
    freeze_batch_norm(model)
    model(torch.randn(2, 1, 4, 4, 4) + 5)
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm3d)
    assert norm.running_mean is not None
    assert not norm.running_mean.any()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
        RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"),
    ],
)
def test_out_of_memory_says_what_to_lower(error: Exception) -> None:
    with pytest.raises(OutOfMemoryError, match=r"trainer\.batch_size.*patches"), memory_errors():
        raise error


@pytest.mark.parametrize(
    "said",
    ["a mistake", "Caught RuntimeError in DataLoader worker process 0.\nTraceback: a mistake"],
)
def test_other_errors_pass(said: str) -> None:
    with pytest.raises(RuntimeError, match="a mistake"), memory_errors():
        raise RuntimeError(said)
