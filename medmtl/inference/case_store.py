"""The result folder: cases that appear whole or not at all, and the failures that are known.

    OUT/<case>/                       finished: case.json was written last, the folder moved here
    OUT/.medmtl/partial/<case>/       being written by whoever holds the lock of the case
    OUT/.medmtl/replaced/<case>/      the former result, for the moment of its replacement
    OUT/.medmtl/locks/<case>          held while a case is worked on
    OUT/.medmtl/failures/<case>.json  a failure is retried by the next run and then goes away
    OUT/.medmtl/refusals/<input>.json what an input's listing refused
    OUT/.medmtl/inputs/<input>.json   where the input lies, for the viewer; nothing else names it

Only the holder of a case's lock touches what belongs to the case, so whatever a dead run left
behind is removed by the next holder, without any guess about ages or process numbers.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from medmtl.core.durable import replace_file, sync_folder
from medmtl.core.errors import OutputError, system_reason
from medmtl.inference.lock import FileLock
from medmtl.report.case_json import as_json_bytes
from medmtl.report.table import Failure

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = ["CASE_FILE", "DEIDENTIFIED", "CaseStore", "output_errors"]

CASE_FILE = "case.json"
DEIDENTIFIED = ".medmtl/deidentified"
"""In a result folder of which nothing may tell who the patients are."""
_POLL_S = 0.05
_FAILURE_FIELDS = tuple(field.name for field in fields(Failure))
_AREAS = ("partial", "replaced", "locks", "failures", "refusals", "inputs")


@contextmanager
def output_errors(what: str) -> Iterator[None]:
    """Turn an OSError of a write into an OutputError that says what to do.

    Raises:
        OutputError: In place of any OSError.
    """
    try:
        yield
    except OSError as error:
        message = (
            f"{what} could not be written: {system_reason(error)}. Free or change the output "
            "folder and start again; finished cases are kept and not computed again."
        )
        raise OutputError(message) from error


@dataclass(frozen=True)
class CaseStore:
    """One result folder, as one run over one input sees it.

    Attributes:
        root: The folder.
        input_key: Tells notes about this input from those about others; names no place.
        since_ns: The file system's time when this run began.
    """

    root: Path
    input_key: str
    since_ns: int

    @classmethod
    def open(cls, root: Path, *, input_path: Path) -> CaseStore:
        """Make the folder if need be, prove that it can be written, clear what dead runs left.

        Raises:
            OutputError: If the folder cannot be made or written.
        """
        with output_errors("The output folder"):
            for area in _AREAS:
                (root / ".medmtl" / area).mkdir(parents=True, exist_ok=True)
            started = root / ".medmtl" / "started"
            started.write_bytes(b"medmtl\n")
            place = str(input_path.resolve())
            key = hashlib.sha256(place.encode()).hexdigest()[:16]
            if not (root / DEIDENTIFIED).exists():  # a folder may bear the patient's name
                note = root / ".medmtl" / "inputs" / f"{key}.json"
                # In place: two runs that start together write the same, and no lock is held yet.
                note.write_bytes(as_json_bytes({"path": place}))
            store = cls(root, key, started.stat().st_mtime_ns)
            store._clear_dead()
        return store

    def area(self, name: str) -> Path:
        """A folder of the run's own notes."""
        return self.root / ".medmtl" / name

    def case_folder(self, case_id: str) -> Path:
        """Where a finished case lies."""
        return self.root / case_id

    def partial_folder(self, case_id: str) -> Path:
        """Where the holder of the case's lock writes."""
        return self.area("partial") / case_id

    def try_claim(self, case_id: str) -> FileLock | None:
        """Take the case, clearing what a dead run left of it; None where another run has it.

        Raises:
            OutputError: If the lock cannot be made.
        """
        with output_errors("A lock"):
            lock = FileLock.try_acquire(self.area("locks") / case_id)
            if lock is not None:
                self.discard(case_id)
        return lock

    def discard(self, case_id: str) -> None:
        """Remove what is not finished of a case."""
        for area in ("partial", "replaced"):
            shutil.rmtree(self.area(area) / case_id, ignore_errors=True)

    def _clear_dead(self) -> None:
        left = {path.name for area in ("partial", "replaced") for path in self.area(area).iterdir()}
        left |= {path.name for path in self.area("locks").iterdir()}
        for case_id in left:
            lock = self.try_claim(case_id)
            if lock is not None:
                lock.release()

    def publish(self, case_id: str, folder: Path | None = None) -> None:
        """Move a complete folder into place, whole, replacing an older result.

        Args:
            case_id: The case, whose lock the caller holds.
            folder: What was written, somewhere in the partial folder; all of that if not given.

        Raises:
            OSError: If the folder cannot be moved.
        """
        partial, final = folder or self.partial_folder(case_id), self.case_folder(case_id)
        for part in (*(p for p in partial.rglob("*") if p.is_dir()), partial):
            sync_folder(part)
        if final.exists():
            final.rename(self.area("replaced") / case_id)
        partial.rename(final)
        sync_folder(self.root)
        self.discard(case_id)
        (self.area("failures") / f"{case_id}.json").unlink(missing_ok=True)

    def record(self, case_id: str) -> dict[str, Any] | None:
        """The case.json of a finished case; None where there is none or it is damaged."""
        try:
            record = json.loads((self.case_folder(case_id) / CASE_FILE).read_bytes())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and record.get("status") == "done" else None

    def is_finished(self, case_id: str, resume: Mapping[str, str], *, restart: bool) -> bool:
        """Whether the case is there, made from the same input by the same model and settings.

        With `restart`, only what was finished since this run began counts: another run on the
        same folder has then done it.
        """
        record = self.record(case_id)
        if record is None or record.get("resume") != dict(resume):
            return False
        folder = self.case_folder(case_id)
        try:
            if restart and (folder / CASE_FILE).stat().st_mtime_ns < self.since_ns:
                return False
            files: dict[str, int] = record["files"]
            return all((folder / name).stat().st_size == size for name, size in files.items())
        except (OSError, KeyError, AttributeError):
            return False

    def note_failure(self, failure: Failure, *, part: str) -> None:
        """Remember a failed case for failures.csv, until a later run succeeds.

        Args:
            failure: Why.
            part: Name of the part of the input that the case is made of.

        Raises:
            OutputError: If it cannot be written.
        """
        with output_errors("A failure"):
            path = self.area("failures") / f"{failure.case_id}.json"
            note = {"input": self.input_key, "part": part, **asdict(failure)}
            replace_file(path, as_json_bytes(note))

    def failure(self, case_id: str, *, since_start: bool) -> Failure | None:
        """The known failure of a case, where asked only one noted since this run began."""
        path = self.area("failures") / f"{case_id}.json"
        try:
            if since_start and path.stat().st_mtime_ns < self.since_ns:
                return None
            note = json.loads(path.read_bytes())
            return Failure(**{name: note[name] for name in _FAILURE_FIELDS})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def forget_failures(
        self, *, except_of: Collection[str], parts: Collection[str] | None = None
    ) -> None:
        """Drop what is noted about cases that this input had once and has no longer.

        Args:
            except_of: The cases that it has.
            parts: Names of the parts of the input that were listed; None for all.

        Raises:
            OutputError: If a note cannot be removed.
        """
        for path in self.area("failures").glob("*.json"):
            if path.stem not in except_of and self._is_of_this_input(path, parts):
                with output_errors("A failure"):
                    path.unlink(missing_ok=True)

    def _is_of_this_input(self, path: Path, parts: Collection[str] | None) -> bool:
        try:
            note = json.loads(path.read_bytes())
            return note["input"] == self.input_key and (parts is None or note["part"] in parts)
        except (OSError, ValueError, TypeError, KeyError):
            return False

    def note_refusals(self, refusals: Iterable[Failure], *, part: str = "") -> None:
        """Remember what the input's listing refused, in place of what it refused before.

        Args:
            refusals: All of them.
            part: Name of the part of the input that was listed, fit for a file's name; "" for all.

        Raises:
            OutputError: If it cannot be written.
        """
        rows = [asdict(refusal) for refusal in refusals]
        with output_errors("The refusals"), self.sole_writer():
            path = self.area("refusals") / f"{self.input_key}{part and f'-{part}'}.json"
            if rows:
                replace_file(path, as_json_bytes({"refusals": rows}))
            else:
                path.unlink(missing_ok=True)

    @contextmanager
    def sole_writer(self) -> Iterator[None]:
        """Wait for the right to write what belongs to the folder and not to one case."""
        while (lock := FileLock.try_acquire(self.root / ".medmtl" / "tables.lock")) is None:
            time.sleep(_POLL_S)
        try:
            yield
        finally:
            lock.release()

    def failures(self) -> list[Failure]:
        """Every failure and refusal known in this folder."""
        notes = sorted(self.area("failures").glob("*.json"))
        cases = [self.failure(note.stem, since_start=False) for note in notes]
        return [failure for failure in cases if failure is not None] + self._refusals()

    def _refusals(self) -> list[Failure]:
        found: list[Failure] = []
        for path in self.area("refusals").glob("*.json"):
            try:
                found += [Failure(**row) for row in json.loads(path.read_bytes())["refusals"]]
            except (OSError, ValueError, TypeError, KeyError):
                continue  # damaged by hand; the next run over that input writes it anew
        return found
