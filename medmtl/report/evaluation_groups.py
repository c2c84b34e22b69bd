"""Subgroups in an evaluation report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.report.html_figure import inline_figure
from medmtl.report.html_markup import Html, join, tag
from medmtl.report.html_page import Section, interval_cell, paragraph, table
from medmtl.report.plots import forest_figure

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["groups_section"]


def groups_section(record: Mapping[str, Any]) -> Section | None:
    """One table per column, and a plot of its groups; None where nothing was grouped."""
    subgroups = record.get("subgroups") or {}
    if not subgroups:
        return None
    note = paragraph(
        "Groups differ in more than the column that made them, and many comparisons find "
        "differences by chance: look at intervals, not at the order.",
        soft=True,
    )
    parts = [_column(number, name, part, record) for number, (name, part) in
             enumerate(subgroups.items())]  # fmt: skip
    return Section("subgroups", "Subgroups", join([note, *parts]))


def _column(number: int, name: str, part: Mapping[str, Any], record: Mapping[str, Any]) -> Html:
    words = name.replace("_", " ")
    groups: Mapping[str, Any] = part["groups"]
    left_out = _left_out(part)
    if not groups:
        return join([tag("h3", words), paragraph(f"No group is large enough. {left_out}")])
    key, of_group = _main(groups)
    overall = _overall(record, key)
    rows = [("all", str(record["n_patients"]), *_cells(record))]
    rows += [(group, str(numbers["n_patients"]), *_cells(numbers)) for group, numbers in
             groups.items()]  # fmt: skip
    heads = ["group", "patients", "mean Dice", "accuracy", "mean AUROC"]
    figure = inline_figure(
        forest_figure(list(of_group.items()), label=key, reference=overall),
        name=f"group{number}",
        alt=f"{key} by {words}",
        caption=f"{key} by {words}; dashed: all cases.",
    )
    return join([tag("h3", words), table(heads, rows), figure, _findings(groups),
                 paragraph(left_out, soft=True)])  # fmt: skip


def _cells(numbers: Mapping[str, Any]) -> tuple[Html, ...]:
    diagnosis = numbers["diagnosis"]
    return (
        interval_cell(numbers["segmentation"]["mean_dice"]),
        interval_cell(diagnosis.get("accuracy")),
        interval_cell(diagnosis["macro_auroc"]),
    )


def _main(groups: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The number to draw: mean Dice, where there are no masks mean AUROC."""
    dice = {name: group["segmentation"]["mean_dice"] for name, group in groups.items()}
    if any(part["value"] is not None for part in dice.values()):
        return "mean Dice", dice
    return "mean AUROC", {name: g["diagnosis"]["macro_auroc"] for name, g in groups.items()}


def _overall(record: Mapping[str, Any], key: str) -> float | None:
    part = (
        record["segmentation"]["mean_dice"]
        if key == "mean Dice"
        else record["diagnosis"]["macro_auroc"]
    )
    value: float | None = part["value"]
    return value


def _findings(groups: Mapping[str, Any]) -> Html | None:
    """AUROC, sensitivity and specificity of each finding in each group."""
    rows = []
    for group, numbers in groups.items():
        for name, part in numbers["diagnosis"]["per_finding"].items():
            rows.append(
                (
                    name.replace("_", " "),
                    group,
                    f"{part['n_present']} / {part['n_absent']}",
                    *(interval_cell(part[key]) for key in ("auroc", "sensitivity", "specificity")),
                )
            )
    if not rows:
        return None
    rows.sort(key=lambda row: row[0])
    heads = ["finding", "group", "present / absent", "AUROC", "sensitivity", "specificity"]
    return table(heads, rows, text_columns=2)


def _left_out(part: Mapping[str, Any]) -> str:
    hidden, unknown = part["suppressed"], part["unknown_patients"]
    texts = []
    if hidden["groups"]:
        texts.append(
            f"Not shown: {hidden['groups']} small groups, {hidden['patients']} patients together. "
            f"Whatever is not shown is of {part['min_patients']} patients or more, where there are "
            "as many, since it can be computed from what is."
        )
    if unknown:
        texts.append(f"Patients without a value: {unknown}.")
    return " ".join(texts)
