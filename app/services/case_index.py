"""Every finished case of the result folders: read once, looked at again only where it changed.

A line per case is kept in `OUT/.medmtl/viewer.json`, so that a second start reads one file and
not ten thousand; where the folder cannot be written, the index lives in memory only.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.services.case_row import CaseRow, row_from_json, row_of_case
from app.services.result_folders import find_places
from app.services.review_log import CaseRef
from app.services.study_date import study_date
from medmtl.core.durable import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["CaseIndex", "Snapshot"]

logger = logging.getLogger(__name__)

_VERSION = 3
_CASE = "case.json"
_NOTES = ".medmtl"
_CACHE = "viewer.json"

_DAMAGED = (
    OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
"""What a case.json of any content raises."""

_Stamp = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The cases at one moment; another number means another content.

    Attributes:
        number: Grows with every change.
        rows: By key, in the order of result folders and case ids.
        folders: Result folders by name.
        bundles: Model bundles that lie among them.
        damaged: Cases whose case.json cannot be read.
    """

    number: int
    rows: Mapping[str, CaseRow]
    folders: Mapping[str, Path]
    bundles: tuple[Path, ...]
    damaged: tuple[str, ...] = ()

    def folder(self, key: str) -> Path:
        """Where a case lies. A key comes from a browser: only known ones are a place.

        Raises:
            KeyError: If there is no such case.
        """
        row = self.rows[key]
        return self.folders[row.run] / row.case_id

    @functools.cached_property
    def _keys(self) -> dict[tuple[str, str, str], str]:
        return {
            (row.identity, row.model_sha256, answer): key
            for key, row in self.rows.items()
            for answer in ("", row.answer)
        }

    def placed(self, ref: CaseRef) -> CaseRef | None:
        """The same answer under its name in this viewer; None where it is not here.

        Another viewer, or this one over another folder, may have called it otherwise.
        """
        row = ref.among(self.rows)
        if row is None:
            place = (ref.identity, ref.model_sha256, ref.answer)
            row = self.rows.get(self._keys.get(place, ""))
        if row is None:
            return None
        return CaseRef(row.run, row.case_id, ref.model_sha256, row.identity, ref.answer)


@dataclass(eq=False)
class CaseIndex:
    """The cases below one folder; `snapshot` is cheap and safe from several threads.

    Attributes:
        root: Result folder, or a folder of result folders.
        further: Result folders outside of it; one that does not exist yet is looked for again.
        reads_dates: Whether study dates are read from the DICOM results.
        max_age_s: How old a look at the folders may be.
    """

    root: Path
    further: tuple[Path, ...] = ()
    reads_dates: bool = False
    max_age_s: float = 5.0
    _looking: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _known: dict[str, dict[str, tuple[_Stamp, CaseRow | None]]] = field(default_factory=dict)
    _snapshot: Snapshot | None = None
    _looked_s: float = 0.0
    _times: dict[str, int] = field(default_factory=dict)

    def snapshot(self, *, fresh: bool = False) -> Snapshot:
        """The cases as they were at most `max_age_s` ago, or now where `fresh`.

        `predict` moves a case into place, which changes the time of its result folder: where none
        has changed, nobody waits for a look at ten thousand cases, which is taken behind.
        """
        known = self._snapshot
        if fresh or known is None or not known.rows:
            return self._look_again()
        if time.monotonic() - self._looked_s <= self.max_age_s or self._looking.locked():
            return known
        if _times(known.folders) != self._times:
            return self._look_again()
        threading.Thread(target=self._look_again, daemon=True, name="case-index").start()
        return known

    def _look_again(self) -> Snapshot:
        with self._looking:
            times = _times(self._snapshot.folders) if self._snapshot else {}
            self._snapshot = found = self._look(self._snapshot)
            self._times = times if times.keys() == found.folders.keys() else _times(found.folders)
            self._looked_s = time.monotonic()
            return found

    def _look(self, before: Snapshot | None) -> Snapshot:
        places = find_places(self.root, further=self.further)
        changed = before is None or before.folders != places.results
        for run, folder in places.results.items():
            changed |= self._update(run, folder)
        if before is not None and not changed:
            return before
        found = [
            (run, case_id, row)
            for run in places.results
            for case_id, (_, row) in sorted(self._known[run].items())
        ]
        return Snapshot(
            number=before.number + 1 if before else 0,
            rows={row.key: row for _, _, row in found if row is not None},
            folders=places.results,
            bundles=places.bundles,
            damaged=tuple(case_id for _, case_id, row in found if row is None),
        )

    def _update(self, run: str, folder: Path) -> bool:
        """Read what is new or changed in one result folder; whether anything was."""
        known = self._known.setdefault(run, {})
        if not known:
            known |= _read_cache(folder, run, has_dates=self.reads_dates)
        stamps = _stamps(folder)
        old = {name: stamp for name, (stamp, _) in known.items()}
        if old == stamps:
            return False
        for name in old.keys() - stamps.keys():
            del known[name]
        for name, stamp in stamps.items():
            if old.get(name) != stamp:
                known[name] = (stamp, self._read(run, folder / name))
        _write_cache(folder, known, has_dates=self.reads_dates)
        return True

    def _read(self, run: str, case: Path) -> CaseRow | None:
        try:
            record = json.loads((case / _CASE).read_bytes())
            if record["status"] != "done" or record["case_id"] != case.name:
                return None
            date = study_date(case) if self.reads_dates else ""
            return row_of_case(record, run=run, study_date=date)
        except _DAMAGED:
            logger.warning("case %s: case.json cannot be read; it is left out", case.name)
            return None


def _times(folders: Mapping[str, Path]) -> dict[str, int]:
    """When something was last put into each folder; 0 where it is gone."""
    found: dict[str, int] = {}
    for run, folder in folders.items():
        try:
            found[run] = folder.stat().st_mtime_ns
        except OSError:
            found[run] = 0
    return found


def _stamps(folder: Path) -> dict[str, _Stamp]:
    """Time and size of every case.json; strings, as ten thousand Path objects take 0.1 s."""
    found: dict[str, _Stamp] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == "." or not entry.is_dir(follow_symlinks=False):
                continue
            try:
                status = os.stat(f"{entry.path}/{_CASE}")  # noqa: PTH116 - see above
            except OSError:
                continue
            found[entry.name] = (status.st_mtime_ns, status.st_size)
    return found


def _read_cache(
    folder: Path, run: str, *, has_dates: bool
) -> dict[str, tuple[_Stamp, CaseRow | None]]:
    """What an earlier viewer kept; nothing where it is missing, damaged or made otherwise."""
    try:
        kept: dict[str, Any] = json.loads((folder / _NOTES / _CACHE).read_bytes())
        if kept["version"] != _VERSION or kept["has_dates"] != has_dates:
            return {}
        return {
            name: ((stamp[0], stamp[1]), row_from_json([run, *values]))
            for name, (stamp, values) in kept["cases"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_cache(
    folder: Path, known: Mapping[str, tuple[_Stamp, CaseRow | None]], *, has_dates: bool
) -> None:
    cases = {
        name: (stamp, row.as_json()[1:])  # the run's name changes with the folder that is opened
        for name, (stamp, row) in known.items()
        if row is not None
    }
    kept = {"version": _VERSION, "has_dates": has_dates, "cases": cases}
    try:
        (folder / _NOTES).mkdir(exist_ok=True)
        replace_file(folder / _NOTES / _CACHE, json.dumps(kept, separators=(",", ":")).encode())
    except OSError:
        logger.info("the index of a result folder is not kept: it cannot be written")
