"""What a person said of one case: a verdict for each finding and each mask."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["FindingAnswer", "FindingVerdict", "MaskAnswer", "MaskVerdict", "Review"]

FindingAnswer = Literal["agree", "disagree", "unsure"]
"""Whether the reviewer calls the finding as the model did."""
MaskAnswer = Literal["accepted", "needs_correction", "corrected"]
"""What became of a mask; "corrected" says that another one stands in its place."""


@dataclass(frozen=True)
class FindingVerdict:
    """The reviewer's word on one finding.

    Attributes:
        finding: Name in the model's schema.
        answer: About the model's decision.
        comment: Free text; it may name a person, so it goes into no log.
        decision: The model's decision that the answer was about; None where it was not noted.
    """

    finding: str
    answer: FindingAnswer
    comment: str = ""
    decision: bool | None = None

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            ValueError: If the answer is none of `FindingAnswer`, or the finding has no name.
        """
        _check(self.answer, get_args(FindingAnswer), self.finding, "finding")

    def truth(self, *, decision: bool) -> bool | None:
        """Whether the reviewer calls the finding present; None where unsure.

        Args:
            decision: Of the model today. It counts only where the answer does not say which
                decision it was about: a case analysed again may be decided otherwise.
        """
        about = decision if self.decision is None else self.decision
        return {"agree": about, "disagree": not about, "unsure": None}[self.answer]

    def about(self, *, decision: bool) -> FindingVerdict:
        """The same word about the model's decision of today."""
        truth = self.truth(decision=decision)
        answer: FindingAnswer = "agree" if truth == decision else "disagree"
        return replace(self, answer="unsure" if truth is None else answer, decision=decision)


@dataclass(frozen=True)
class MaskVerdict:
    """The reviewer's word on one mask.

    Attributes:
        volume: Id of the volume.
        answer: About the mask that the model made.
        segment: Name in the model's schema; None for the whole label map of the volume.
        comment: Free text; it may name a person, so it goes into no log.
    """

    volume: str
    answer: MaskAnswer
    segment: str | None = None
    comment: str = ""

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            ValueError: If the answer is none of `MaskAnswer`, or the volume has no name.
        """
        _check(self.answer, get_args(MaskAnswer), self.volume, "volume")


@dataclass(frozen=True)
class Review:
    """The verdict of one reviewer on one case.

    Attributes:
        case_id: Folder name of the case.
        reviewer: Name or pseudonym of who answered; it goes into no log.
        reviewed_at: When, in UTC.
        findings: At most one per finding; those left out were not looked at.
        masks: At most one per volume and segment.
        comment: On the whole case.
        is_signed: Whether the reviewer stands by it. Only a signed review enters a report.
        model_sha256: Of the model whose answer was reviewed; "" where not noted. A verdict on one
            model's answer says nothing of another's.
    """

    case_id: str
    reviewer: str
    reviewed_at: datetime
    findings: tuple[FindingVerdict, ...] = ()
    masks: tuple[MaskVerdict, ...] = ()
    comment: str = ""
    is_signed: bool = False
    model_sha256: str = ""

    def __post_init__(self) -> None:
        """Check that the verdict says one thing of each finding and mask, by whom and when.

        Raises:
            ValueError: If the reviewer is missing, the time is not in UTC, or an answer is twice.
        """
        if not self.case_id or not self.reviewer.strip():
            raise ValueError("A review names its case and its reviewer. Found an empty name.")
        if self.reviewed_at.utcoffset() != timedelta(0):
            raise ValueError(f"A review's time is in UTC. Found {self.reviewed_at.isoformat()}.")
        _check_once((verdict.finding for verdict in self.findings), self.case_id)
        _check_once((f"{mask.volume}/{mask.segment or ''}" for mask in self.masks), self.case_id)

    def finding(self, name: str) -> FindingVerdict | None:
        """The verdict on one finding; None where there is none."""
        return next((verdict for verdict in self.findings if verdict.finding == name), None)

    def about(self, decisions: Mapping[str, bool]) -> Review:
        """The same words about the model's decisions of today, by finding."""
        findings = tuple(
            verdict.about(decision=decisions[verdict.finding])
            if verdict.finding in decisions
            else verdict
            for verdict in self.findings
        )
        return replace(self, findings=findings)

    def mask(self, volume: str, segment: str) -> MaskVerdict | None:
        """The verdict on one segment: its own before that of the whole label map."""
        mine = {mask.segment: mask for mask in self.masks if mask.volume == volume}
        return mine.get(segment, mine.get(None))

    def is_of(self, case_id: str, model_sha256: str) -> bool:
        """Whether it may be about this answer: its case, and its model where one is noted."""
        return self.case_id == case_id and self.model_sha256 in ("", model_sha256)

    def as_json(self) -> dict[str, Any]:
        """Plain values; the time as ISO 8601 text."""
        return {**asdict(self), "reviewed_at": self.reviewed_at.astimezone(UTC).isoformat()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Review:
        """The review of such a record.

        Raises:
            ValueError: If it says something twice, or in words that are not known.
            TypeError: If a field is missing or not known.
        """
        parts = {
            "reviewed_at": datetime.fromisoformat(record["reviewed_at"]),
            "findings": tuple(FindingVerdict(**one) for one in record.get("findings", ())),
            "masks": tuple(MaskVerdict(**one) for one in record.get("masks", ())),
        }
        return cls(**{**record, **parts})


def _check(answer: str, known: tuple[str, ...], name: str, what: str) -> None:
    if not name:
        raise ValueError(f"A verdict names its {what}. Found an empty name.")
    if answer not in known:
        raise ValueError(f"{what} {name}: answer {answer!r} is none of {', '.join(known)}.")


def _check_once(names: Iterable[str], case_id: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"Case {case_id}: two verdicts on {name}. Keep the one that holds.")
        seen.add(name)
