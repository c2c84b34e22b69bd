"""One look at an archive or folder: what is new and complete is analysed, results are sent."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .deidentify import as_wanted
from .pacs_source import images_root
from .predict import follow
from .push import push_cases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medmtl.core.pseudonym import Pseudonyms
    from medmtl.core.study import Listing
    from medmtl.inference.batch import Analyser, BatchOptions
    from medmtl.pacs.address import PacsQuery
    from medmtl.pacs.archive import Archive
    from medmtl.pacs.arrivals import Arrival
    from medmtl.pacs.drop_folder import Dropped
    from medmtl.pacs.journal import Journal
    from medmtl.pacs.push import Target

logger = logging.getLogger("medmtl.watch")


@dataclass(frozen=True, eq=False)
class Watcher:
    """What every look needs.

    Attributes:
        out: Result folder.
        analyser: The loaded model.
        options: How every batch is run.
        target: Where results go, or None.
        pseudonyms: Where results are to tell nobody who they are of.
        journal: `study:`, `folder:` and `received:` keys say what was looked at, `push:` keys what
            was sent.
    """

    out: Path
    analyser: Analyser
    options: BatchOptions
    target: Target | None
    journal: Journal
    pseudonyms: Pseudonyms | None = None

    @classmethod
    @contextmanager
    def open(
        cls,
        out: Path,
        *,
        analyser: Analyser,
        options: BatchOptions,
        target: Target | None,
        pseudonyms: Pseudonyms | None = None,
    ) -> Iterator[Watcher]:
        """Take the result folder; one watcher at a time has it.

        Raises:
            ConfigError: If another watcher runs there.
            OutputError: If it cannot be written.
        """
        from medmtl.core.errors import ConfigError
        from medmtl.inference.case_store import output_errors
        from medmtl.inference.lock import FileLock
        from medmtl.pacs.journal import Journal

        state = out / ".medmtl"
        with output_errors("The output folder"):
            state.mkdir(parents=True, exist_ok=True)
            lock = FileLock.try_acquire(state / "watch.lock")
        if lock is None:
            raise ConfigError("another medmtl watch writes to this output folder.")
        try:
            journal = Journal.open(state / "watch.jsonl")
            yield cls(out, analyser, options, target, journal, pseudonyms)
        finally:
            lock.release()

    def analyse(self, listing: Listing, input_path: Path) -> int:
        """Analyse a listing, note what is to be sent, and return how many failed."""
        from medmtl.inference.batch import run_batch
        from medmtl.inference.predictor import arranged

        listing = as_wanted(arranged(listing, self.analyser), self.pseudonyms)
        for refusal in listing.refusals:
            logger.error("refused %s: %s. %s", refusal.source, refusal.code, refusal.advice)
        outcomes = run_batch(
            listing, self.analyser, out=self.out, input_path=input_path, options=self.options
        )
        failed = len(listing.refusals) + follow(outcomes, total=len(listing.studies))
        for study in listing.studies:
            self._note_results(study.case_id)
        return failed

    def name(self, *uids: str) -> str:
        """A name for UIDs, for the journal."""
        from medmtl.pacs.image_files import short_hash

        return self.pseudonyms.name(*uids) if self.pseudonyms else short_hash(*uids)

    def _note_results(self, case_id: str) -> None:
        record = self.out / case_id / "case.json"
        if self.target is None or not record.is_file():
            return
        key = f"push:{hashlib.sha256(record.read_bytes()).hexdigest()[:16]}:{case_id}"
        if self.journal.state(key) is None:
            self.journal.note(key, "due", time_s=time.time())

    def send(self) -> int:
        """Send what is due; return how many files the archive refused, to be tried again."""
        if self.target is None:
            return 0
        failed = 0
        for key in self.journal.keys(prefix="push:", state="due"):
            case = self.out / key.split(":", 2)[2]
            refused = push_cases(self.target, [case], root=self.out)
            failed += refused
            if not refused:
                self.journal.note(key, "sent", time_s=time.time())
        return failed


def watch_archive(
    watcher: Watcher,
    archive: Archive,
    query: PacsQuery,
    *,
    settle_s: float,
    forget_images: bool,
    images: Path | None = None,
) -> Callable[[], int]:
    """A look at an archive, to be taken again and again; it returns how much failed."""
    from medmtl.pacs.arrivals import Arrivals
    from medmtl.pacs.errors import PacsError, PacsUnreachableError

    arrivals = Arrivals(archive, query, watcher.journal, settle_s, watcher.name)
    root = images_root(watcher.out, query, images=images)

    def look() -> int:
        failed = 0
        failures: list[PacsError] = []
        for arrival in arrivals.settled(now_s=time.time(), failures=failures):
            try:
                failed += _analyse_arrival(
                    watcher, archive, arrival, root=root, forget_images=forget_images
                )
            except PacsUnreachableError:
                raise
            except PacsError as error:  # of this study; it is tried again, the others go on
                logger.warning("%s", error)
                failed += 1
            with suppress(PacsError):  # what is not sent now is sent, or said, at the end
                watcher.send()
        for failure in failures:
            logger.warning("%s", failure)
        return failed + len(failures) + watcher.send()

    return look


def _analyse_arrival(
    watcher: Watcher, archive: Archive, arrival: Arrival, *, root: Path, forget_images: bool
) -> int:
    from medmtl.core.errors import OutputError
    from medmtl.data.intake import open_input
    from medmtl.pacs.retrieve import retrieve_study

    folder = retrieve_study(archive, arrival.images, root=root).folder
    failed = watcher.analyse(open_input(folder), folder)
    watcher.journal.note(arrival.key, "failed" if failed else "done", time_s=time.time())
    if forget_images:
        try:
            shutil.rmtree(folder)
        except OSError:
            raise OutputError(f"Images of study {folder.name} could not be removed.") from None
    return failed


def watch_folder(watcher: Watcher, folder: Path, *, settle_s: float) -> Callable[[], int]:
    """A look at a folder, to be taken again and again; it returns how much failed."""
    from medmtl.pacs.drop_folder import look_at

    def look() -> int:
        dropped = look_at(folder, settle_s=settle_s, now_s=time.time())
        failed = 0
        if dropped.settled and watcher.journal.state(dropped.key) is None:
            failed = watcher.analyse(_settled(folder, dropped), folder)
            watcher.journal.note(dropped.key, "done", time_s=time.time())
        return failed + watcher.send()

    return look


def watch_received(watcher: Watcher, folder: Path, *, settle_s: float) -> Callable[[], int]:
    """A look at what a receiver writes, one folder per study, to be taken again and again.

    A study to which images are added later is analysed again, as in an archive.
    """
    from medmtl.core.errors import MedmtlError
    from medmtl.data.intake import open_input
    from medmtl.pacs.drop_folder import look_at
    from medmtl.pacs.errors import PacsError

    def look() -> int:
        failed = 0
        dropped = look_at(folder, settle_s=settle_s, now_s=time.time())
        for name, digest in dropped.settled.items():
            key = f"received:{watcher.name(name)}:{digest}"
            if watcher.journal.state(key) is not None:
                continue
            try:
                listing = open_input(folder / name)
            except MedmtlError:  # removed since the look
                continue
            refused = watcher.analyse(listing, folder / name)
            watcher.journal.note(key, "failed" if refused else "done", time_s=time.time())
            failed += refused
            with suppress(PacsError):  # what is not sent now is sent, or said, at the end
                watcher.send()
        return failed + watcher.send()

    return look


def _settled(folder: Path, dropped: Dropped) -> Listing:
    """The studies that lie in complete entries only; refusals once all entries are complete.

    A refused series names no file, so while something is still being copied it may be that.
    """
    from medmtl.core.study import Listing
    from medmtl.data.intake import open_input

    listing = open_input(folder)
    studies = tuple(
        study
        for study in listing.studies
        if all(dropped.holds(name) for ref in study.volumes for name in ref.source_files)
    )
    return Listing(studies, listing.refusals if dropped.is_all else (), listing.skipped)
