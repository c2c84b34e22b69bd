"""The HTML report of an evaluation: warnings and worst cases first, then every number.

It takes metrics.json as a dictionary, and of the cases only what a reader looks at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medmtl.report.evaluation_cases import cases_section, failures_section, worst_section
from medmtl.report.evaluation_diagnosis import diagnosis_section, evidence_section
from medmtl.report.evaluation_groups import groups_section
from medmtl.report.evaluation_segmentation import lesions_section, segmentation_section
from medmtl.report.evaluation_uncertainty import uncertainty_section
from medmtl.report.html_markup import join
from medmtl.report.html_page import (
    Section,
    interval_cell,
    notice,
    number_text,
    page,
    paragraph,
    table,
    tiles,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.report.evaluation_cases import CaseLine
    from medmtl.report.html_markup import Html
    from medmtl.report.plots import Points
    from medmtl.report.table import Failure

__all__ = ["EvaluationPlots", "evaluation_page"]


@dataclass(frozen=True)
class EvaluationPlots:
    """Numbers behind the plots.

    Attributes:
        dice: Values by "segment, volume".
        volumes_ml: (true, predicted) volumes by segment, over all cases and volumes.
        roc: Curve by finding.
        precision_recall: Curve by finding.
    """

    dice: Mapping[str, Sequence[float]] = field(default_factory=dict)
    volumes_ml: Mapping[str, Points] = field(default_factory=dict)
    roc: Mapping[str, Points] = field(default_factory=dict)
    precision_recall: Mapping[str, Points] = field(default_factory=dict)


def evaluation_page(
    record: Mapping[str, Any],
    *,
    cases: Sequence[CaseLine],
    failures: Sequence[Failure],
    plots: EvaluationPlots,
) -> str:
    """The text of report.html.

    Args:
        record: The content of metrics.json.
        cases: What was measured.
        failures: What could not be measured.
        plots: What to draw.
    """
    sections = [
        worst_section(cases),
        failures_section(failures),
        segmentation_section(record, dice=plots.dice, volumes_ml=plots.volumes_ml),
        lesions_section(record),
        diagnosis_section(record, roc=plots.roc, precision_recall=plots.precision_recall),
        evidence_section(record),
        uncertainty_section(record),
        groups_section(record),
        cases_section(cases),
        _rules_section(record),
    ]
    model, manifest = record["model"], record["manifest"]
    return page(
        f"Evaluation of {model['name']} {model['version']}",
        [section for section in sections if section is not None],
        subtitle=(
            f"Manifest {manifest['name']}, split {record['split']}: {record['n_cases']} cases of "
            f"{record['n_patients']} patients. Model {model['sha256'][:12]}, manifest "
            f"{manifest['sha256'][:12]}."
        ),
        top=join([*(notice(w["message"]) for w in record.get("warnings", ())), _key(record)]),
    )


def _key(record: Mapping[str, Any]) -> Html:
    diagnosis = record["diagnosis"]
    wanted = [
        ("Mean Dice", record["segmentation"]["mean_dice"]),
        ("Accuracy", diagnosis.get("accuracy")),
        ("Balanced accuracy", diagnosis.get("balanced_accuracy")),
        ("Mean AUROC", diagnosis["macro_auroc"]),
    ]
    shown = [(name, interval_cell(part)) for name, part in wanted if _has_value(part)]
    return join([tiles(shown), paragraph(
        "In brackets: 95 % intervals from a bootstrap over patients. Where all patients are alike "
        "it has no width, which is no certainty: of n alike, up to 3 / n may still be otherwise.",
        soft=True,
    )])  # fmt: skip


def _has_value(part: Mapping[str, Any] | None) -> bool:
    return part is not None and part["value"] is not None


def _rules_section(record: Mapping[str, Any]) -> Section:
    rules = [(name.replace("_", " "), _rule(value)) for name, value in record["rules"].items()]
    missing = record["not_evaluated"]
    content = join(
        [
            table(["rule", "value"], rules, text_columns=2),
            paragraph(
                "Not evaluated, since only the manifest knows them or nobody annotated them: "
                f"segments {', '.join(missing['segments']) or 'none'}; "
                f"findings {', '.join(missing['findings']) or 'none'}. Volumes with a true mask "
                f"that the model did not use: {missing['volumes_not_analysed']}."
            ),
            paragraph("All numbers are in metrics.json, all cases in cases.csv beside this file."),
        ]
    )
    return Section("rules", "How it was counted", content)


def _rule(value: object) -> str:
    return number_text(value, digits=2) if isinstance(value, float) else str(value)
