"""cases.csv, failures.csv and run.json, always rebuilt from what lies in the result folder.

So an interrupted run that was resumed, two runs at once and an undisturbed run end with the same
tables. Rows are kept between rebuilds; 10,000 finished cases cost one look at each folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medmtl.core.durable import replace_file
from medmtl.inference.case_store import CASE_FILE, output_errors
from medmtl.report.case_json import as_json_bytes
from medmtl.report.run_record import run_record
from medmtl.report.table import case_row, cases_csv, failures_csv

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.core.prediction import ModelIdentity
    from medmtl.inference.case_store import CaseStore
    from medmtl.report.table import Failure

__all__ = ["Summary"]


@dataclass(frozen=True, eq=False)
class Summary:
    """The tables of one result folder."""

    store: CaseStore
    model: ModelIdentity
    settings: Mapping[str, Any]
    formats: Sequence[str]
    rows: dict[str, tuple[tuple[int, int], dict[str, Any]]] = field(default_factory=dict)

    def write(self, this_run: Mapping[str, Any]) -> None:
        """Rebuild all three files, each replaced in one step.

        Raises:
            OutputError: If they cannot be written; the former ones stay.
        """
        with output_errors("A table"), self.store.sole_writer():
            rows = self._rows()
            failures = self.store.failures()
            failed = _failed_rows(failures, {row["case_id"] for row in rows})
            counts = {"cases": len(rows), "failed": len(failed), "failures": len(failures)}
            record = run_record(
                self.model,
                settings=self.settings,
                formats=self.formats,
                counts=counts,
                this_run=this_run,
            )
            root = self.store.root
            replace_file(root / "cases.csv", cases_csv([*rows, *failed]))
            replace_file(root / "failures.csv", failures_csv(failures))
            replace_file(root / "run.json", as_json_bytes(record))

    def _rows(self) -> list[dict[str, Any]]:
        names = [entry.name for entry in self.store.root.iterdir() if entry.is_dir()]
        rows = [self._row(name) for name in names if not name.startswith(".")]
        return [row for row in rows if row is not None]

    def _row(self, case_id: str) -> dict[str, Any] | None:
        try:
            status = (self.store.case_folder(case_id) / CASE_FILE).stat()
        except OSError:
            return None
        stamp = (status.st_mtime_ns, status.st_size)
        known = self.rows.get(case_id)
        if known is not None and known[0] == stamp:
            return known[1]
        record = self.store.record(case_id)
        if record is None:
            return None
        self.rows[case_id] = (stamp, case_row(record))
        return self.rows[case_id][1]


def _failed_rows(failures: Sequence[Failure], done: set[str]) -> list[dict[str, Any]]:
    failed = {failure.case_id for failure in failures} - done - {""}
    return [{"case_id": case_id, "status": "failed"} for case_id in failed]
