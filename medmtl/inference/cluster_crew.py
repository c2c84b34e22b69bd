"""The worker processes of one run on a Ray cluster: who is there, who is free, who was lost."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from medmtl import __version__
from medmtl.core.errors import ConfigError, MedmtlError
from medmtl.inference.cluster_seats import Seat, seats_of
from medmtl.inference.cluster_worker import CaseWorker, Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from medmtl.inference.batch import Analyser
    from medmtl.inference.cluster_worker import Probe

__all__ = ["POLL_S", "Crew", "Member"]

logger = logging.getLogger(__name__)

IN_HAND = 3
"""Cases of one worker: one is read, one in the network, one written."""
_LOOK_S, _PATIENCE_S = 5.0, 120.0
POLL_S = 0.2
"""How long the driver waits for one thing before it looks at the others."""
_LOSSES = 3
"""A seat whose process died so often before it finished a case gets no other."""


@dataclass(eq=False)
class Member:
    """One worker process.

    Attributes:
        seat: Where it sits.
        actor: Ray's handle.
        facts: What it said of itself; None while it loads its model.
        in_hand: Cases that it works on.
        is_careful: Works on a case whose worker died before, and on nothing beside it.
    """

    seat: Seat
    actor: Any
    facts: Facts | None = None
    in_hand: int = 0
    is_careful: bool = False


@dataclass(eq=False)
class Crew:
    """All worker processes of a run; machines that come are used, those that go are forgotten."""

    load: Callable[[str], Analyser]
    device: str
    probe: Probe
    members: list[Member] = field(default_factory=list)
    starting: dict[Any, Member] = field(default_factory=dict)
    losses: Counter[Seat] = field(default_factory=Counter)
    looked_s: float = float("-inf")
    manned_s: float = field(default_factory=time.monotonic)

    def look(self) -> None:
        """Put a worker on each free seat; ask Ray for them now and then only.

        Raises:
            MedmtlError: If the cluster has had no seat for a while.
        """
        now_s = time.monotonic()
        if now_s - self.looked_s < _LOOK_S:
            return
        self.looked_s = now_s
        taken = {member.seat for member in self.members}
        for seat in seats_of(ray.nodes(), self.device):
            if seat not in taken and self.losses[seat] < _LOSSES:
                self._man(seat)
        if self.members:
            self.manned_s = now_s
        elif now_s - self.manned_s > _PATIENCE_S:
            message = (
                f"No machine of the cluster could work for {_PATIENCE_S:.0f} s. Start the command "
                "again when there is one; finished cases are kept."
            )
            raise MedmtlError(message)

    def _man(self, seat: Seat) -> None:
        place = NodeAffinitySchedulingStrategy(node_id=seat.node, soft=False)
        remote = ray.remote(CaseWorker).options(
            num_cpus=seat.cores,
            num_gpus=int(seat.device == "cuda"),
            scheduling_strategy=place,
            max_concurrency=IN_HAND,
            max_restarts=0,  # a lost worker's cases go to the others, not to its successor
        )
        device, load = seat.device, self.load
        actor = remote.remote(lambda: load(device), cores=seat.cores, is_alone=True)
        member = Member(seat, actor)
        self.members.append(member)
        self.starting[actor.start.remote(self.probe)] = member

    def welcome(self, ref: Any) -> None:
        """Take in a worker whose start has come to an end.

        Raises:
            MedmtlError: If the model cannot be loaded, or is another one than elsewhere.
        """
        member = self.starting.pop(ref)
        try:
            facts = ray.get(ref)
        except RayError:
            self.lose(member)
            return
        if isinstance(facts, MedmtlError):
            raise facts
        self._check(facts)
        member.facts = facts
        logger.info(
            "a worker on %s is ready: input %s, results %s",
            member.seat.device,
            "shared" if facts.sees_source else "sent",
            "shared" if facts.sees_token else "sent back",
        )

    def wait_for(self, working: Collection[Any]) -> list[Any]:
        """What has come to an end, of those that work; workers that started are taken in."""
        refs = [*working, *self.starting]
        if not refs:
            time.sleep(POLL_S)
            return []
        done, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        if not done:
            done, _ = ray.wait(refs, num_returns=1, timeout=POLL_S)
        for ref in done:
            if ref in self.starting:
                self.welcome(ref)
        return [ref for ref in done if ref in working]

    def _check(self, facts: Facts) -> None:
        if facts.version != __version__:
            raise ConfigError(
                f"A machine of the cluster has medmtl {facts.version}, this one {__version__}. "
                "Install the same version everywhere."
            )
        others = [other.facts for other in self.members if other.facts is not None]
        if any(other.model != facts.model for other in others):
            raise ConfigError(
                "The machines of the cluster have different model files. Name a bundle with "
                "--model, which is sent to all, or install the same version everywhere."
            )

    def kinds(self) -> dict[str, Facts | None]:
        """By device, what the first worker there said; None while none has."""
        found: dict[str, Facts | None] = {}
        for member in self.members:
            found[member.seat.device] = found.get(member.seat.device) or member.facts
        return found

    def free(self, *, careful: bool) -> Member | None:
        """The worker with the fewest cases that can take one more; `careful` means it alone."""
        limit = 1 if careful else IN_HAND
        able = [
            member
            for member in self.members
            if member.facts is not None and member.in_hand < limit and not member.is_careful
        ]
        return min(able, key=lambda member: member.in_hand, default=None)

    def lose(self, member: Member) -> None:
        """Forget a worker that died or does not answer, and make sure that it is gone."""
        if member not in self.members:
            return
        self.members.remove(member)
        self.losses[member.seat] += 1
        self.looked_s = float("-inf")
        logger.warning("a worker on %s was lost", member.seat.device)
        _end([member])

    def end(self) -> None:
        """End all processes."""
        _end(self.members)


def _end(members: Iterable[Member]) -> None:
    for member in members:
        try:
            ray.kill(member.actor, no_restart=True)
        except (RayError, ValueError):
            continue  # it is gone
