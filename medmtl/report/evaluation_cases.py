"""The cases of an evaluation report: those that went wrong with their pictures, then all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.report.html_figure import inline_png
from medmtl.report.html_markup import Html, join, tag
from medmtl.report.html_page import Section, fold, number_text, paragraph, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.report.table import Failure

__all__ = ["CaseLine", "Wrong", "cases_section", "failures_section", "worst_section"]

_WORST = 12
_LISTED = 500


@dataclass(frozen=True)
class Wrong:
    """A finding that was decided against the truth."""

    name: str
    probability: float
    truth: bool

    @property
    def distance(self) -> float:
        """How far the probability was from the truth, 0..1."""
        return abs(self.probability - float(self.truth))


@dataclass(frozen=True)
class CaseLine:
    """What a reader wants to see of one case.

    Attributes:
        case_id: Pseudonym.
        mean_dice: Over its segments and volumes; None where nothing has a Dice.
        worst: Lowest Dice first: ("segment, volume", Dice).
        wrong: Findings decided against the truth.
        flags: Quality flags of the answer, "severity: code".
        picture: PNG of truth and answer side by side; None where there is none.
    """

    case_id: str
    mean_dice: float | None
    worst: tuple[tuple[str, float], ...] = ()
    wrong: tuple[Wrong, ...] = ()
    flags: tuple[str, ...] = ()
    picture: bytes | None = None

    @property
    def surprise(self) -> float:
        """Distance of the most confident wrong answer from the truth; 0 where all is right."""
        return max((wrong.distance for wrong in self.wrong), default=0.0)


def worst_section(cases: Sequence[CaseLine]) -> Section | None:
    """Lowest Dice and most confident wrong diagnoses; None where there is no case."""
    if not cases:
        return None
    scored = [case for case in cases if case.mean_dice is not None]
    low = sorted(scored, key=lambda case: (case.mean_dice or 0.0, case.case_id))[:_WORST]
    wrong = sorted((c for c in cases if c.wrong), key=lambda c: (-c.surprise, c.case_id))
    shown = {case.case_id for case in low}
    parts: list[object] = []
    if low:
        parts += [
            tag("h3", f"Lowest Dice ({len(low)} of {len(scored)} cases)"),
            _pictured(low, with_picture=True),
        ]
    if wrong:
        parts += [
            tag("h3", f"Most confident wrong diagnoses ({len(wrong)} of {len(cases)} cases)"),
            _pictured(wrong[:_WORST], with_picture=lambda case: case.case_id not in shown),
        ]
    if not parts:
        parts = [paragraph("No case has a Dice, and no known diagnosis was decided wrongly.")]
    parts.append(
        paragraph(
            "Pictures show the slice with the most differing voxels, truth left, model right, "
            "in radiological orientation.",
            soft=True,
        )
    )
    return Section("worst", "Worst cases", join(parts))


def _pictured(cases: Sequence[CaseLine], *, with_picture: object) -> Html:
    rows = []
    for case in cases:
        is_shown = with_picture(case) if callable(with_picture) else with_picture
        rows.append(
            (tag("b", case.case_id), *_cells(case), _picture(case) if is_shown else "above")
        )
    columns = ("case", "mean Dice", "lowest", "wrong findings", "flags", "truth and model")
    return table(columns, rows, text_columns=len(columns))


def _picture(case: CaseLine) -> Html:
    if case.picture is None:
        return Html("-")
    alt = f"Case {case.case_id}: true and predicted outlines"
    return inline_png(case.picture, alt=alt, class_="thumbnail")


def _cells(case: CaseLine) -> tuple[object, ...]:
    worst = [f"{name} {number_text(dice)}" for name, dice in case.worst[:3]]
    wrong = [
        tag("span", f"{w.name.replace('_', ' ')}: {'present' if w.truth else 'absent'}, "
            f"said {w.probability:.2f}", class_="bad")
        for w in case.wrong
    ]  # fmt: skip
    return (number_text(case.mean_dice), _lines(worst), _lines(wrong), _lines(case.flags))


def _lines(parts: Sequence[object]) -> Html:
    return join(parts, "<br>") if parts else Html("-")


def failures_section(failures: Sequence[Failure]) -> Section | None:
    """Cases that could not be measured; None where all could."""
    if not failures:
        return None
    rows = [(f.case_id, f.stage, f.reason, f.advice) for f in failures[:_LISTED]]
    content = join(
        [
            paragraph(f"{len(failures)} cases could not be measured and enter no number."),
            table(["case", "stage", "reason", "advice"], rows, text_columns=4),
        ]
    )
    return Section("failures", "Failed cases", content)


def cases_section(cases: Sequence[CaseLine]) -> Section | None:
    """All cases, lowest Dice first, to be opened; None where there is none."""
    if not cases:
        return None
    last = float("inf")
    ordered = sorted(cases, key=lambda c: (last if c.mean_dice is None else c.mean_dice, c.case_id))
    rows = [(case.case_id, *_cells(case)) for case in ordered[:_LISTED]]
    columns = ("case", "mean Dice", "lowest", "wrong findings", "flags")
    left_out = len(ordered) - len(rows)
    note = f" The {left_out} best of them are only in cases.csv." if left_out else ""
    content = fold(
        f"{len(cases)} cases, lowest Dice first", table(columns, rows, text_columns=len(columns))
    )
    return Section("cases", "All cases", join([content, paragraph(note) if note else None]))
