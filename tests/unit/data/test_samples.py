"""Samples and batches: unknown stays unknown, padding is ignored, the patient's own voxels stay."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.data.samples import LabelState, Sample, collate, label_states, only_task
from medmtl.networks.joint import COVARIATES

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))


def make_sample(*shapes: tuple[int, int, int], has_masks: bool = True, seed: int = 0) -> Sample:
    draw = torch.Generator().manual_seed(seed)
    return Sample(
        case_id=f"case{seed}",
        dataset="made",
        images=tuple(torch.randn(shape, generator=draw).half() for shape in shapes),
        labels=tuple(
            torch.randint(0, 3, shape, generator=draw, dtype=torch.uint8) if has_masks else None
            for shape in shapes
        ),
        is_annotated=torch.full((len(shapes), 2), has_masks),
        findings=torch.tensor([1.0, 0.0, torch.nan]),
        covariates={name: torch.tensor([torch.nan]) for name in COVARIATES},
        spacing_mm=torch.tensor([[8.0, 1.5, 1.5]] * len(shapes)),
    )


@settings(max_examples=30, deadline=None)
@given(one=SHAPES, two=SHAPES, divisor=st.tuples(*[st.sampled_from([1, 2, 4])] * 3))
def test_padding_is_ignored_and_content_stays(
    one: tuple[int, int, int], two: tuple[int, int, int], divisor: tuple[int, int, int]
) -> None:
    samples = [make_sample(one), make_sample(two, seed=1)]
    batch = collate(samples, divisor=divisor)
    image, labels = batch.images[0], batch.labels[0]
    for axis, step in enumerate(divisor):
        assert image.shape[axis + 2] % step == 0
        assert image.shape[axis + 2] < max(one[axis], two[axis]) + step
    for number, (sample, (k, j, i)) in enumerate(zip(samples, (one, two), strict=True)):
        assert torch.equal(image[number, 0, :k, :j, :i], sample.images[0].float())
        assert sample.labels[0] is not None
        assert torch.equal(labels[number, :k, :j, :i], sample.labels[0].long())
        assert int((labels[number] == -1).sum()) == labels[number].numel() - k * j * i
        assert image[number].min() == sample.images[0].min()


def test_volumes_keep_their_own_grids() -> None:
    batch = collate([make_sample((2, 4, 4), (3, 8, 8))], divisor=(1, 4, 4))
    assert [tuple(image.shape) for image in batch.images] == [(1, 1, 2, 4, 4), (1, 1, 3, 8, 8)]
    assert batch.spacing_mm.shape == (1, 2, 3)


def test_a_case_without_masks_is_ignored_everywhere() -> None:
    batch = collate(
        [make_sample((2, 4, 4)), make_sample((2, 4, 4), has_masks=False)], divisor=(1,) * 3
    )
    assert (batch.labels[0][1] == -1).all()
    assert (batch.labels[0][0] >= 0).all()
    assert batch.is_annotated[:, 0, 0].tolist() == [True, False]


def test_states_are_three() -> None:
    states = label_states(make_sample((3, 9, 9)))
    assert states.segments == ((LabelState.PRESENT, LabelState.PRESENT),)
    assert states.findings == (LabelState.PRESENT, LabelState.ABSENT, LabelState.UNKNOWN)
    without = label_states(make_sample((3, 9, 9), has_masks=False))
    assert without.segments == ((LabelState.UNKNOWN, LabelState.UNKNOWN),)
    assert not without.knows("segmentation")
    assert without.knows("diagnosis")


@pytest.mark.parametrize("task", ["segmentation", "diagnosis"])
def test_one_task_alone_is_known(task: str) -> None:
    sample = only_task(make_sample((2, 4, 4)), task)  # type: ignore[arg-type]
    assert collate([sample], divisor=(1, 1, 1)).tasks == (task,)


def test_labels_on_another_grid_are_named() -> None:
    sample = make_sample((2, 4, 4))
    wrong = replace(sample, labels=(torch.zeros(2, 4, 5, dtype=torch.uint8),))
    with pytest.raises(ValueError, match=r"case0: labels \(2, 4, 5\), image \(2, 4, 4\)"):
        collate([wrong], divisor=(1, 1, 1))
    with pytest.raises(ValueError, match="at least one sample"):
        collate([], divisor=(1, 1, 1))


def test_moving_keeps_everything() -> None:
    batch = collate([make_sample((2, 4, 4))], divisor=(1, 1, 1))
    moved = batch.to("cpu")
    assert moved.case_ids == batch.case_ids
    assert torch.equal(moved.images[0], batch.images[0])
    assert set(moved.covariates) == set(COVARIATES)
