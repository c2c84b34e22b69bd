"""The driver of a run on a cluster: hands claimed cases to workers and takes their results in.

A case that was in the hands of a worker that died goes to another; its lock is the driver's, so
nobody else takes it up meanwhile.
"""

from __future__ import annotations

import logging
import uuid
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from medmtl.core.durable import durable_file
from medmtl.core.errors import OutputError
from medmtl.inference.batch import Batch, CaseOutcome, decided_outcome, finish_case
from medmtl.inference.case_store import output_errors
from medmtl.inference.cluster_crew import POLL_S, Crew, Member
from medmtl.inference.cluster_worker import Order, Worked, bytes_of
from medmtl.inference.failure import attempt
from medmtl.inference.parcel import Parcel
from medmtl.inference.read_ahead import DecidedCase, ReadCase, let_go
from medmtl.report.table import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from medmtl.inference.read_ahead import CaseReader

__all__ = ["ClusterRun"]

logger = logging.getLogger(__name__)

_TRIES = 3


@dataclass(eq=False)
class _Task:
    """A claimed case, how often a worker died with it, and where its present one writes."""

    case: ReadCase[None]
    losses: int = 0
    folder: Path | None = None


@dataclass(eq=False)
class _Claims:
    """The reader's next case, awaited in a thread: waiting for another run must stop nothing."""

    reader: CaseReader[None]
    pool: ThreadPoolExecutor
    is_over: bool = False
    ahead: Future[ReadCase[None] | DecidedCase | None] = field(init=False)

    def __post_init__(self) -> None:
        self.ahead = self.pool.submit(self.reader.next_case)

    def next(self) -> ReadCase[None] | DecidedCase | None:
        """The next case; None where there is none now."""
        if self.is_over:
            return None
        try:
            case = self.ahead.result(timeout=POLL_S)
        except TimeoutError:
            return None
        self.is_over = case is None
        if case is not None:
            self.ahead = self.pool.submit(self.reader.next_case)
        return case


@dataclass(eq=False)
class ClusterRun:
    """Hands cases out and takes results in."""

    batch: Batch
    crew: Crew
    reader: CaseReader[None]
    working: dict[Any, tuple[Member, _Task]] = field(default_factory=dict)
    returned: deque[_Task] = field(default_factory=deque)

    def outcomes(self) -> Iterator[CaseOutcome]:
        """Until every case is decided."""
        with ThreadPoolExecutor(1, thread_name_prefix="medmtl-claim") as pool:
            claims = _Claims(self.reader, pool)
            try:
                while not (claims.is_over and not self.working and not self.returned):
                    self.crew.look()
                    yield from self._hand_out(claims)
                    for ref in self.crew.wait_for(self.working):
                        yield from self._take_in(ref)
            finally:
                let_go(self.reader, claims.ahead)
                for task in (*self.returned, *(task for _, task in self.working.values())):
                    self.batch.store.discard(task.case.study.case_id)
                    task.case.lock.release()

    def _hand_out(self, claims: _Claims) -> Iterator[CaseOutcome]:
        while self.returned and (member := self.crew.free(careful=True)):
            yield from self._give(self.returned.popleft(), member)
        while member := self.crew.free(careful=False):
            case = claims.next()
            if case is None:
                return
            if isinstance(case, DecidedCase):
                yield decided_outcome(case)
            else:
                yield from self._give(_Task(case), member)

    def _give(self, task: _Task, member: Member) -> Iterator[CaseOutcome]:
        """Send a case to a worker; one whose files are gone is decided at once."""
        case_id = task.case.study.case_id
        shared = member.facts is not None and member.facts.sees_source
        packed = attempt(case_id, "read", lambda: _packed(task.case, shared=shared))
        if isinstance(packed, Failure):
            yield self._finish(task, packed)
            return
        parcel, contents = packed
        task.folder = self.batch.store.partial_folder(case_id) / uuid.uuid4().hex
        with output_errors(f"Case {case_id}"):
            task.folder.parent.mkdir(exist_ok=True)
        by_path = member.facts is not None and member.facts.sees_token
        folder = task.folder if by_path else None
        order = Order(case_id, parcel, task.case.resume, self.batch.formats, folder)
        member.in_hand += 1
        member.is_careful = task.losses > 0
        self.working[member.actor.work.remote(order, contents)] = (member, task)

    def _take_in(self, ref: Any) -> Iterator[CaseOutcome]:
        member, task = self.working.pop(ref)
        member.in_hand -= 1
        member.is_careful = False
        try:
            result = ray.get(ref)
        except RayTaskError:
            raise
        except RayError:
            self.crew.lose(member)
            yield from self._again(task)
            return
        if isinstance(result, OutputError):
            self.returned.append(task)  # its lock is let go of with the others'
            raise result
        self.crew.losses[member.seat] = 0
        yield self._finish(task, result)

    def _again(self, task: _Task) -> Iterator[CaseOutcome]:
        task.losses += 1
        case_id = task.case.study.case_id
        if task.losses < _TRIES:
            logger.warning("case %s goes to another worker", case_id)
            self.batch.store.discard(case_id)
            self.returned.append(task)
            return
        reason = f"worker-died: the process that worked on it died {_TRIES} times"
        advice = "It may need more memory than the machines have. The other cases are not affected."
        yield self._finish(
            task, Failure(case_id, case_id, "analyse", "worker-died", reason, advice)
        )

    def _finish(self, task: _Task, result: Worked | Failure) -> CaseOutcome:
        store, case_id = self.batch.store, task.case.study.case_id

        def publish() -> Mapping[str, float] | Failure:
            if isinstance(result, Failure):
                return result
            with output_errors(f"Case {case_id}"):
                if result.files is not None and task.folder is not None:
                    _write(result.files, task.folder)
                store.publish(case_id, task.folder)
            return result.seconds

        return finish_case(task.case, store, publish)


def _packed(case: ReadCase[None], *, shared: bool) -> tuple[Parcel, Any]:
    parcel = Parcel.of(case.study)
    return parcel, None if shared else ray.put([bytes_of(path) for path in parcel.files])


def _write(files: Mapping[str, Any], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with durable_file(path) as stream:
            stream.write(memoryview(content))
