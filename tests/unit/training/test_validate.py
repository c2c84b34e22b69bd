"""Validation counts what is known, on whole studies."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medmtl.data.samples import Sample
from medmtl.inference import joint_pass
from medmtl.networks.joint import JointNet
from medmtl.training.distributed import Ranks
from medmtl.training.objective import JointObjective
from medmtl.training.validate import Validation, task_scores, validate
from tests.tiny_samples import NETWORK, sample

CPU = torch.device("cpu")


def network() -> JointNet:
    torch.manual_seed(0)
    return JointNet(NETWORK).eval()


def run(net: JointNet, samples: list[Sample]) -> Validation:
    return validate(net, samples, JointObjective(), device=CPU, ranks=Ranks())


def test_a_network_that_agrees_with_the_masks_has_dice_one() -> None:
    net = network()
    metrics = run(net, [sample(seed, net) for seed in range(3)]).metrics
    assert metrics["dice"] == 1.0
    assert metrics["dice/liver"] == 1.0


def test_what_is_unknown_is_in_no_figure() -> None:
    net = network()
    known = [sample(seed, net) for seed in range(4)]
    wrong = replace(
        sample(9),
        labels=(None,),
        is_annotated=torch.zeros(1, 2, dtype=torch.bool),
        findings=torch.full((2,), torch.nan),
    )
    before, after = run(net, known).metrics, run(net, [*known, wrong]).metrics
    assert after == before
    assert "auroc/old" not in before  # never known
    assert "auroc/big" in before
    no_spleen = [
        replace(one, is_annotated=torch.tensor([[True, False]])) for one in (sample(0), sample(1))
    ]
    assert "dice/spleen" not in run(net, no_spleen).metrics


def test_nothing_known_gives_no_score() -> None:
    blank = replace(
        sample(1),
        labels=(None,),
        is_annotated=torch.zeros(1, 2, dtype=torch.bool),
        findings=torch.full((2,), torch.nan),
    )
    validation = run(network(), [blank])
    assert validation.metrics == {}
    assert validation.score is None
    assert task_scores(validation) == {}


def test_the_score_is_the_mean_of_both_tasks_and_chance_is_zero_for_the_scheduler() -> None:
    validation = Validation({"dice": 0.8, "auroc": 0.5})
    assert validation.score == pytest.approx(0.65)
    assert task_scores(validation) == {"segmentation": 0.8, "diagnosis": 0.0}
    assert Validation({"dice": 0.8}).score == 0.8


def test_a_large_study_is_tiled_to_nearly_the_same_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = network()
    samples = [sample(seed, net) for seed in range(2)]
    whole = run(net, samples).metrics
    monkeypatch.setattr(joint_pass, "MAX_WHOLE_VOXELS", 100)
    tiled = run(net, samples).metrics
    assert tiled.keys() == whole.keys()
    for name, value in whole.items():
        assert tiled[name] == pytest.approx(value, abs=1e-4), name
