"""Many studies through one model: what is done is kept, what goes wrong is said, nothing is half.

The library yields one outcome per case; the program draws the progress.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from medmtl.core.errors import OutputError
from medmtl.inference.case_names import unusable_names
from medmtl.inference.case_store import CaseStore, output_errors
from medmtl.inference.failure import attempt
from medmtl.inference.read_ahead import CaseReader, DecidedCase, ReadCase, read_ahead
from medmtl.inference.resume import model_key
from medmtl.inference.summary import Summary
from medmtl.inference.tally import Tally
from medmtl.inference.write_case import DEFAULT_FORMATS, FORMATS, write_case
from medmtl.report.table import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from medmtl.core.prediction import ModelIdentity, Prediction
    from medmtl.core.study import Listing, Study, VolumeRef
    from medmtl.core.volume import Volume

__all__ = ["FORMATS", "Analyser", "BatchOptions", "CaseOutcome", "run_batch"]


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
    """

    formats: tuple[str, ...] = DEFAULT_FORMATS
    restart: bool = False
    summary_every_s: float = 30.0


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
    options = options or BatchOptions()
    formats = sorted({*options.formats, "json"})
    store = CaseStore.open(out, input_path=input_path)
    unusable = unusable_names(study.case_id for study in listing.studies)
    refusals = [Failure.from_refusal(refusal) for refusal in listing.refusals]
    store.note_refusals([*refusals, *unusable.values()])
    store.forget_failures(except_of={study.case_id for study in listing.studies})
    summary = Summary(store, analyser.identity, dict(analyser.settings), formats)
    reader = CaseReader.over(
        [study for place, study in enumerate(listing.studies) if place not in unusable],
        store=store,
        input_path=input_path,
        model_key=model_key(analyser.identity, analyser.settings, formats),
        select=analyser.select,
        restart=options.restart,
    )
    tally = Tally()
    for failure in unusable.values():
        tally.count("failed", {})
        yield CaseOutcome(failure.what, "failed", failure=failure)
    try:
        for outcome in _outcomes(reader, analyser, store, formats):
            tally.count(outcome.status, outcome.seconds)
            if tally.is_due(options.summary_every_s):
                summary.write(tally.as_json())
            yield outcome
    except OutputError:
        with suppress(OutputError):  # the tables may still fit where a case did not
            summary.write(tally.as_json())
        raise
    summary.write(tally.as_json())


def _outcomes(
    reader: CaseReader, analyser: Analyser, store: CaseStore, formats: Sequence[str]
) -> Iterator[CaseOutcome]:
    """Analyse one case while the next is read and the previous one written, in their order.

    At most three cases are in memory.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="medmtl-write") as pool:
        behind: Future[CaseOutcome] | None = None
        for case in read_ahead(reader):
            before, behind = behind, pool.submit(_finish_of(case, analyser, store, formats))
            del case  # its images are not kept while the next one is awaited
            if before is not None:
                yield before.result()
        if behind is not None:
            yield behind.result()


def _finish_of(
    case: ReadCase | DecidedCase, analyser: Analyser, store: CaseStore, formats: Sequence[str]
) -> Callable[[], CaseOutcome]:
    """Analyse a case now; what is returned writes it and lets its lock go."""
    if isinstance(case, DecidedCase):
        status: Literal["resumed", "failed"] = "failed" if case.failure else "resumed"
        outcome = CaseOutcome(case.case_id, status, failure=case.failure)
        return lambda: outcome
    try:
        answer = _analyse(case, analyser)
    except BaseException:
        case.lock.release()
        raise
    return partial(_finish, case, answer, store, formats)


def _analyse(case: ReadCase, analyser: Analyser) -> Prediction | Failure:
    study, volumes = case.study, case.volumes
    if isinstance(volumes, Failure):
        return volumes
    return attempt(study.case_id, "analyse", lambda: analyser.analyse(study, volumes))


def _finish(
    case: ReadCase, answer: Prediction | Failure, store: CaseStore, formats: Sequence[str]
) -> CaseOutcome:
    """Write a case whole or not at all."""
    case_id = case.study.case_id
    try:
        result: Mapping[str, float] | Failure = (
            answer
            if isinstance(answer, Failure)
            else attempt(case_id, "write", lambda: _write(case, answer, store, formats))
        )
        if isinstance(result, Failure):
            store.discard(case_id)
            store.note_failure(result)
            return CaseOutcome(case_id, "failed", failure=result)
        return CaseOutcome(case_id, "done", seconds=result)
    except BaseException:
        store.discard(case_id)
        raise
    finally:
        case.lock.release()


def _write(
    case: ReadCase, prediction: Prediction, store: CaseStore, formats: Sequence[str]
) -> Mapping[str, float]:
    case_id = case.study.case_id
    with output_errors(f"Case {case_id}"):
        seconds = write_case(
            store.partial_folder(case_id),
            case.study,
            prediction,
            formats=formats,
            resume=case.resume,
            read_s=case.read_s,
        )
        store.publish(case_id)
    return seconds
