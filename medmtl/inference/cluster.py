"""Many studies through one model on the machines of a Ray cluster, into one result folder.

The driver claims the cases, resumes, publishes and writes the tables as a local run does; reading,
the network and writing happen where the workers are. Files go by path where a worker sees the
driver's folders, else through Ray's object store. A case that was in the hands of a worker that
died goes to another; its lock is the driver's, so nobody else takes it up meanwhile.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import ray
from ray.exceptions import RayError, RayTaskError

from medmtl.core.durable import durable_file
from medmtl.core.errors import ConfigError, MedmtlError, OutputError
from medmtl.inference.batch import Batch, BatchOptions, CaseOutcome, decided_outcome, finish_case
from medmtl.inference.case_store import output_errors
from medmtl.inference.cluster_crew import Crew, Member
from medmtl.inference.cluster_seats import seats_of
from medmtl.inference.cluster_worker import Order, Probe, Worked, bytes_of
from medmtl.inference.failure import attempt
from medmtl.inference.parcel import Parcel
from medmtl.inference.read_ahead import DecidedCase, ReadCase, let_go
from medmtl.report.table import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from medmtl.core.prediction import ModelIdentity
    from medmtl.core.study import Listing
    from medmtl.inference.batch import Analyser
    from medmtl.inference.read_ahead import CaseReader

__all__ = ["run_on_ray"]

logger = logging.getLogger(__name__)

_TRIES = 3
_POLL_S = 0.2


def run_on_ray(
    listing: Listing,
    load: Callable[[str], Analyser],
    *,
    address: str,
    device: str,
    out: Path,
    input_path: Path,
    options: BatchOptions | None = None,
    transfer: Literal["auto", "store"] = "auto",
) -> Iterator[CaseOutcome]:
    """Analyse every study of a listing into a result folder, as `run_batch` does, on a cluster.

    Args:
        listing: What `open_input` found.
        load: Makes the analyser on "cpu" or "cuda"; sent to every worker.
        address: Of the cluster; "auto" finds one that this machine belongs to, "local" starts one.
        device: "auto", "cpu" or "cuda".
        out: Result folder; only the driver needs to see it.
        input_path: What was listed; only the driver needs to see it.
        options: Formats and restart.
        transfer: "auto" looks at each worker for the driver's folders; "store" shares nothing.

    Yields:
        One outcome per study, in the order in which they are decided.

    Raises:
        ConfigError: If there is no such cluster, no fitting machine in it, or machines differ.
        MedmtlError: If the cluster is lost. Finished cases stay.
        OutputError: If the folder cannot be written (any more). Finished cases stay.
    """
    batch = Batch.open(listing, out=out, input_path=input_path, options=options or BatchOptions())
    with _connected(address), _token(batch) as token:
        if not seats_of(ray.nodes(), device):
            raise ConfigError(f"--device {device}: no machine of the cluster has one.")
        probe = Probe(None, None) if transfer == "store" else Probe(_sample(listing), token)
        crew = Crew(load, device, probe)
        try:
            model, settings = _first_facts(crew)
            reader = batch.reader(model, settings, lambda _: None)
            yield from batch.with_tables(_Run(batch, crew, reader).outcomes(), model, settings)
        except RayTaskError as error:
            raise MedmtlError(f"Ray: {type(error.cause).__name__} in a worker.") from None
        except RayError as error:
            message = f"The cluster was lost ({type(error).__name__}). Start again; finished cases"
            raise MedmtlError(f"{message} are kept.") from None
        finally:
            crew.end()


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Ray without its dashboard; the command line, which names the input, stays with us."""
    if ray.is_initialized():
        raise ConfigError("This process is connected to Ray already. Call ray.shutdown() first.")
    utils = ray._private.utils  # no public way: the job table would show our arguments
    said, utils.get_entrypoint_name = utils.get_entrypoint_name, lambda: "medmtl"
    own = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"--address: no Ray cluster answers there ({type(error).__name__}). Give HOST:PORT of "
            "its head, auto on a machine of the cluster, or local to start one here."
        ) from None
    finally:
        utils.get_entrypoint_name = said
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _token(batch: Batch) -> Iterator[Path]:
    """A file by which a worker knows the result folder."""
    path = batch.store.area("inputs") / f"{uuid.uuid4().hex}.token"
    with output_errors("The output folder"):
        path.write_bytes(b"medmtl\n")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _sample(listing: Listing) -> tuple[Path, int, int] | None:
    """One file of the input, by which a worker knows the folder."""
    for study in listing.studies:
        for path in Parcel.of(study).files:
            try:
                status = path.stat()
            except OSError:
                continue
            return path, status.st_size, status.st_mtime_ns
    return None


def _first_facts(crew: Crew) -> tuple[ModelIdentity, Mapping[str, Any]]:
    """The model, and the settings of each kind of device: either may give an answer."""
    while True:
        crew.look()
        kinds = crew.kinds()
        if kinds and all(kinds.values()):
            break
        _wait_for(crew, ())
    known = {device: facts for device, facts in kinds.items() if facts is not None}
    model = next(iter(known.values())).model
    settings = {device: facts.settings for device, facts in sorted(known.items())}
    return model, next(iter(settings.values())) if len(settings) == 1 else settings


def _wait_for(crew: Crew, working: Any) -> list[Any]:
    """What has come to an end, of those that work; workers that started are taken in."""
    refs = [*working, *crew.starting]
    if not refs:
        time.sleep(_POLL_S)
        return []
    done, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
    if not done:
        done, _ = ray.wait(refs, num_returns=1, timeout=_POLL_S)
    for ref in done:
        if ref in crew.starting:
            crew.welcome(ref)
    return [ref for ref in done if ref in working]


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
            case = self.ahead.result(timeout=_POLL_S)
        except TimeoutError:
            return None
        self.is_over = case is None
        if case is not None:
            self.ahead = self.pool.submit(self.reader.next_case)
        return case


@dataclass(eq=False)
class _Run:
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
                    for ref in _wait_for(self.crew, self.working):
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
