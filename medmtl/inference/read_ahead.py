"""Claims cases and reads them in a thread of its own, one case ahead of the network.

At most two cases of it are in memory: the one the network works on and the next one.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from medmtl.inference.failure import attempt
from medmtl.inference.resume import source_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from medmtl.core.study import Study
    from medmtl.inference.case_store import CaseStore
    from medmtl.inference.lock import FileLock
    from medmtl.report.table import Failure

__all__ = ["CaseReader", "DecidedCase", "ReadCase", "let_go", "read_ahead"]

Content = TypeVar("Content")

logger = logging.getLogger(__name__)

_POLL_S = 0.2


@dataclass(frozen=True, eq=False)
class ReadCase(Generic[Content]):
    """A claimed case with what was read for it, or the reason why that could not be."""

    study: Study
    lock: FileLock
    resume: Mapping[str, str]
    content: Content | Failure


@dataclass(frozen=True)
class DecidedCase:
    """A case that needs no work: finished before or by another run, or failed in another run."""

    case_id: str
    failure: Failure | None = None


@dataclass(eq=False)
class CaseReader(Generic[Content]):
    """Gives one case after another; `next_case` is called by one thread at a time.

    Attributes:
        read: Gives what the network needs of a claimed study. Called in the reading thread.
    """

    store: CaseStore
    input_path: Path
    model_key: str
    read: Callable[[Study], Content | Failure]
    restart: bool
    waiting: deque[Study]
    elsewhere: deque[Study]
    has_said_waiting: bool = False

    @classmethod
    def over(
        cls,
        studies: Iterable[Study],
        *,
        store: CaseStore,
        input_path: Path,
        model_key: str,
        read: Callable[[Study], Content | Failure],
        restart: bool,
    ) -> CaseReader[Content]:
        """A reader over studies in their given order."""
        return cls(store, input_path, model_key, read, restart, deque(studies), deque())

    def next_case(self) -> ReadCase[Content] | DecidedCase | None:
        """The next case to work on or to count; None when every case is decided.

        Cases that another run works on come last; if that run dies, they are taken over.

        Raises:
            OutputError: If the result folder cannot be used any more.
        """
        while self.waiting or self.elsewhere:
            if not self.waiting:
                self._say_waiting()
                time.sleep(_POLL_S)
                self.waiting.extend(self.elsewhere)
                self.elsewhere.clear()
            study = self.waiting.popleft()
            case = self._claim(study)
            if case is not None:
                return case
            self.elsewhere.append(study)
        return None

    def _say_waiting(self) -> None:
        if not self.has_said_waiting:
            self.has_said_waiting = True
            logger.info("waiting for %d case(s) that another run works on", len(self.elsewhere))

    def _claim(self, study: Study) -> ReadCase[Content] | DecidedCase | None:
        fingerprint = source_fingerprint(study, self.input_path)
        resume = {"model_key": self.model_key, "source": fingerprint}
        decided = self._decided(study.case_id, resume)
        if decided is not None:
            return decided
        lock = self.store.try_claim(study.case_id)
        if lock is None:
            return None
        return self._decided_or_read(study, lock, resume)

    def _decided_or_read(
        self, study: Study, lock: FileLock, resume: Mapping[str, str]
    ) -> ReadCase[Content] | DecidedCase:
        try:
            decided = self._decided(study.case_id, resume)  # another run may just have done it
            if decided is not None:
                lock.release()
                return decided
            content = attempt(study.case_id, "read", lambda: self.read(study))
            return ReadCase(study, lock, resume, content)
        except BaseException:
            lock.release()
            raise

    def _decided(self, case_id: str, resume: Mapping[str, str]) -> DecidedCase | None:
        if self.store.is_finished(case_id, resume, restart=self.restart):
            return DecidedCase(case_id)
        failure = self.store.failure(case_id, since_start=True)
        return None if failure is None else DecidedCase(case_id, failure)


def read_ahead(
    reader: CaseReader[Content], *, prepare: Callable[[], None] = lambda: None
) -> Generator[ReadCase[Content] | DecidedCase]:
    """Yield the reader's cases while the next one is being read; unused claims are let go.

    Args:
        reader: Asked in a thread of its own.
        prepare: Called once in that thread before.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="medmtl-read", initializer=prepare) as pool:
        ahead = pool.submit(reader.next_case)
        try:
            while (current := ahead.result()) is not None:
                ahead = pool.submit(reader.next_case)
                yield current
                current = None  # while the next one is awaited, this one can be freed
        finally:
            let_go(reader, ahead)


def let_go(
    reader: CaseReader[Content], ahead: Future[ReadCase[Content] | DecidedCase | None]
) -> None:
    """End the reader, and release the claim of a case that it has read for nobody."""
    reader.waiting.clear()
    reader.elsewhere.clear()
    if ahead.cancel() or ahead.exception() is not None:
        return
    case = ahead.result()
    if isinstance(case, ReadCase):
        case.lock.release()
