"""Which cases are studies of one patient: known while the viewer runs, and written nowhere.

Results hold no patient identity on purpose. Where the images are at hand, name, number and birth
date are read from one header of each study and kept as a keyed hash (HMAC, RFC 2104) under a key
that is drawn at every start. Studies belong together only where all of them are equal; a number
that is missing, a placeholder, or without name and birth date, belongs to nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import threading
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

from app.services.images import direct_roots, noted_inputs
from medmtl.dicom.limits import ReadLimits
from medmtl.dicom.worker_client import Worker, WorkerError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from app.services.case_index import Snapshot
    from app.services.case_row import CaseRow

__all__ = ["OtherStudy", "PatientIndex"]

_FACTS = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientName")
_NOBODY = re.compile(
    r"(anon\w*|unknown|none|null|n/?a|no\W?id|patient|test|dummy|removed|[0x*?.\W_]+)\W*\d{0,2}",
    re.IGNORECASE,
)
"""What stands in the number of patients that nobody can tell apart."""


@dataclass(frozen=True)
class OtherStudy:
    """Another study of the same patient.

    Attributes:
        key: Of its case.
        taken: When; None where the header does not say.
        days: From the study beside which it stands; negative for an earlier one.
    """

    key: str
    taken: date | None
    days: int | None


@dataclass(frozen=True)
class _Seen:
    identity: str
    patient: bytes | None
    taken: date | None


@dataclass(eq=False)
class PatientIndex:
    """Looks at the headers beside the pages; safe from several threads.

    Attributes:
        roots: Where images may lie, beside the inputs that result folders note.
    """

    roots: tuple[Path, ...]
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _seen: dict[str, _Seen] = field(default_factory=dict, repr=False)
    _looked_at: Snapshot | None = field(default=None, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def look(self, snapshot: Snapshot, *, wait_s: float) -> bool:
        """Look at what is new, and wait for it at most so long; whether it is all known now."""
        with self._lock:
            if self._looked_at is not snapshot and not self._is_busy():
                self._looked_at = snapshot
                self._thread = threading.Thread(target=self._look, args=(snapshot,), daemon=True)
                self._thread.start()
        if self._thread is not None:
            self._thread.join(wait_s)
        return not self._is_busy() and self._looked_at is snapshot

    def others(self, row: CaseRow, snapshot: Snapshot) -> tuple[OtherStudy, ...]:
        """Other studies of the patient, as far as known: the nearest earlier one first.

        A study that several models answered stands there once, by the same model where it can.
        """
        mine = self._seen.get(row.key)
        if mine is None or mine.patient is None:
            return ()
        found: dict[str, OtherStudy] = {}
        for key, other in snapshot.rows.items():
            seen = self._seen.get(key)
            if seen is None or seen.patient != mine.patient or other.identity == row.identity:
                continue
            if other.identity not in found or other.model_sha256 == row.model_sha256:
                days = (seen.taken - mine.taken).days if seen.taken and mine.taken else None
                found[other.identity] = OtherStudy(key, seen.taken, days)
        return tuple(sorted(found.values(), key=_nearness))

    def _is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _look(self, snapshot: Snapshot) -> None:
        noted = {run: noted_inputs(folder) for run, folder in snapshot.folders.items()}
        worker = Worker(ReadLimits())
        try:
            for key, row in snapshot.rows.items():
                known = self._seen.get(key)
                if row.kind == "dicom" and (known is None or known.identity != row.identity):
                    roots = (*noted[row.run], *self.roots)
                    facts = _facts(worker, snapshot.folder(key), roots)
                    self._seen[key] = _Seen(row.identity, self._hash(facts), _taken(facts))
        finally:
            worker.close()

    def _hash(self, facts: Mapping[str, str]) -> bytes | None:
        if not facts.get("PatientID") or _NOBODY.fullmatch(facts["PatientID"]):
            return None
        known = {name: facts.get(name, "").casefold().rstrip("^= ") for name in _FACTS}
        if not (known["PatientName"] or known["PatientBirthDate"]):
            return None
        return hmac.digest(self._key, json.dumps(list(known.values())).encode(), hashlib.sha256)


def _nearness(study: OtherStudy) -> tuple[bool, bool, int]:
    days = study.days
    return days is None, days is not None and days > 0, abs(days or 0)


def _taken(facts: Mapping[str, str]) -> date | None:
    text = facts.get("StudyDate")
    # The reader has checked it: a date of the calendar, eight digits.
    return datetime.strptime(text, "%Y%m%d").date() if text else None  # noqa: DTZ007


def _facts(worker: Worker, case: Path, roots: tuple[Path, ...]) -> Mapping[str, str]:
    """Of the first file of the case's series, where it lies under an input; archives stay closed.

    Other inputs may hold a file of the same name: only that of the same series tells anything.
    """
    try:
        volume = json.loads((case / "case.json").read_bytes())["source"]["volumes"][0]
        for root in direct_roots(volume["path"], roots):
            path = root / volume["path"]
            if path.is_file() and _series(worker, path) == volume["series_uid"]:
                return worker.patient(path)
    except (OSError, ValueError, LookupError, TypeError, WorkerError):
        pass  # what cannot be read belongs to nobody; the case page says what is wrong with it
    return {}


def _series(worker: Worker, path: Path) -> str | None:
    uid = worker.header(path).get("SeriesInstanceUID")
    return str(uid) if uid else None
