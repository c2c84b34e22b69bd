"""The HTML report of a comparison: what joint learning gained, and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.report.html_figure import inline_figure
from medmtl.report.html_markup import join
from medmtl.report.html_page import (
    Section,
    interval_cell,
    notice,
    number_text,
    page,
    paragraph,
    table,
)
from medmtl.report.plots import efficiency_figure, forest_figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from medmtl.report.html_markup import Html

__all__ = ["comparison_page", "verdict_lines"]

FEW_CASES = 50
_METRICS = {
    "dice": "Dice",
    "hd95_mm": "HD95, mm (less is better)",
    "auroc": "AUROC",
    "brier": "Brier score (less is better)",
    "accuracy": "accuracy",
}
_CURVES = (("mean_dice", "mean Dice"), ("macro_auroc", "mean AUROC"), ("accuracy", "accuracy"))


def comparison_page(record: Mapping[str, Any]) -> str:
    """The text of compare.html.

    Args:
        record: The content of compare.json.
    """
    subject, arms = record["subject"], record["arms"]
    few = min(arm["n_cases"] for arm in arms)
    warning = notice(
        f"Only {few} held-out cases: the intervals are wide, and a difference that is not shown "
        "may still be there."
    )
    sections = [
        Section("answer", f"What {subject} gained", _answer(record)),
        *(_comparison_section(number, row, subject) for number, row in enumerate(
            record["comparisons"])),
        Section("arms", "Every arm", _arms(arms)),
        Section("cost", "What it cost", _cost(arms)),
    ]  # fmt: skip
    curves = _curves(arms)
    if curves is not None:
        sections.append(Section("labels", "With fewer labels", curves))
    sections.append(Section("rules", "How it was compared", _rules(record)))
    return page(
        f"Comparison: {record['name']}",
        sections,
        subtitle=f"{subject} against {', '.join(_others(record))}; "
        f"{few} held-out cases, folds {', '.join(map(str, record['folds'])) or 'as in the file'}.",
        top=warning if few < FEW_CASES else None,
    )


def verdict_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """One line for each comparison of a mean, for a terminal."""
    for one in record["comparisons"]:
        for row in one["rows"]:
            value, ends = row["difference"]["value"], row["difference"]["ci95"]
            if row["part"] != "mean" or value is None:
                continue
            low, high = ends or (value, value)
            yield (
                f"{record['subject']} against {one['against']}, {one['label_fraction']:.0%} of the "
                f"labels, {_METRICS[row['metric']]}: {value:+.3f} [{low:+.3f}, {high:+.3f}], "
                f"{row['verdict']}"
            )


def _others(record: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(one["against"] for one in record["comparisons"]))


def _answer(record: Mapping[str, Any]) -> Html:
    lines = list(verdict_lines(record))
    return join(
        [*(paragraph(line) for line in lines)]
        or [paragraph("The arms have no metric in common: there is nothing to compare.")]
    )


def _comparison_section(number: int, one: Mapping[str, Any], subject: str) -> Section:
    share = f"{one['label_fraction']:.0%}"
    title = f"{subject} against {one['against']}, {share} of the labels"
    rows = [
        (
            _METRICS[row["metric"]],
            row["part"].replace("_", " ") + _without_distance(row),
            number_text(row["reference"]),
            number_text(row["other"]),
            interval_cell(row["difference"]),
            row["verdict"],
        )
        for row in one["rows"]
    ]
    columns = ["metric", "part", one["against"], subject, "difference", "verdict"]
    figures = [
        inline_figure(
            forest_figure(shown, label=f"{subject} minus {one['against']}, {label}", reference=0.0),
            name=f"forest-{number}-{metric.replace('_', '-')}",
            alt=f"Differences in {label} with their intervals",
        )
        for metric, label in _METRICS.items()
        if (shown := _forest_rows(one["rows"], metric))
    ]
    return Section(
        f"against-{number}", title, join([table(columns, rows, text_columns=2), *figures])
    )


def _without_distance(row: Mapping[str, Any]) -> str:
    missed = row.get("missed", (0, 0))
    return f" (without {missed[0]} and {missed[1]} missed)" if any(missed) else ""


def _forest_rows(
    rows: Sequence[Mapping[str, Any]], metric: str
) -> list[tuple[str, Mapping[str, Any]]]:
    return [
        (row["part"], row["difference"])
        for row in rows
        if row["metric"] == metric and row["difference"]["value"] is not None
    ]


def _arms(arms: Sequence[Mapping[str, Any]]) -> Html:
    rows = [
        (
            arm["arm"],
            f"{arm['label_fraction']:.0%}",
            arm["balancer"],
            *(interval_cell(arm.get(key)) for key, _ in _CURVES),
        )
        for arm in arms
    ]
    columns = ["arm", "labels", "balancer", *(label for _, label in _CURVES)]
    return table(columns, rows, text_columns=3)


def _cost(arms: Sequence[Mapping[str, Any]]) -> Html:
    rows = [
        (
            arm["arm"],
            f"{arm['label_fraction']:.0%}",
            _millions(arm["parameters"]),
            "-" if arm["steps"] is None else f"{arm['steps']:.0f}",
            number_text(arm["seconds_per_step"], digits=2),
            number_text(arm["seconds_per_case"], digits=2),
            number_text(arm["peak_memory_mib"], digits=0),
        )
        for arm in arms
    ]
    columns = ["arm", "labels", "parameters, millions", "steps", "seconds per step",
               "seconds per case", "peak memory, MiB"]  # fmt: skip
    return table(columns, rows, text_columns=2)


def _millions(count: float | None) -> str:
    return "-" if count is None else f"{count / 1e6:.2f}"


def _curves(arms: Sequence[Mapping[str, Any]]) -> Html | None:
    """Data efficiency: a panel per metric, a line per arm; None with one share of labels."""
    if len({arm["label_fraction"] for arm in arms}) < 2:
        return None
    figures = []
    for key, label in _CURVES:
        lines: dict[str, list[tuple[float, Mapping[str, Any]]]] = {}
        for arm in sorted(arms, key=lambda one: float(one["label_fraction"])):
            if (arm.get(key) or {}).get("value") is not None:
                lines.setdefault(arm["arm"], []).append((arm["label_fraction"], arm[key]))
        if lines:
            figures.append(
                inline_figure(
                    efficiency_figure(lines, label=label),
                    name=f"efficiency-{key.replace('_', '-')}",
                    alt=f"{label} against the share of labels, for every arm",
                )
            )
    return join(figures)


def _rules(record: Mapping[str, Any]) -> Html:
    return join(
        [
            paragraph(
                "Every arm learned from the same cases for the same number of steps and delivered "
                "the weights of its last step; probabilities are uncalibrated and decided at 0.5. "
                "So nothing was chosen by the cases that are counted here. Cases of several folds "
                "are put together, each answered by the run that held it out."
            ),
            paragraph(
                "Differences are means over the same cases with a 95 % interval from a bootstrap "
                "that draws patients once for both arms. A verdict of gain or loss means that the "
                "interval leaves zero out; nothing is corrected for the number of rows."
            ),
            paragraph(f"Subject: {record['subject']}. All numbers are in compare.json."),
        ]
    )
