"""Where in a cluster a model can sit: one process per GPU, or per few cores without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Seat", "seats_of"]

CORES = 4
"""More threads make one small network hardly faster; more processes do."""
MEMORY_BYTES = 4 * 2**30
"""A process holds up to three studies: read, in the network, being written."""


@dataclass(frozen=True)
class Seat:
    """Place for one process.

    Attributes:
        node: Ray's id of the machine.
        number: Tells the seats of a machine apart.
        device: "cpu" or "cuda".
        cores: That the process claims.
    """

    node: str
    number: int
    device: str
    cores: int


def seats_of(nodes: Iterable[Mapping[str, Any]], device: str) -> list[Seat]:
    """The seats of the machines that are alive.

    Args:
        nodes: As `ray.nodes()` gives them.
        device: "cuda" and "cpu" take these alone; "auto" takes the processors of those machines
            only that have no GPU.
    """
    seats = []
    for node in nodes:
        if node["Alive"]:
            seats += _seats(node["NodeID"], node["Resources"], device)
    return seats


def _seats(node: str, resources: Mapping[str, float], device: str) -> list[Seat]:
    cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if gpus and device != "cpu":
        each = min(CORES, cores // gpus)
        return [Seat(node, number, "cuda", each) for number in range(gpus)]
    if not cores or device == "cuda":
        return []
    count = cores // CORES
    if "memory" in resources:
        count = min(count, int(resources["memory"] // MEMORY_BYTES))
    count = max(1, count)
    return [Seat(node, number, "cpu", cores // count) for number in range(count)]
