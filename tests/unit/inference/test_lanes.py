"""Things done in lanes: at the same time, in order, all that was begun."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
import torch

from medmtl.inference.cores import networks_at_once, shared_cores
from medmtl.inference.lanes import in_lanes

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAIT_S = 20


def test_results_come_in_the_order_of_the_things() -> None:
    later = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert later.wait(_WAIT_S)  # the other lane goes on meanwhile, beyond its neighbour
        if number == 3:
            later.set()
        return number * 10

    assert list(in_lanes(range(6), work, lanes=2)) == [0, 10, 20, 30, 40, 50]


def test_so_many_are_at_work_at_once_and_no_more() -> None:
    meeting = threading.Barrier(2, timeout=_WAIT_S)
    at_work: list[int] = []

    def work(number: int) -> int:
        at_work.append(number)
        meeting.wait()
        return number

    def things() -> Iterator[int]:
        for number in range(4):
            assert len(at_work) >= number - 1  # asked for when a lane is free
            yield number

    assert list(in_lanes(things(), work, lanes=2)) == [0, 1, 2, 3]


def test_what_is_begun_is_finished_when_its_results_are_not_wanted_any_more() -> None:
    done: list[int] = []
    results = in_lanes(range(100), done.append, lanes=2)
    next(results)
    results.close()  # type: ignore[attr-defined]  # a generator
    count = len(done)
    assert 1 <= count < 100
    time.sleep(0.05)
    assert len(done) == count


def _with_error(results: Iterator[int]) -> Iterator[int | str]:
    try:
        yield from results
    except ValueError as error:
        yield str(error)


def test_what_was_made_beside_an_error_comes_before_it() -> None:
    later = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert later.wait(_WAIT_S)
            raise ValueError("planted")
        if number == 3:
            later.set()
        return number

    assert list(_with_error(in_lanes(range(4), work, lanes=2))) == [1, 2, 3, "planted"]


def test_after_an_error_no_further_item_is_asked_for_and_what_is_begun_is_finished() -> None:
    begun, failed = threading.Event(), threading.Event()

    def work(number: int) -> int:
        if number == 1:
            assert begun.wait(_WAIT_S)
            failed.set()
            raise ValueError("planted")
        if number == 2:
            begun.set()
        assert failed.wait(_WAIT_S)
        time.sleep(0.05)
        return number

    assert list(_with_error(in_lanes(range(100), work, lanes=3))) == [0, 2, "planted"]


def test_what_was_begun_comes_before_an_error_of_the_items() -> None:
    failed = threading.Event()

    def things() -> Iterator[int]:
        yield 0
        failed.set()
        raise ValueError("planted")

    def work(number: int) -> int:
        assert failed.wait(_WAIT_S)
        return number

    assert list(_with_error(in_lanes(things(), work, lanes=2))) == [0, "planted"]


def test_an_interrupt_does_not_wait_for_the_lanes() -> None:
    begun, end = threading.Event(), threading.Event()

    def things() -> Iterator[int]:
        yield 0
        assert begun.wait(_WAIT_S)
        raise KeyboardInterrupt

    def work(number: int) -> int:
        begun.set()
        assert end.wait(_WAIT_S)
        return number

    with pytest.raises(KeyboardInterrupt):
        next(in_lanes(things(), work, lanes=2))
    assert not end.is_set()
    end.set()


def test_lanes_share_the_cores_and_give_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with shared_cores(2) as share:
            seen = list(
                in_lanes(range(2), lambda _: torch.get_num_threads(), lanes=2, prepare=share)
            )
        assert seen == [2, 2]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("device", "cores", "networks"), [("cpu", 2, 2), ("cpu", 1, 1), ("cuda", 2, 1)]
)
def test_two_networks_run_where_there_are_cores_for_two(
    device: str, cores: int, networks: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        assert networks_at_once(torch.device(device)) == networks
    finally:
        torch.set_num_threads(before)
