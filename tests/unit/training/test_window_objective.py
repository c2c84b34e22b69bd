"""Fine-tuning shows an imported network what prediction shows it: patches of its own size."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from medmtl.core.prediction import Covariates, ModelIdentity
from medmtl.data.samples import IGNORED, Batch, Sample, collate
from medmtl.imports.nnunet import import_nnunet
from medmtl.inference.bundle import Bundle, load_bundle
from medmtl.inference.bundle_settings import CamSettings
from medmtl.inference.joint_pass import covariate_tensors
from medmtl.inference.routes import PlansRoute
from medmtl.inference.window_pass import window_pass
from medmtl.inference.windows import cut_patch, patch_places, pooled_sums
from medmtl.losses.diagnosis import known_binary_cross_entropy
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import JointNet
from medmtl.networks.pooling import PooledSums
from medmtl.training.encoder_layers import take_backbone
from medmtl.training.head import HeadOptions, HeadTable, fit_head, standardise_pooled
from medmtl.training.objective import JointObjective
from medmtl.training.window_objective import FOREGROUND, WindowObjective, draw_patch
from tests.nnunet_folder import dataset, plans, write_folder

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")
HEAD = HeadConfig(
    levels=(-2, -1), pooling=("global", "mask"), measurements="volumes", embedding=4, hidden=4,
    dropout=0.0,
)  # fmt: skip


def imported(
    root: Path, *, mirror_axes: tuple[int, ...] = (), dimensions: int = 3
) -> tuple[JointNet, PlansRoute]:
    """A network with instance norm, patches of eight voxels, and how it goes over volumes."""
    write_folder(
        root / "nnunet",
        plans=plans(dimensions=dimensions),
        dataset=dataset(labels={"background": 0, "liver": 1, "spleen": 2}),
        mirror_axes=mirror_axes,
    )
    import_nnunet(root / "nnunet", root / "imported")
    encoder = load_bundle(root / "imported")
    network = encoder.settings.network.model_copy(update={"findings": ("big",), "head": HEAD})
    torch.manual_seed(0)
    net = JointNet(network)
    take_backbone(net, encoder.net)
    settings = encoder.settings.model_copy(update={"network": network})
    bundle = Bundle(settings, ModelIdentity("tiny", "1", ""), net, encoder.folder)
    return net, PlansRoute(bundle, device=CPU)


def study(seed: int, finding: float = 1.0) -> Sample:
    """No multiple of the patch, with one segment in a corner."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.zeros(12, 20, 17, dtype=torch.uint8)
    labels[:3, :3, :3] = 1
    return Sample(
        case_id=str(seed),
        dataset="tiny",
        images=(torch.randn(12, 20, 17, generator=rng),),
        labels=(labels,),
        is_annotated=torch.ones(1, 2, dtype=torch.bool),
        findings=torch.tensor([finding]),
        covariates=covariate_tensors(Covariates(), CPU),
        spacing_mm=torch.ones(1, 3),
    )


def batch_of(*samples: Sample, net: JointNet) -> Batch:
    return collate(samples, divisor=net.divisor)


def predicted(net: JointNet, route: PlansRoute, sample: Sample) -> torch.Tensor:
    """Logits of the findings as the bundle answers them."""
    volume = route.windowed(net, sample.images[0], sample.spacing_mm[0].tolist())
    answer = window_pass(
        net, [volume], covariates=Covariates(), cam=CamSettings(), device=CPU
    ).finding_logits
    assert answer is not None
    return answer[None]


def head_inputs(net: JointNet, run: Callable[[], object]) -> tuple[torch.Tensor, torch.Tensor]:
    """What reaches the head while `run` is called."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    assert net.head is not None
    hook = net.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[:2]))
    run()
    hook.remove()
    return seen[0]


def test_a_whole_volume_gives_other_features_than_prediction_reads(tmp_path: Path) -> None:
    """Why this objective exists: a head that is right on patches is wrong on whole volumes."""
    net, route = imported(tmp_path)
    net.eval()
    samples = [study(n, finding=float(n % 2)) for n in range(8)]
    rows = [head_inputs(net, partial(predicted, net, route, one)) for one in samples]
    findings = torch.stack([sample.findings for sample in samples])
    table = HeadTable(
        torch.cat([pooled for pooled, _ in rows]).detach(),
        torch.cat([measured for _, measured in rows]).detach(),
        findings,
        {name: values.expand(8) for name, values in samples[0].covariates.items()},
    )
    standardise_pooled(net, table)
    options = HeadOptions(steps=150, batch=8, peak_lr=2e-2, blur=0.0, weight_decay=0.0)
    fit_head(net, table, options, np.random.default_rng(0))
    windows, whole = WindowObjective(JointObjective(), route, 1), JointObjective()
    batches = [batch_of(sample, net=net) for sample in samples]
    with torch.no_grad():
        on_patches = np.mean([float(windows(net, one).by_task["diagnosis"]) for one in batches])
        on_volumes = np.mean([float(whole(net, one).by_task["diagnosis"]) for one in batches])
    assert on_patches < 0.1
    assert on_volumes > 5 * on_patches


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_diagnosis_learns_on_what_prediction_reads(tmp_path: Path, dimensions: int) -> None:
    """Features, measurements and loss are those of prediction, with gradients in the encoder."""
    net, route = imported(tmp_path, dimensions=dimensions)
    sample, objective = study(0), WindowObjective(JointObjective(), route, 1)
    net.train()
    expected = head_inputs(net, partial(predicted, net, route, sample))
    batch = batch_of(sample, net=net)
    found = head_inputs(net, partial(objective, net, batch))
    torch.testing.assert_close(found, expected)
    loss = objective(net, batch).by_task["diagnosis"]
    wanted = known_binary_cross_entropy(predicted(net, route, sample), batch.findings)
    torch.testing.assert_close(loss, wanted)
    net.zero_grad()
    torch.autograd.backward(loss)
    slopes = {name: weight.grad for name, weight in net.backbone.named_parameters()}
    encoder = [slope for name, slope in slopes.items() if name.startswith("encoder.")]
    assert all(slope is not None and slope.abs().sum() > 0 for slope in encoder)
    # The masks are measured and pooled with, not changed to please the diagnosis.
    assert all(slope is None for name, slope in slopes.items() if name.startswith("decoder."))


def test_gradients_are_those_of_a_pass_that_keeps_everything(tmp_path: Path) -> None:
    """Patches are computed again on the way back; that changes nothing."""
    net, route = imported(tmp_path)
    volume = route.windowed(net, study(0).images[0], [1.0, 1.0, 1.0])
    weights = list(net.backbone.encoder.parameters())  # type: ignore[union-attr]
    patches = [cut_patch(volume, where, CPU) for where in patch_places(volume)]
    assert len(patches) == 2 * 3 * 3
    total: list[PooledSums] = []
    for one in patches:
        sums = net.pool(net.encode_stem(one.image), one.shares, one.weight)
        total = [x + y for x, y in zip(total, sums, strict=True)] if total else sums
    expected = torch.autograd.grad(score(total), weights)
    found = torch.autograd.grad(score(pooled_sums(net, volume, CPU, learns=True)), weights)
    torch.testing.assert_close(found, expected)


def score(sums: list[PooledSums]) -> torch.Tensor:
    return torch.stack([(one.numerator / 100).square().sum() for one in sums]).sum()


def test_half_precision_rounds_no_difference_between_patients_away(tmp_path: Path) -> None:
    """Only the encoder runs in it: sums over thousands of voxels do not."""
    net, route = imported(tmp_path)
    batch = batch_of(study(0), net=net)
    exact, half = (
        head_inputs(net, partial(WindowObjective(JointObjective(name), route, 1), net, batch))[
            0
        ].detach()
        for name in ("float32", "bfloat16")
    )
    assert half.dtype == torch.float32
    assert float((half - exact).abs().max()) < 0.002 * float(exact.abs().max())


def test_validation_answers_as_the_bundle_does(tmp_path: Path) -> None:
    """Mirrored views included, for one study or several, padded or not."""
    net, route = imported(tmp_path, mirror_axes=(0, 1))
    net.eval()
    samples, objective = [study(0), study(1)], WindowObjective(JointObjective(), route, 1)
    output = objective.answer(net, batch_of(*samples, net=net))
    assert output.finding_logits is not None
    for number, sample in enumerate(samples):
        torch.testing.assert_close(
            output.finding_logits[number : number + 1], predicted(net, route, sample)
        )
        masks = route.windowed(net, sample.images[0], [1.0, 1.0, 1.0]).logits_ckji
        shown = output.segmentation_logits[0][number][:, :12, :20, :17]
        torch.testing.assert_close(shown, masks.float())


def test_masks_learn_from_patches_of_the_plans(tmp_path: Path) -> None:
    net, route = imported(tmp_path)
    shapes: list[tuple[int, ...]] = []
    encode = net.encode

    def watched(image_bckji: torch.Tensor) -> list[torch.Tensor]:
        shapes.append(tuple(image_bckji.shape))
        return encode(image_bckji)

    net.encode = watched  # type: ignore[method-assign]
    objective = WindowObjective(JointObjective(), route, 3)
    batch = batch_of(replace(study(0), findings=torch.tensor([torch.nan])), net=net)
    found = objective(net, batch).by_task
    assert set(found) == {"segmentation"}
    assert shapes == [(3, 1, 8, 8, 8)]
    torch.manual_seed(5)
    first = float(objective(net, batch).by_task["segmentation"].detach())
    torch.manual_seed(5)  # as the loop seeds every step
    assert float(objective(net, batch).by_task["segmentation"].detach()) == first


def test_without_labels_the_same_patches_keep_the_masks(tmp_path: Path) -> None:
    net, route = imported(tmp_path)
    teacher, _ = imported(tmp_path / "teacher")
    sample = replace(study(0), labels=(None,), is_annotated=torch.zeros(1, 2, dtype=torch.bool))
    batch = batch_of(sample, net=net)
    objective = WindowObjective(JointObjective(teacher=teacher), route, 2)
    torch.testing.assert_close(
        objective(net, batch).by_task["segmentation"], torch.tensor(0.0), atol=1e-6, rtol=0
    )
    with torch.no_grad():
        next(net.backbone.parameters()).add_(0.5)
    assert float(objective(net, batch).by_task["segmentation"].detach()) > 1e-4


def test_a_third_of_the_patches_lies_on_a_segment() -> None:
    """The segment lies in a corner that hardly any other patch reaches."""
    labels = torch.zeros(40, 40, 40, dtype=torch.long)
    labels[:2, :2, :2] = 1
    rng = np.random.default_rng(0)
    hits = [
        bool((draw_patch(labels.float(), labels, (8, 8, 8), rng)[1] > 0).any()) for _ in range(600)
    ]
    by_chance = (5.5 / 40) ** 3  # of the centres, those within reach: clipped ones count
    assert np.mean(hits) == pytest.approx(FOREGROUND + by_chance, abs=0.06)


def test_a_volume_smaller_than_a_patch_lies_in_its_middle() -> None:
    image, labels = torch.ones(4, 4, 4), torch.ones(4, 4, 4, dtype=torch.long)
    patch, mask = draw_patch(image, labels, (8, 4, 6), np.random.default_rng(0))
    assert patch.shape == (8, 4, 6)
    assert patch[2:6, :, 1:5].sum() == patch.sum() == 64
    assert (mask[2:6, :, 1:5] == 1).all()
    assert int((mask == IGNORED).sum()) == 8 * 4 * 6 - 64
