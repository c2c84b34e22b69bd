"""Reviews as files: a table for people, JSON lines for `medmtl manifest corrections`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from medmtl.report.table import csv_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from app.services.case_row import CaseRow, FindingRow
    from app.services.review_log import Entry
    from medmtl.core.review import FindingVerdict

__all__ = ["manifest_command", "reviews_csv", "reviews_jsonl"]

_COLUMNS = (
    "run", "case_id", "model", "model_version", "reviewer", "reviewed_at", "signed", "blind",
    "kind", "volume", "name", "model_probability", "model_present", "answer", "reader_present",
    "comment",
)  # fmt: skip


def reviews_csv(entries: Iterable[Entry], cases: Mapping[str, CaseRow]) -> bytes:
    """One row per answer: 1 and 0, empty for unknown."""
    return csv_bytes(_COLUMNS, (row for entry in entries for row in _rows(entry, cases)))


def reviews_jsonl(entries: Iterable[Entry]) -> bytes:
    """One review per line."""
    lines = [json.dumps(entry.review.as_json(), ensure_ascii=False) for entry in entries]
    return "".join(f"{line}\n" for line in lines).encode()


def manifest_command(
    results: Path, *, images: Path, masks: Path, reviews: Path, out: Path, base: Path | None = None
) -> list[str]:
    """The command, after `medmtl`, that makes a manifest of the reviewed cases of one run.

    Nothing is written among the images: what has to be made goes below `out`.

    Args:
        results: The run's result folder.
        images: The input of the run.
        masks: Folder of the corrected masks; it may not exist.
        reviews: JSON lines.
        out: Where the manifest goes.
        base: A manifest of these images, of which a new version is made.
    """
    arguments = ["manifest", "corrections", str(results), "--root", str(images), "-o", str(out)]
    if masks.is_dir():
        arguments += ["--masks", str(masks)]
    if base is not None:
        arguments += ["--base", str(base)]
    return [*arguments, "--reviews", str(reviews), "--made-in", str(out / "data")]


def _rows(entry: Entry, cases: Mapping[str, CaseRow]) -> Iterator[dict[str, Any]]:
    mine = entry.case.among(cases)
    review = entry.review
    common = {
        "run": entry.case.run,
        "case_id": entry.case.case_id,
        "model": mine.model if mine else "",
        "model_version": mine.model_version if mine else "",
        "reviewer": review.reviewer,
        "reviewed_at": review.reviewed_at.isoformat(timespec="seconds"),
        "signed": int(review.is_signed),
        "blind": int(entry.is_blind),
    }
    known = {finding.name: finding for finding in mine.findings} if mine else {}
    for verdict in review.findings:
        finding = known.get(verdict.finding)
        called = verdict.truth(decision=finding.is_present) if finding else None
        yield {
            **common,
            "kind": "finding",
            "name": verdict.finding,
            "model_probability": finding.probability if finding else None,
            "model_present": int(finding.is_present) if finding else None,
            "answer": _about(verdict, finding).answer,
            "reader_present": None if called is None else int(called),
            "comment": verdict.comment,
        }
    for mask in review.masks:
        yield {
            **common,
            "kind": "mask",
            "volume": mask.volume,
            "name": mask.segment or "",
            "answer": mask.answer,
            "comment": mask.comment,
        }
    if review.comment:
        yield {**common, "kind": "case", "comment": review.comment}


def _about(verdict: FindingVerdict, finding: FindingRow | None) -> FindingVerdict:
    """The verdict about the decision that stands beside it."""
    return verdict if finding is None else verdict.about(decision=finding.is_present)
