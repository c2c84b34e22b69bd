"""Findings in an evaluation report: discrimination, calibration, decisions, evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.report.html_figure import inline_figure
from medmtl.report.html_markup import join, tag
from medmtl.report.html_page import Section, interval_cell, number_text, paragraph, table
from medmtl.report.plots import confusion_figure, curves_figure
from medmtl.report.reliability_plot import reliability_figure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medmtl.report.html_markup import Html
    from medmtl.report.plots import Points

__all__ = ["diagnosis_section", "evidence_section"]

_COLUMNS = (
    ("AUROC", "auroc"),
    ("AUPRC", "auprc"),
    ("sensitivity", "sensitivity"),
    ("specificity", "specificity"),
    ("balanced accuracy", "balanced_accuracy"),
)
_CALIBRATION = (("Brier", "brier"), ("ECE", "ece"))
_EVIDENCE = (
    ("pointing game", "pointing_game"),
    ("energy in true masks", "energy_in_true_segments"),
    ("energy in predicted masks", "energy_in_segments"),
)


def diagnosis_section(
    record: Mapping[str, Any],
    *,
    roc: Mapping[str, Points],
    precision_recall: Mapping[str, Points],
) -> Section | None:
    """Tables and plots of the findings; None where no finding was judged."""
    part = record["diagnosis"]
    per_finding = part["per_finding"]
    if not per_finding:
        return None
    rows = [
        (
            name.replace("_", " "),
            f"{numbers['n_present']} / {numbers['n_absent']}",
            *(interval_cell(numbers[key]) for _, key in _COLUMNS),
        )
        for name, numbers in per_finding.items()
    ]
    heads = ["finding", "present / absent", *(head for head, _ in _COLUMNS)]
    content = [
        table(heads, rows),
        tag("div", *_curves(per_finding, roc, precision_recall), class_="figures"),
        tag("h3", "Decisions"),
        _confusion(part),
        _calibration(per_finding),
    ]
    return Section("diagnosis", "Diagnosis", join(content))


def _curves(
    per_finding: Mapping[str, Any],
    roc: Mapping[str, Points],
    precision_recall: Mapping[str, Points],
) -> list[Html]:
    if not roc:
        return [paragraph("No curve: no finding has both present and absent cases.")]

    def named(curves: Mapping[str, Points], key: str) -> dict[str, Points]:
        return {
            f"{name}, {number_text(per_finding[name][key]['value'], digits=2)}": points
            for name, points in curves.items()
        }

    return [
        inline_figure(
            curves_figure(
                named(roc, "auroc"), labels=("1 - specificity", "sensitivity"), has_diagonal=True
            ),
            name="roc",
            alt="ROC curve of each finding",
            caption="ROC, with the area under each curve.",
        ),
        inline_figure(
            curves_figure(
                named(precision_recall, "auprc"),
                labels=("sensitivity (recall)", "precision"),
                has_diagonal=False,
            ),
            name="precision-recall",
            alt="Precision-recall curve of each finding",
            caption="Precision and recall, with the average precision. Chance is the share of "
            "present cases.",
        ),
    ]


def _confusion(part: Mapping[str, Any]) -> Html:
    """One matrix where findings exclude each other, else counts per finding."""
    if "confusion" in part:
        classes, matrix = part["confusion"]["classes"], part["confusion"]["matrix"]
        return inline_figure(
            confusion_figure(classes, matrix),
            name="confusion",
            alt="Confusion matrix: "
            + "; ".join(f"{c} {row}" for c, row in zip(classes, matrix, strict=True)),
            caption="Rows are truth, columns what was decided; the tint is the share of the row.",
        )
    rows = []
    for name, numbers in part["per_finding"].items():
        (hit, missed), (invented, rejected) = numbers["confusion"]["matrix"]
        rows.append((name.replace("_", " "), *map(str, (hit, missed, invented, rejected))))
    heads = ["finding", "present, called present", "present, called absent",
             "absent, called present", "absent, called absent"]  # fmt: skip
    return table(heads, rows)


def _calibration(per_finding: Mapping[str, Any]) -> Html:
    rows = [
        (name.replace("_", " "), *(interval_cell(numbers[key]) for _, key in _CALIBRATION))
        for name, numbers in per_finding.items()
    ]
    numbers_table = table(["finding", *(head for head, _ in _CALIBRATION)], rows)
    curves = {
        name: {"model": numbers["reliability"]}
        for name, numbers in per_finding.items()
        if numbers["reliability"]
    }
    if not curves:
        return join([tag("h3", "Calibration"), numbers_table])
    figure = inline_figure(
        reliability_figure(curves),
        name="reliability",
        alt="Reliability curve of each finding",
        caption="How often the finding is present where the model gives that probability, in bins "
        "of equal width; bars are Wilson intervals.",
    )
    return join([tag("h3", "Calibration"), numbers_table, figure])


def evidence_section(record: Mapping[str, Any]) -> Section | None:
    """Where the activation maps point; None where no map could be judged."""
    per_finding = record["evidence"]["per_finding"]
    rows = [
        (
            name.replace("_", " "),
            str(numbers["pointing_game"]["n"]),
            *(interval_cell(numbers.get(key)) for _, key in _EVIDENCE),
        )
        for name, numbers in per_finding.items()
        if any(numbers[key]["value"] is not None for _, key in _EVIDENCE)
    ]
    if not rows:
        return None
    note = (
        "Only cases with the finding. Pointing game: share of volumes whose map peaks inside the "
        "true masks of the finding's segments. Energy: share of the map inside those masks. Both "
        "are also high for a map that follows a large organ whatever the finding."
    )
    heads = ["finding", "n", *(head for head, _ in _EVIDENCE)]
    return Section("evidence", "Evidence", join([table(heads, rows), paragraph(note, soft=True)]))
