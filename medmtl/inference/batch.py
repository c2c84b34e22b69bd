"""Many studies through one model: what is done is kept, what goes wrong is said, nothing is half.

The library yields one outcome per case; the program draws the progress.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any, Literal, Protocol

from medmtl.core.errors import OutputError
from medmtl.inference.case_names import unusable_names
from medmtl.inference.case_store import CaseStore, output_errors
from medmtl.inference.cores import shared_cores
from medmtl.inference.failure import attempt
from medmtl.inference.lanes import in_lanes
from medmtl.inference.read_ahead import CaseReader, DecidedCase, ReadCase, read_ahead
from medmtl.inference.resume import model_key
from medmtl.inference.stages import finish, stages_of
from medmtl.inference.summary import Summary
from medmtl.inference.tally import Tally
from medmtl.inference.write_case import DEFAULT_FORMATS, FORMATS, write_case
from medmtl.pacs.image_files import short_hash
from medmtl.report.table import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from medmtl.core.prediction import ModelIdentity, Prediction
    from medmtl.core.study import Listing, Study, VolumeRef
    from medmtl.core.volume import Volume
    from medmtl.inference.read_ahead import Content
    from medmtl.inference.stages import Stages

__all__ = [
    "FORMATS", "Analyser", "Batch", "BatchOptions", "CaseOutcome", "advanced", "begin_case",
    "decided_outcome", "finish_case", "report_case", "run_batch",
]  # fmt: skip

_LANES = 2
_MANY = 4
"""Studies from which on two networks at a time gain: the last one of three would have half of the
processor for itself."""


class Analyser(Protocol):
    """A model that answers for one study; loaded once and used for all.

    `settings` holds what makes one result differ from another (device, backend, cam, ...).
    """

    @property
    def identity(self) -> ModelIdentity:
        """Which model answers."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """JSON values; they go into run.json, and a change of them makes cases be computed anew."""

    def select(self, study: Study) -> Sequence[VolumeRef]:
        """The volumes to read. Called in the reading thread.

        Raises:
            InputRefusedError: If nothing in the study fits the model.
        """

    def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
        """The answer for the volumes that `select` named, in that order."""


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is run.

    Attributes:
        formats: Of FORMATS; "json" is always written.
        restart: Compute finished cases anew.
        summary_every_s: The tables are rebuilt this often while the run goes on.
        networks: Cases that may be in the network at a time, one or two, in a batch of many: two on
            a CPU, each on its share of the cores, one on a GPU.
    """

    formats: tuple[str, ...] = DEFAULT_FORMATS
    restart: bool = False
    summary_every_s: float = 30.0
    networks: Literal[1, 2] = 1


@dataclass(frozen=True)
class CaseOutcome:
    """What became of one case.

    Attributes:
        case_id: The case.
        status: "done" in this run, "resumed" (done before, or by another run) or "failed".
        seconds: Per stage, for a case done in this run.
        failure: The reason, for a failed one.
    """

    case_id: str
    status: Literal["done", "resumed", "failed"]
    seconds: Mapping[str, float] = field(default_factory=dict)
    failure: Failure | None = None


def run_batch(
    listing: Listing,
    analyser: Analyser,
    *,
    out: Path,
    input_path: Path,
    options: BatchOptions | None = None,
) -> Iterator[CaseOutcome]:
    """Analyse every study of a listing into a result folder, in the listing's order.

    Args:
        listing: What `open_input` found.
        analyser: The loaded model.
        out: Result folder; made if need be, resumed if it holds finished cases.
        input_path: What was listed; the paths in the listing are relative to it.
        options: Formats and restart.

    Yields:
        One outcome per study, good and bad alike, as soon as it is decided.

    Raises:
        OutputError: If the folder cannot be written (any more). Finished cases stay.
    """
    batch = Batch.open(listing, out=out, input_path=input_path, options=options or BatchOptions())

    reader = batch.reader(
        analyser.identity, analyser.settings, lambda study: begin_case(study, analyser)
    )
    is_many = len(listing.studies) >= _MANY
    networks = batch.options.networks if is_many else 1
    outcomes = _outcomes(reader, batch.store, batch.formats, networks=networks)
    yield from batch.with_tables(outcomes, analyser.identity, analyser.settings)


@dataclass(frozen=True, eq=False)
class Begun:
    """A case whose images are read and prepared: the network is next.

    Attributes:
        stages: Of the answer.
        read_s: Seconds that reading took.
    """

    stages: Stages
    read_s: float


def _by_part(listing: Listing, asked: Iterable[str]) -> dict[str, list[Failure]]:
    """The refusals of each study that was asked for, none for most, by the hash of its UID."""
    found: dict[str, list[Failure]] = {short_hash(uid): [] for uid in asked}
    for refusal in listing.refusals:
        part = short_hash(refusal.study_uid)
        found.setdefault(part, []).append(Failure.from_refusal(refusal))
    return found


def begin_case(study: Study, analyser: Analyser) -> Begun | Failure:
    """Read a study's volumes and prepare them for the network."""
    start_s = time.perf_counter()
    volumes = attempt(study.case_id, "read", lambda: [ref.read() for ref in analyser.select(study)])
    if isinstance(volumes, Failure):
        return volumes
    begun = Begun(stages_of(analyser, study, volumes), time.perf_counter() - start_s)
    del volumes
    return advanced(study.case_id, begun)


def advanced(case_id: str, begun: Begun) -> Begun | Failure:
    """Run the next stage of a case."""
    failure = attempt(case_id, "analyse", lambda: next(begun.stages))
    return failure or begun


@dataclass(frozen=True, eq=False)
class Batch:
    """A result folder that is open for one run over one listing, wherever the work is done.

    Attributes:
        listing: What was found.
        store: The result folder.
        input_path: What was listed.
        options: Restart, and how often the tables are written.
        formats: What is written, sorted, "json" among it.
        unusable: Studies whose names cannot be folders, by their place in the listing.
    """

    listing: Listing
    store: CaseStore
    input_path: Path
    options: BatchOptions
    formats: tuple[str, ...]
    unusable: Mapping[int, Failure]

    @classmethod
    def open(cls, listing: Listing, *, out: Path, input_path: Path, options: BatchOptions) -> Batch:
        """Open the folder and note there what the listing refused, in place of what is past.

        Of an archive, what is known of studies that were not asked for stays.

        Raises:
            OutputError: If the folder cannot be written.
        """
        store = CaseStore.open(out, input_path=input_path)
        unusable = unusable_names(study.case_id for study in listing.studies)
        cases = {study.case_id for study in listing.studies}
        if listing.asked is None:
            refusals = [Failure.from_refusal(refusal) for refusal in listing.refusals]
            store.note_refusals([*refusals, *unusable.values()])
            store.forget_failures(except_of=cases)
        else:
            by_part = _by_part(listing, listing.asked)
            for part, refusals in by_part.items():
                store.note_refusals(refusals, part=part)
            store.forget_failures(except_of=cases, parts=by_part)
        formats = tuple(sorted({*options.formats, "json"}))
        return cls(listing, store, input_path, options, formats, unusable)

    def reader(
        self,
        model: ModelIdentity,
        settings: Mapping[str, Any],
        read: Callable[[Study], Content | Failure],
    ) -> CaseReader[Content]:
        """Claims the cases that this model has not answered yet, in the listing's order."""
        studies = enumerate(self.listing.studies)
        return CaseReader.over(
            [study for place, study in studies if place not in self.unusable],
            store=self.store,
            input_path=self.input_path,
            model_key=model_key(model, settings, self.formats),
            read=read,
            restart=self.options.restart,
        )

    def with_tables(
        self, outcomes: Iterator[CaseOutcome], model: ModelIdentity, settings: Mapping[str, Any]
    ) -> Iterator[CaseOutcome]:
        """Pass the outcomes on and keep the tables of the folder up to date.

        Raises:
            OutputError: If the folder cannot be written any more.
        """
        summary, tally = Summary(self.store, model, dict(settings), self.formats), Tally()
        for failure in self.unusable.values():
            tally.count("failed", {})
            yield CaseOutcome(failure.what, "failed", failure=failure)
        try:
            for outcome in outcomes:
                tally.count(outcome.status, outcome.seconds)
                if tally.is_due(self.options.summary_every_s):
                    summary.write(tally.as_json())
                yield outcome
        except Exception:  # a full disk, a lost cluster: what was finished is in the tables
            with suppress(OutputError):  # they may still fit where a case did not
                summary.write(tally.as_json())
            raise
        summary.write(tally.as_json())


def _outcomes(
    reader: CaseReader[Begun], store: CaseStore, formats: Sequence[str], *, networks: int
) -> Iterator[CaseOutcome]:
    """Two cases at a time, while a third one is prepared.

    With one network at a time the network works on a case while the one before is reported. With
    two, each lane has its share of the processor for all that it does: nothing waits for a thread
    of the other.
    """
    turn = BoundedSemaphore(networks)
    with (
        shared_cores(1) as take_all,
        closing(read_ahead(reader, prepare=take_all)) as cases,
        shared_cores(networks) as share,
    ):
        yield from in_lanes(
            cases,
            partial(_finished, store=store, formats=formats, turn=turn),
            lanes=_LANES,
            prepare=share,
        )


def _finished(
    case: ReadCase[Begun] | DecidedCase,
    *,
    store: CaseStore,
    formats: Sequence[str],
    turn: AbstractContextManager[object],
) -> CaseOutcome:
    """Run the network on a case in its turn, write it and let its lock go."""
    if isinstance(case, DecidedCase):
        return decided_outcome(case)
    content = case.content
    try:
        if not isinstance(content, Failure):
            with turn:
                content = advanced(case.study.case_id, content)
    except BaseException:
        case.lock.release()
        raise
    return finish_case(case, store, lambda: _written(case, content, store, formats))


def decided_outcome(case: DecidedCase) -> CaseOutcome:
    """What is said of a case that needed no work."""
    return CaseOutcome(case.case_id, "failed" if case.failure else "resumed", failure=case.failure)


def finish_case(
    case: ReadCase[Any], store: CaseStore, write: Callable[[], Mapping[str, float] | Failure]
) -> CaseOutcome:
    """Let a case appear whole or not at all, and let its lock go.

    Args:
        case: Claimed.
        store: The result folder.
        write: Publishes the case and gives its seconds per stage, or says why it failed.

    Raises:
        OutputError: If the folder cannot be written any more.
    """
    case_id = case.study.case_id
    try:
        result = write()
        if isinstance(result, Failure):
            store.discard(case_id)
            store.note_failure(result, part=short_hash(case.study.study_uid))
            return CaseOutcome(case_id, "failed", failure=result)
        return CaseOutcome(case_id, "done", seconds=result)
    except BaseException:
        store.discard(case_id)
        raise
    finally:
        case.lock.release()


def _written(
    case: ReadCase[Begun], content: Begun | Failure, store: CaseStore, formats: Sequence[str]
) -> Mapping[str, float] | Failure:
    if isinstance(content, Failure):
        return content
    case_id = case.study.case_id
    folder = store.partial_folder(case_id)
    seconds = report_case(case.study, content, folder, formats=formats, resume=case.resume)
    if isinstance(seconds, Failure):
        return seconds
    with output_errors(f"Case {case_id}"):
        store.publish(case_id)
    return seconds


def report_case(
    study: Study,
    begun: Begun,
    folder: Path,
    *,
    formats: Sequence[str],
    resume: Mapping[str, str],
) -> Mapping[str, float] | Failure:
    """Run the last stage of a case and write all its files into a new folder.

    Returns:
        Seconds per stage, or why the case failed.

    Raises:
        OutputError: If the folder cannot be written.
    """
    prediction = attempt(study.case_id, "analyse", lambda: finish(begun.stages))
    if isinstance(prediction, Failure):
        return prediction

    def write() -> Mapping[str, float]:
        with output_errors(f"Case {study.case_id}"):
            return write_case(
                folder, study, prediction, formats=formats, resume=resume, read_s=begun.read_s
            )

    return attempt(study.case_id, "write", write)
