"""report.html and the groups of an evaluation, by a model that sees the truth and moves it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from medmtl.core.flags import Flag
from medmtl.core.prediction import Covariates, Prediction
from medmtl.core.study import Study
from medmtl.core.volume import Volume
from medmtl.data.manifest import Manifest
from medmtl.inference.evaluate import Evaluation
from medmtl.inference.evaluation_report import metrics_record, write_report
from medmtl.inference.subgroup_columns import choose_columns, known_columns
from medmtl.metrics.scores import CaseScore
from tests.integration.test_evaluate import Oracle, make_dataset

CASES = 12


@dataclass
class Careless(Oracle):
    """Moves its masks by one voxel more in each of the first cases, and flags the last one."""

    def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
        number = int(study.case_id[1:])
        self.shift = max(0, 4 - number)
        prediction = super().analyse(study, volumes)
        flags = (Flag("odd-image", "warning", "Odd."),) if number == CASES - 1 else ()
        return replace(prediction, flags=flags)


def described(manifest: Manifest) -> Manifest:
    """Vendors of five and six cases, one of a vendor of its own; ages from 20 on."""
    vendors = ["Acme"] * 5 + ["Bolt & <Co>"] * 6 + ["Unique"]
    cases = []
    for number, (case, vendor) in enumerate(zip(manifest.cases, vendors, strict=True)):
        volumes = tuple(replace(row, attributes={"vendor": vendor}) for row in case.volumes)
        findings = {**case.findings, "ill": number != 2 and bool(case.findings["ill"])}
        covariates = Covariates(age_years=20.0 + 5 * number, sex="F")
        cases.append(replace(case, volumes=volumes, findings=findings, covariates=covariates))
    return replace(manifest, cases=tuple(cases))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """metrics.json and the output folder of one evaluation."""
    folder = tmp_path_factory.mktemp("evaluation")
    manifest = described(make_dataset(folder / "data", cases=CASES))
    evaluation = Evaluation(
        analyser=Careless(), manifest=manifest, data_root=folder / "data",
        records=folder / "out" / "scores",
    )  # fmt: skip
    results = list(evaluation.run(manifest.cases))
    scores = [result for result in results if isinstance(result, CaseScore)]
    record = metrics_record(
        results, model=evaluation.analyser.identity, manifest=manifest, manifest_sha256="1" * 64,
        split="all", tolerance_mm=2.0,
        columns=choose_columns(known_columns(manifest.cases, scores), None),
    )  # fmt: skip
    write_report(folder / "out", record, results, records=evaluation.records)
    return record, folder / "out"


def test_few_cases_are_warned_of(evaluated: tuple[dict[str, Any], Path]) -> None:
    record, out = evaluated
    assert [warning["code"] for warning in record["warnings"]] == ["few-cases"]
    page = (out / "report.html").read_text()
    assert page.index("Only 12 cases") < page.index("Worst cases")


def test_the_worst_cases_come_first_with_their_pictures(
    evaluated: tuple[dict[str, Any], Path],
) -> None:
    page = (evaluated[1] / "report.html").read_text()
    first = page[page.index("Lowest Dice") : page.index("Most confident wrong")]
    named = re.findall(r"<b>(c\d+)</b>", first)
    assert named[:4] == ["c0", "c2", "c1", "c3"]  # even ones also miss their lesion
    assert first.count('src="data:image/png;base64,') == CASES
    wrong = page[page.index("Most confident wrong") : page.index('id="segmentation"')]
    assert re.findall(r"<b>(c\d+)</b>", wrong) == ["c2"]
    assert "absent, said 0.90" in wrong
    assert "odd-image" in page


def test_the_report_is_one_file_without_scripts(evaluated: tuple[dict[str, Any], Path]) -> None:
    page = (evaluated[1] / "report.html").read_text()
    assert "<script" not in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    for part in ("Segmentation", "Lesions one by one", "Diagnosis", "Evidence", "Subgroups"):
        assert f">{part}</h2>" in page
    assert "Bolt &amp; &lt;Co&gt;" in page


def test_cases_are_grouped_by_every_column_that_splits_them(
    evaluated: tuple[dict[str, Any], Path],
) -> None:
    record, out = evaluated
    assert set(record["subgroups"]) == {"vendor", "age_years"}  # all are F, all have one spacing
    vendor = record["subgroups"]["vendor"]
    assert list(vendor["groups"]) == ["Bolt & <Co>"]
    assert vendor["suppressed"] == {"groups": 2, "patients": 6}
    page = (out / "report.html").read_text()
    assert not any(name in page for name in ("Unique", "Acme"))
    shown = vendor["groups"]["Bolt & <Co>"]
    assert record["segmentation"]["mean_dice"]["value"] < 1.0
    assert shown["segmentation"]["mean_dice"]["value"] == 1.0
    assert shown["diagnosis"]["accuracy"]["n"] == 6


def test_lesions_are_matched_one_by_one(evaluated: tuple[dict[str, Any], Path]) -> None:
    """A lesion two voxels wide: moved by one IoU 1/3, moved by two or more no overlap."""
    lesions = evaluated[0]["segmentation"]["per_segment"]["lesion"]["lesions"]
    assert (lesions["n_truth"], lesions["n_predicted"]) == (12, 12)  # two phases of six cases
    assert lesions["n_matched"] == 8  # cases 0 and 2 are moved by four and two
    assert lesions["f1"]["value"] == pytest.approx(8 / 12)
    (band,) = lesions["sensitivity_by_diameter"]  # all of one size
    assert band["sensitivity"]["value"] == lesions["sensitivity"]["value"]
    assert "lesions" not in evaluated[0]["segmentation"]["per_segment"]["organ"]


def test_evidence_in_true_masks_is_measured(evaluated: tuple[dict[str, Any], Path]) -> None:
    ill = evaluated[0]["evidence"]["per_finding"]["ill"]
    assert ill["energy_in_true_segments"]["value"] == pytest.approx(1.0)  # the map is the lesion
    assert ill["energy_in_true_segments"]["n"] == 5
