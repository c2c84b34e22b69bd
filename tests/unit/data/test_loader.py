"""The loader: the same batches for any number of workers, waiting counted, refusals said."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from medmtl.core.errors import MedmtlError
from medmtl.data.dataset import StudyDataset
from medmtl.data.loader import Augment, LoadTimes, StudyLoader
from medmtl.data.samples import Batch, Sample, Task
from medmtl.data.sampling import SamplingConfig, TaskSampler
from medmtl.networks.joint import NetworkConfig
from medmtl.training.patches import PatchConfig, PatchCut
from medmtl.transforms.preprocessing import PreprocessingConfig, RobustZScore
from tests.data_factory import make_source, write_mask

PLAIN = PreprocessingConfig(intensity=RobustZScore())


@pytest.fixture
def dataset(tmp_path: Path) -> StudyDataset:
    truths: list[dict[str, bool | None]] = [
        {"cyst": True},
        {"cyst": False},
        {"cyst": None},
        {"cyst": False},
    ]
    source = make_source(tmp_path, name="a", labels={"liver": 1}, findings=["cyst"], truths=truths)
    network = NetworkConfig(segments=("liver",), findings=("cyst",))
    return StudyDataset([source], network=network, preprocessing=PLAIN)


def _brighten(sample: Sample, rng: np.random.Generator) -> Sample:
    from dataclasses import replace

    return replace(sample, images=tuple(image + rng.normal() for image in sample.images))


def _loader(dataset: StudyDataset, *, workers: int = 0, one_task: bool = False) -> StudyLoader:
    config = SamplingConfig(one_task_per_case=one_task)
    sampler = TaskSampler(dataset.table, config, batch_size=2, seed=3)
    return StudyLoader(
        dataset, sampler, divisor=(4, 4, 4), seed=3, augment=_brighten, workers=workers
    )


def _same(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        a.case_ids == b.case_ids and torch.equal(a.images[0], b.images[0])
        for a, b in zip(one, two, strict=True)
    )


def test_workers_change_no_number(dataset: StudyDataset) -> None:
    alone = list(_loader(dataset).batches(0, 4))
    assert _same(list(_loader(dataset, workers=1).batches(0, 4)), alone)


def test_resuming_at_a_step_gives_that_step(dataset: StudyDataset) -> None:
    whole = list(_loader(dataset).batches(0, 6))
    assert _same(list(_loader(dataset).batches(4, 6)), whole[4:])
    assert not _same(whole[:2], whole[2:4])


def test_the_random_numbers_of_the_run_are_left_alone(dataset: StudyDataset) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(_loader(dataset).batches(0, 2))
    assert torch.equal(torch.rand(3), expected)


def test_how_a_sample_is_changed_does_not_depend_on_the_task_it_was_drawn_for(
    dataset: StudyDataset,
) -> None:
    drawn: list[float] = []

    def note(sample: Sample, rng: np.random.Generator) -> Sample:
        drawn.append(float(rng.random()))
        return sample

    sampler = TaskSampler(dataset.table, SamplingConfig(), batch_size=1, seed=3)
    loader = StudyLoader(dataset, sampler, divisor=(1, 1, 1), seed=3, augment=note)
    tasks = [sampler.draw(step)[0].task for step in range(60)]
    list(loader.batches(0, 60))
    of_masks = [value for value, task in zip(drawn, tasks, strict=True) if task == "segmentation"]
    assert len(of_masks) > 20
    assert min(of_masks) < 0.2
    assert max(of_masks) > 0.8


def test_a_batch_is_on_one_grid(dataset: StudyDataset) -> None:
    (batch,) = _loader(dataset).batches(0, 1)
    assert batch.images[0].shape == (2, 1, 8, 12, 12)
    assert batch.images[0].dtype == torch.float32
    assert batch.labels[0].unique().tolist() == [-1, 0, 1]  # type: ignore[no-untyped-call]


def test_one_task_per_case_hides_the_other(dataset: StudyDataset) -> None:
    (batch,) = _loader(dataset, one_task=True).batches(0, 1)
    knows_masks = batch.is_annotated.flatten(1).any(dim=1)
    knows_findings = ~batch.findings.isnan().all(dim=1)
    assert sorted(knows_masks.tolist()) == [False, True]
    assert not (knows_masks & knows_findings).any()
    assert batch.tasks == ("segmentation", "diagnosis")


def test_in_patch_mode_the_diagnosis_is_learned_from_whole_volumes(dataset: StudyDataset) -> None:
    sampler = TaskSampler(dataset.table, SamplingConfig(), batch_size=2, seed=3)
    patch = PatchConfig(size=(2, 2, 2), foreground=0.0)
    by_task: dict[Task, Augment | None] = {"segmentation": PatchCut(patch), "diagnosis": None}
    loader = StudyLoader(dataset, sampler, divisor=(1, 1, 1), seed=3, augment=by_task)
    for step, batch in enumerate(loader.batches(0, 4)):
        whole = [draw.task == "diagnosis" for draw in sampler.draw(step)]
        assert (~batch.findings.isnan()).any(dim=1).tolist() == whole
        voxels = (batch.labels[0] >= 0).flatten(1).sum(dim=1).tolist()
        assert [count == 8 for count in voxels] == [not is_whole for is_whole in whole]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_refused_case_is_named(dataset: StudyDataset, tmp_path: Path, workers: int) -> None:
    for number in range(4):
        write_mask(tmp_path / f"a{number}_image_gt.nii.gz", [9])
    with pytest.raises(MedmtlError, match="unknown-label"):
        list(_loader(dataset, workers=workers).batches(0, 1))


def test_waiting_is_counted_and_work_is_not(dataset: StudyDataset) -> None:
    loader = _loader(dataset)
    for _ in loader.batches(0, 3):
        time.sleep(0.3)
    assert loader.times.batches == 3
    assert 0 < loader.times.wait_s < 0.9


def test_the_share_is_of_the_time_that_passed() -> None:
    assert LoadTimes(wait_s=1.0).share(20.0) == 0.05
    assert LoadTimes().share(0.0) == 0.0
