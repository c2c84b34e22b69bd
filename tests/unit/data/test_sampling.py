"""Batches that teach every task something, the same after a resume, apart between processes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.core.errors import ConfigError
from medmtl.data.label_table import LabelTable
from medmtl.data.sampling import SamplingConfig, TaskSampler
from medmtl.data.task_schedule import ConstantShares, DynamicTaskPriority, TaskScheduler

EVEN = SamplingConfig(balance=0)


def _table(masks: int, findings: int, both: int = 0, *, positives: int = 1) -> LabelTable:
    """Cases with masks alone, with findings alone, with both; one segment, one finding."""
    count = masks + findings + both
    annotated = np.array([[n < masks or n >= masks + findings] for n in range(count)])
    truth = np.array([[float(n - masks < positives)] for n in range(count)])
    truth[:masks] = np.nan
    return LabelTable(annotated, truth)


def _full(count: int) -> LabelTable:
    return _table(0, 0, count)


def _knows(table: LabelTable, sampler: TaskSampler, step: int) -> dict[str, bool]:
    chosen = [draw.index for draw in sampler.draw(step)]
    return {task: bool(table.is_known(task)[chosen].any()) for task in sampler.tasks}


@settings(max_examples=40, deadline=None)
@given(
    masks=st.integers(1, 30), findings=st.integers(1, 30), batch=st.integers(2, 6),
    seed=st.integers(0, 99), world=st.integers(1, 3), share=st.floats(0.001, 1000),
)  # fmt: skip
def test_every_batch_of_every_process_knows_every_task(
    masks: int, findings: int, batch: int, seed: int, world: int, share: float
) -> None:
    table = _table(masks, findings)
    config = SamplingConfig(schedule=ConstantShares(segmentation=share))
    for rank in range(world):
        sampler = TaskSampler(table, config, batch_size=batch, seed=seed, rank=rank, world=world)
        for step in range(5):
            assert all(_knows(table, sampler, step).values())


def test_with_one_place_each_the_processes_share_the_tasks() -> None:
    table = _table(50, 3)
    for step in range(20):
        chosen = [
            TaskSampler(table, EVEN, batch_size=1, seed=0, rank=rank, world=2).draw(step)[0].index
            for rank in range(2)
        ]
        assert all(table.is_known(task)[chosen].any() for task in ("segmentation", "diagnosis"))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), step=st.integers(0, 10**6), world=st.integers(1, 4))
def test_processes_never_share_a_case(seed: int, step: int, world: int) -> None:
    table = _table(20, 20, 20)
    chosen = [
        draw.index
        for rank in range(world)
        for draw in TaskSampler(
            table, SamplingConfig(), batch_size=3, seed=seed, rank=rank, world=world
        ).draw(step)
    ]
    assert len(set(chosen)) == len(chosen) == 3 * world


def test_more_places_than_cases_repeat_cases() -> None:
    assert len(TaskSampler(_full(2), EVEN, batch_size=5, seed=0).draw(3)) == 5


def test_a_draw_knows_its_task() -> None:
    table = _table(9, 9, 9)
    sampler = TaskSampler(table, SamplingConfig(), batch_size=4, seed=1)
    for step in range(10):
        assert all(table.is_known(draw.task)[draw.index] for draw in sampler.draw(step))


def test_a_step_needs_no_steps_before_it() -> None:
    table = _table(9, 9, 9)
    first = TaskSampler(table, SamplingConfig(), batch_size=4, seed=1)
    steps = [first.draw(step) for step in range(30)]
    resumed = TaskSampler(table, SamplingConfig(), batch_size=4, seed=1)
    assert [resumed.draw(step) for step in range(20, 30)] == steps[20:]
    other = TaskSampler(table, SamplingConfig(), batch_size=4, seed=2)
    assert [other.draw(step) for step in range(30)] != steps


def test_adapted_shares_survive_a_resume() -> None:
    config = SamplingConfig(schedule=DynamicTaskPriority())
    before = TaskSampler(_table(9, 9), config, batch_size=6, seed=1)
    before.scheduler.update({"segmentation": 0.9, "diagnosis": 0.1})
    after = TaskSampler(_table(9, 9), config, batch_size=6, seed=1)
    assert after.draw(5) != before.draw(5)
    after.load_state_dict(before.state_dict())
    assert [after.draw(step) for step in range(9)] == [before.draw(step) for step in range(9)]


def test_where_all_cases_teach_the_same_each_comes_once_per_round() -> None:
    sampler = TaskSampler(_full(12), EVEN, batch_size=4, seed=0)
    for epoch in range(3):
        steps = range(3 * epoch, 3 * epoch + 3)
        chosen = [draw.index for step in steps for draw in sampler.draw(step)]
        assert sorted(chosen) == list(range(12))


@pytest.mark.parametrize(("balance", "expected"), [(0.0, 0.1), (1.0, 0.5)])
def test_balance_lifts_a_rare_finding(balance: float, expected: float) -> None:
    table = LabelTable(np.zeros((40, 1), bool), np.array([[float(n < 4)] for n in range(40)]))
    sampler = TaskSampler(table, SamplingConfig(balance=balance), batch_size=1, seed=0)
    chosen = [sampler.draw(step)[0].index for step in range(400)]
    assert np.mean(np.array(chosen) < 4) == pytest.approx(expected, abs=0.02)


def test_a_small_data_set_with_an_organ_of_its_own_is_not_drowned() -> None:
    annotated = np.array([[n < 4, n >= 4] for n in range(40)])
    table = LabelTable(annotated, np.full((40, 0), np.nan))
    sampler = TaskSampler(table, SamplingConfig(balance=1), batch_size=1, seed=0)
    chosen = np.array([sampler.draw(step)[0].index for step in range(400)])
    assert np.mean(chosen < 4) == pytest.approx(0.5, abs=0.02)


def test_unknown_findings_are_never_counted_as_absent() -> None:
    findings = np.array([[1.0], [0.0], *[[np.nan]] * 38])
    rarity = LabelTable(np.zeros((40, 0), bool), findings).rarity("diagnosis")
    assert rarity[:2].tolist() == [1.0, 1.0]
    assert not rarity[2:].any()


def test_a_task_without_labels_is_left_out() -> None:
    assert TaskSampler(_table(5, 0), EVEN, batch_size=2, seed=0).tasks == ("segmentation",)
    with pytest.raises(ConfigError, match="No training case has a label for diagnosis"):
        TaskSampler(_table(5, 0), EVEN, batch_size=2, seed=0, tasks=("diagnosis",))


def test_shares_rule_a_single_place() -> None:
    config = SamplingConfig(schedule=ConstantShares(segmentation=3.0, diagnosis=1.0))
    sampler = TaskSampler(_table(20, 20), config, batch_size=1, seed=0)
    drawn = Counter(sampler.draw(step)[0].task for step in range(1000))
    assert drawn["segmentation"] == pytest.approx(750, abs=50)


def test_the_harder_task_is_drawn_more_often() -> None:
    """Known on paper: -(1 - 0.5) ln 0.5 = 0.3466 and -(1 - 0.9) ln 0.9 = 0.01054."""
    scheduler = TaskScheduler(DynamicTaskPriority(gamma=1, floor=0.1))
    assert scheduler.shares == {"segmentation": 0.5, "diagnosis": 0.5}
    scheduler.update({"segmentation": 0.9, "diagnosis": 0.5})
    share = 0.1 + 0.8 * 0.3465736 / (0.3465736 + 0.0105361)
    assert scheduler.shares["diagnosis"] == pytest.approx(share, rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    scores=st.lists(
        st.tuples(st.floats(-1, 2) | st.just(float("nan")), st.floats(0, 1)), max_size=6
    ),
    floor=st.floats(0.01, 0.5),
    gamma=st.floats(0, 5),
)
def test_no_task_starves(scores: list[tuple[float, float]], floor: float, gamma: float) -> None:
    scheduler = TaskScheduler(DynamicTaskPriority(gamma=gamma, floor=floor))
    for segmentation, diagnosis in scores:
        scheduler.update({"segmentation": segmentation, "diagnosis": diagnosis})
    shares = scheduler.shares
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= floor - 1e-9


def test_validations_are_averaged() -> None:
    """0.2 then 0.6 at momentum 0.5 is 0.4: as if 0.4 had been the only score."""
    twice, once = (TaskScheduler(DynamicTaskPriority(momentum=0.5)) for _ in range(2))
    twice.update({"segmentation": 0.2, "diagnosis": 0.8})
    twice.update({"segmentation": 0.6})
    once.update({"segmentation": 0.4, "diagnosis": 0.8})
    assert twice.shares["segmentation"] == pytest.approx(once.shares["segmentation"])
