"""How far the model and the readers agree, finding by finding, and the readers among themselves."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from app.services.case_row import CaseRow, FindingRow
    from app.services.corrections import KeptCorrection
    from app.services.review_log import Entry
    from medmtl.core.review import Review

__all__ = [
    "FindingAgreement",
    "MaskAgreement",
    "ReaderPair",
    "finding_agreement",
    "mask_agreement",
    "reader_pairs",
]


@dataclass(frozen=True)
class FindingAgreement:
    """The model's decisions on one finding against those of the readers.

    Attributes:
        finding: Name.
        both_present: Both call it present.
        model_only: Only the model does.
        reader_only: Only the reader does.
        both_absent: Neither does.
        unsure: The reader is unsure; these enter no score.
    """

    finding: str
    both_present: int
    model_only: int
    reader_only: int
    both_absent: int
    unsure: int

    @property
    def cases(self) -> int:
        """Answers that are certain."""
        return self.both_present + self.model_only + self.reader_only + self.both_absent

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa; None where one side knows one answer only, as chance explains all."""
        model = [True] * (self.both_present + self.model_only) + [False] * (
            self.reader_only + self.both_absent
        )
        reader = (
            [True] * self.both_present + [False] * self.model_only
            + [True] * self.reader_only + [False] * self.both_absent
        )  # fmt: skip
        return _kappa(model, reader)

    @property
    def sensitivity(self) -> float | None:
        """Of what the reader calls present, the share that the model does too."""
        return _share(self.both_present, self.reader_only)

    @property
    def specificity(self) -> float | None:
        """Of what the reader calls absent, the share that the model does too."""
        return _share(self.both_absent, self.model_only)


@dataclass(frozen=True)
class ReaderPair:
    """Two readers on the findings that both answered with certainty."""

    first: str
    second: str
    answers: int
    agreement: float
    kappa: float | None


@dataclass(frozen=True)
class MaskAgreement:
    """One segment: what readers said, and how far corrected masks lie from the model's.

    Attributes:
        segment: Name.
        accepted: Verdicts that accept it.
        wanting: Verdicts that call for a correction.
        corrected: Corrected masks that count, and differ from the model's.
        dice: Mean Dice of the model's mask with those; None without any.
    """

    segment: str
    accepted: int
    wanting: int
    corrected: int
    dice: float | None


def finding_agreement(
    entries: Iterable[Entry], cases: Mapping[str, CaseRow]
) -> tuple[FindingAgreement, ...]:
    """By finding, in the order of the models; entries of cases that are gone do not count."""
    counts: dict[str, dict[tuple[bool, bool | None], int]] = defaultdict(lambda: defaultdict(int))
    for entry in entries:
        for finding in _findings(entry, cases):
            verdict = entry.review.finding(finding.name)
            if verdict is not None:
                called = verdict.truth(decision=finding.is_present)
                counts[finding.name][(finding.is_present, called)] += 1
    return tuple(
        FindingAgreement(
            finding=name,
            both_present=found[(True, True)],
            model_only=found[(True, False)],
            reader_only=found[(False, True)],
            both_absent=found[(False, False)],
            unsure=found[(True, None)] + found[(False, None)],
        )
        for name, found in counts.items()
    )


def reader_pairs(entries: Iterable[Entry], cases: Mapping[str, CaseRow]) -> tuple[ReaderPair, ...]:
    """Every pair of readers with a finding in common."""
    said: dict[str, dict[tuple[str, str, str], bool]] = defaultdict(dict)
    for entry in entries:
        for finding in _findings(entry, cases):
            verdict = entry.review.finding(finding.name)
            called = verdict.truth(decision=finding.is_present) if verdict else None
            if called is not None:
                place = (entry.case.place, entry.case.model_sha256, finding.name)
                said[entry.review.reviewer][place] = called
    pairs = [_pair(first, second, said) for first, second in combinations(sorted(said), 2)]
    return tuple(pair for pair in pairs if pair is not None)


def mask_agreement(
    entries: Iterable[Entry],
    cases: Mapping[str, CaseRow],
    corrections: Iterable[KeptCorrection],
    segments: Mapping[str, Sequence[str]],
) -> tuple[MaskAgreement, ...]:
    """By segment; entries of cases that are gone, or answered otherwise now, do not count.

    Args:
        entries: Of the review log.
        cases: All of them, by key.
        corrections: The newest of every volume of these cases.
        segments: Names of the segments of each model, by its checksum.
    """
    said: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        row = entry.case.among(cases)
        if row is None:
            continue
        for name, answer in _mask_answers(entry.review, segments.get(row.model_sha256, ())):
            said[name].append(answer)
    dice: dict[str, list[float]] = defaultdict(list)
    for kept in corrections:
        for name, value in kept.dice.items():
            if value is not None and value < 1:
                dice[name].append(value)
    return tuple(
        MaskAgreement(
            segment=name,
            accepted=said[name].count("accepted"),
            wanting=said[name].count("needs_correction"),
            corrected=len(dice[name]),
            dice=sum(dice[name]) / len(dice[name]) if dice[name] else None,
        )
        for name in dict.fromkeys((*said, *dice))
    )


def _mask_answers(review: Review, segments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Segment and answer; the word on one segment comes before that on its whole volume."""
    for volume in dict.fromkeys(verdict.volume for verdict in review.masks):
        own = (one.segment for one in review.masks if one.volume == volume and one.segment)
        for name in dict.fromkeys((*segments, *own)):
            verdict = review.mask(volume, name)
            if verdict is not None:
                yield name, verdict.answer


def _findings(entry: Entry, cases: Mapping[str, CaseRow]) -> Sequence[FindingRow]:
    row = entry.case.among(cases)
    return row.findings if row is not None else ()


def _pair(
    first: str, second: str, said: Mapping[str, Mapping[tuple[str, str, str], bool]]
) -> ReaderPair | None:
    common = sorted(said[first].keys() & said[second].keys())
    if not common:
        return None
    one = [said[first][place] for place in common]
    two = [said[second][place] for place in common]
    alike = sum(a == b for a, b in zip(one, two, strict=True)) / len(common)
    return ReaderPair(first, second, len(common), alike, _kappa(one, two))


def _kappa(one: Sequence[bool], two: Sequence[bool]) -> float | None:
    if len(set(one)) < 2 and len(set(two)) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score  # seconds that no first page should wait for

    return float(cohen_kappa_score(one, two, labels=[False, True]))


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None
