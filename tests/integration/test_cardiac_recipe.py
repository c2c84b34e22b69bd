"""The recipes of `cardiac-mr`: slices drawn, weights averaged, what a plain network scores."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from medmtl.data.samples import Sample
from pipelines.recipes.cardiac_mr_longer import between, draw_weak_slices
from pipelines.recipes.cardiac_plain import figures, heart_dice, plain_answer, round_heart


def patient() -> Sample:
    """Twelve slices with a heart of three structures in slices 3 to 8."""
    labels = torch.zeros((12, 96, 96), dtype=torch.uint8)
    labels[3:9, 30:46, 30:60] = 1
    labels[3:9, 50:74, 36:60] = 2
    labels[3:9, 56:68, 42:54] = 3
    return Sample(
        case_id="patient001",
        dataset="acdc",
        images=(labels.half(), labels.half()),
        labels=(labels, labels),
        is_annotated=torch.ones(2, 3, dtype=torch.bool),
        findings=torch.zeros(4),
        covariates={},
        spacing_mm=torch.tensor([[10.0, 1.25, 1.25]] * 2),
    )


def test_slices_where_a_structure_ends_and_end_systole_come_more_often() -> None:
    rng, one = np.random.default_rng(0), patient()
    drawn = [draw_weak_slices(one, rng) for _ in range(12_000)]

    systole = sum(phase for phase, _ in drawn) / len(drawn)
    often = Counter(k for _, k in drawn)
    ends, others = (2, 3, 4, 7, 8, 9), (0, 1, 5, 6, 10, 11)

    assert systole == pytest.approx(0.55, abs=0.02)
    for k in others:
        assert often[k] / len(drawn) == pytest.approx(0.7 / 12, abs=0.01)
    for k in ends:
        assert often[k] / len(drawn) == pytest.approx(0.7 / 12 + 0.3 / 6, abs=0.01)


def test_two_networks_meet_between_their_weights_with_the_counters_of_the_new_one() -> None:
    old = {"weight": torch.tensor([0.0, 8.0]), "batches": torch.tensor(3)}
    new = {"weight": torch.tensor([4.0, 0.0]), "batches": torch.tensor(7)}
    met = between(old, new, share=0.25)
    assert met["weight"].tolist() == [1.0, 6.0]
    assert met["batches"].item() == 7


class Truthful(torch.nn.Module):
    """Answers each slice with what is drawn in it: `patient` paints its labels."""

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(slices[:, 1].long(), 4).movedim(-1, 1).float()


def test_a_plain_network_answers_slice_by_slice_round_the_heart() -> None:
    one = patient()
    answers = plain_answer(Truthful(), one)
    assert heart_dice(answers, one) == [1.0] * 6
    late = [answer.roll(1, 0) for answer in answers]  # one slice of six is missed, one invented
    assert heart_dice(late, one) == pytest.approx([5 / 6] * 6)


def test_the_square_is_round_the_heart_and_inside_the_image() -> None:
    labels = torch.zeros((2, 400, 170), dtype=torch.uint8)
    labels[:, 300:320, 0:20] = 1
    image = torch.arange(400 * 170).reshape(1, 400, 170).expand(2, -1, -1).float()
    seen, truth = round_heart(image, labels)
    assert seen.shape == (2, 160, 160)
    assert truth.sum() == labels.sum()
    assert seen[0, 0, 0] == image[0, 230, 0]  # rows 230 to 389, middle 310; columns from the edge


def test_figures_are_means_over_structures_then_patients() -> None:
    table = np.array([[0.8, 0.9, 1.0] * 2, [0.7, 0.8, 0.9] * 2])
    found = figures(["a", "b"], table)
    assert found["mean"]["value"] == pytest.approx(0.85)
    assert found["mean"]["ci95"] == pytest.approx((0.8, 0.9))
    assert found["patients"] == pytest.approx({"a": 0.9, "b": 0.8})
    assert found["segments"]["myocardium, es"] == pytest.approx(0.85)
