"""One line of the worklist, read from a case.json; small, so that ten thousand fit in memory."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from medmtl.core.answer_key import answer_key
from medmtl.core.flags import Severity

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CaseRow", "FindingRow", "case_identity", "row_from_json", "row_of_case"]


@dataclass(frozen=True)
class FindingRow:
    """One finding of a case.

    Attributes:
        name: Snake-case name.
        probability: In 0..1.
        threshold: From it on, the finding is called present.
        is_present: The decision.
        is_calibrated: Whether the probability was calibrated.
        std: Spread of the probability; None where it was not asked for.
        abstains: Whether the conformal set gives no single answer; None without such a set.
    """

    name: str
    probability: float
    threshold: float
    is_present: bool
    is_calibrated: bool
    std: float | None = None
    abstains: bool | None = None

    @property
    def margin(self) -> float:
        """Place between threshold (0) and certainty: 1 for present, -1 for absent."""
        beyond = self.probability - self.threshold
        room = 1 - self.threshold if beyond >= 0 else self.threshold
        return beyond / room if room > 0 else beyond


@dataclass(frozen=True)
class CaseRow:
    """One case.

    Attributes:
        run: Its result folder relative to the folder of the viewer, "" for that one itself.
        case_id: Its folder.
        model: Name of the model.
        model_version: Its version.
        model_sha256: Its identity.
        modality: DICOM modality, "" where unknown.
        kind: "dicom" or "nifti".
        findings: In the model's order.
        flags: Code and severity of each quality flag.
        study_date: "2026-01-31", or "" where it is unknown or not allowed.
        identity: Hash that the same image has in any result folder and no other image has.
        answer: Key of the model's answer; another one once it was computed again and differs.
    """

    run: str
    case_id: str
    model: str
    model_version: str
    model_sha256: str
    modality: str
    kind: str
    findings: tuple[FindingRow, ...]
    flags: tuple[tuple[str, str], ...]
    study_date: str = ""
    identity: str = ""
    answer: str = ""

    @property
    def key(self) -> str:
        """Names the case among all result folders; what a link carries."""
        return f"{self.run}/{self.case_id}" if self.run else self.case_id

    @property
    def urgency(self) -> float:
        """The largest margin of any finding; cases without findings come last."""
        return max((finding.margin for finding in self.findings), default=-1.0)

    def as_json(self) -> list[Any]:
        """Plain values, without names: ten thousand of them are read at every start."""
        findings = [list(vars(finding).values()) for finding in self.findings]
        facts = [self.run, self.case_id, self.model, self.model_version, self.model_sha256]
        ends = [self.modality, self.kind, findings, list(self.flags), self.study_date]
        return [*facts, *ends, self.identity, self.answer]


def row_from_json(values: list[Any]) -> CaseRow:
    """The row of such values.

    Raises:
        ValueError: If there are too many or too few.
        TypeError: If a finding has too many or too few.
    """
    *facts, findings, flags, study_date, identity, answer = values
    run, case_id, model, version, sha256, modality, kind = facts
    parts = tuple(FindingRow(*finding) for finding in findings)
    marks = tuple((code, severity) for code, severity in flags)
    ends = (study_date, identity, answer)
    return CaseRow(run, case_id, model, version, sha256, modality, kind, parts, marks, *ends)


def row_of_case(record: Mapping[str, Any], *, run: str, study_date: str = "") -> CaseRow:
    """The row of a case.json.

    Raises:
        KeyError: If a field of schema version 1 is missing.
        TypeError: If a field is of another kind.
        ValueError: If a severity is none of ours, or a number cannot be one.
    """
    modalities = [str(volume.get("modality", "")) for volume in record["source"]["volumes"]]
    return CaseRow(
        run=run,
        case_id=record["case_id"],
        model=_text(record["model"]["name"]),
        model_version=_text(record["model"]["version"]),
        model_sha256=_text(record["model"]["sha256"]),
        modality=next((name for name in modalities if name), ""),
        kind=record["source"]["kind"],
        findings=tuple(_finding(finding) for finding in record["findings"]),
        flags=tuple(_mark(flag) for flag in record["quality"]["flags"]),
        study_date=study_date,
        identity=case_identity(record),
        answer=answer_key(record),
    )


def case_identity(record: Mapping[str, Any]) -> str:
    """SHA-256 of what tells the image of a case from every other.

    A DICOM case is named by its study UID and its id, a hash of study and patient. The id of a
    NIfTI case is a file name that others have too: the fingerprint of its input stands beside it
    (names, sizes and times of the files).

    Raises:
        KeyError: If a field of schema version 1 is missing.
    """
    source = record["source"]
    facts = [source["kind"], record["case_id"], source["study_uid"]]
    if not source["study_uid"]:
        grids = [[one["id"], one["shape_ijk"], one["spacing_mm"]] for one in source["volumes"]]
        facts.append(record.get("resume", {}).get("source") or grids)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _text(value: Any) -> str:
    """One odd value must not take the whole worklist down later."""
    if not isinstance(value, str):
        raise TypeError(f"A text was expected. Found {type(value).__name__}.")
    return value


def _mark(flag: Mapping[str, Any]) -> tuple[str, str]:
    if flag["severity"] not in get_args(Severity):
        raise ValueError("A flag has a severity that is not known.")
    return _text(flag["code"]), flag["severity"]


def _finding(record: Mapping[str, Any]) -> FindingRow:
    std = record.get("uncertainty", {}).get("std")
    return FindingRow(
        name=_text(record["name"]),
        probability=float(record["probability"]),
        threshold=float(record["threshold"]),
        is_present=bool(record["decision"]),
        is_calibrated=bool(record["calibrated"]),
        std=None if std is None else float(std),
        abstains=record.get("abstains"),
    )
