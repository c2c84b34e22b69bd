"""The processor's cores, shared out among threads that each run a network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["networks_at_once", "on_each_core", "shared_cores"]

Item = TypeVar("Item")


def networks_at_once(device: torch.device) -> Literal[1, 2]:
    """How many cases of a batch go through the network at a time.

    On a CPU two do more than one on all cores: what runs on one core only, beside the network and
    in it, is beside the other case's work.
    """
    return 2 if device.type == "cpu" and torch.get_num_threads() > 1 else 1


@contextmanager
def shared_cores(parties: int) -> Iterator[Callable[[], None]]:
    """Within it, what is yielded gives the thread that calls it an equal share, at least one core.

    torch keeps the number for each thread, and a thread that was not told takes the one that was
    set last in any other; networks of OpenVINO take it from there.
    """
    whole = torch.get_num_threads()

    def share() -> None:
        torch.set_num_threads(max(1, whole // parties))

    try:
        yield share
    finally:
        torch.set_num_threads(whole)


def on_each_core(work: Callable[[Item], None], items: Iterable[Item]) -> None:
    """Do what is small and independent, one thing on each core of the calling thread.

    torch shares out a single operation among cores, and waits at its end: for small ones that takes
    as long as the operation.
    """
    cores = torch.get_num_threads()
    with shared_cores(cores) as share, ThreadPoolExecutor(cores, initializer=share) as pool:
        for _ in pool.map(work, items):
            pass
