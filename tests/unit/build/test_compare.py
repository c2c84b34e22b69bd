"""The runs of a comparison: equal but for the arm, and blind to what they are judged on."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pytest
import tomli_w

from medmtl.build.compare import comparison_record, plan_runs
from medmtl.core.errors import ConfigError
from medmtl.data.manifest import read_manifest, write_manifest
from medmtl.metrics.scores import CaseScore, FindingScore, SegmentScore
from medmtl.report.comparison_page import comparison_page, verdict_lines
from tests.tiny_run import settings, write_data

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.build.compare import ArmRun


def write_file(folder: Path, **compare: object) -> Path:
    path = folder / "tiny.toml"
    path.write_text(tomli_w.dumps(settings(folder) | {"compare": compare}), encoding="utf-8")
    return path


def test_every_arm_has_the_same_budget_and_chooses_nothing(tmp_path: Path) -> None:
    runs = plan_runs(write_file(tmp_path, folds=[0, 1], label_fractions=[0.5, 1.0]))
    assert len(runs) == 3 * 2 * 2
    assert runs[0].folder == "joint/labels-100/fold-0"
    assert len({run.folder for run in runs}) == len(runs)
    configs = [run.config for run in runs]
    assert {config.trainer for config in configs} == {configs[0].trainer}
    assert {config.trainer.deliver for config in configs} == {"last"}
    assert {config.calibration.method for config in configs} == {"none"}
    assert {config.data.label_fraction for config in configs} == {0.5, 1.0}
    assert {run.fold for run in runs} == {run.config.data.manifests[0].val_fold for run in runs}
    assert {run.arm: run.config.tasks for run in runs} == {
        "joint": ("segmentation", "diagnosis"),
        "segmentation": ("segmentation",),
        "diagnosis": ("diagnosis",),
    }


def test_balancers_are_arms_like_any_other(tmp_path: Path) -> None:
    arms = [{"name": "joint"}, {"name": "upgrad", "set": ['balancer={name="upgrad"}']}]
    runs = plan_runs(write_file(tmp_path, arms=arms))
    assert [run.config.balancer.name for run in runs] == ["sum", "upgrad"]


def test_an_arm_may_take_part_in_some_shares_only(tmp_path: Path) -> None:
    arms = [{"name": "joint"}, {"name": "pcgrad", "label_fractions": [1.0]}]
    runs = plan_runs(write_file(tmp_path, arms=arms, label_fractions=[0.5, 1.0]))
    assert [run.folder for run in runs] == [
        "joint/labels-100", "pcgrad/labels-100", "joint/labels-50",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("compare", "said"),
    [
        (
            {"arms": [{"name": "joint", "label_fractions": [1.0]}, {"name": "b"}]},
            "takes part in all",
        ),
        (
            {"arms": [{"name": "joint"}, {"name": "b", "label_fractions": [0.3]}]},
            r"b: label_fractions .*0\.3",
        ),
        ({"subject": "both"}, "none of the arms"),
        ({"arms": [{"name": "a"}, {"name": "a"}]}, "different names"),
        ({"label_fractions": [0.0]}, "greater than 0"),
    ],
)
def test_a_wrong_plan_is_named(tmp_path: Path, compare: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan_runs(write_file(tmp_path, **compare))


@pytest.mark.parametrize(
    "change", ["trainer.max_steps=99", "data.label_fraction=0.5", "data.manifests.0.val_fold=1"]
)
def test_an_arm_with_other_cases_or_more_steps_is_refused(tmp_path: Path, change: str) -> None:
    arms = [{"name": "joint"}, {"name": "longer", "set": [change]}]
    with pytest.raises(ConfigError, match=r"compare arm longer: found its own (trainer.max|data)"):
        plan_runs(write_file(tmp_path, arms=arms))


def test_fewer_labels_must_not_be_fewer_steps(tmp_path: Path) -> None:
    path = write_file(tmp_path, label_fractions=[0.5, 1.0])
    by_epochs = "trainer={max_epochs=4, device='cpu'}"
    with pytest.raises(ConfigError, match=r"fewer steps\. Set trainer\.steps_per_epoch"):
        plan_runs(path, [by_epochs])
    assert plan_runs(path, [by_epochs, "trainer.steps_per_epoch=2"])


def score(number: int, *, dice: float, is_right: bool) -> CaseScore:
    truth = number % 2 == 0
    return CaseScore(
        f"c{number}",
        f"p{number}",
        (SegmentScore("image", "liver", dice, None, None, False, 1.0, 1.0),),
        (FindingScore("big", truth, 0.9 if truth == is_right else 0.1, truth == is_right),),
    )


def finish(run: ArmRun, folder: Path, *, dice: float, is_right: bool) -> None:
    place = folder / run.folder
    place.mkdir(parents=True)
    scores = [asdict(score(n, dice=dice, is_right=is_right)) for n in range(10)]
    (place / "scores.json").write_text(json.dumps(scores))
    (place / "run.json").write_text(
        json.dumps({"parameters": 1_500_000, "steps": 6, "seconds_per_step": 0.5})
    )


def finished_runs(folder: Path, *, is_exclusive: bool = False, **compare: object) -> list[ArmRun]:
    """Of the one finding `big`, in which the joint arm is right and the others are wrong."""
    manifest = read_manifest(write_data(folder))
    schema = replace(
        manifest.schema, findings=manifest.schema.findings[:1], findings_exclusive=is_exclusive
    )
    cases = tuple(replace(one, findings={"big": one.findings["big"]}) for one in manifest.cases)
    write_manifest(replace(manifest, schema=schema, cases=cases), folder)
    table = settings(folder)
    table["network"]["findings"] = ["big"]
    table["compare"] = compare
    path = folder / "tiny.toml"
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    runs = plan_runs(path)
    for run in runs:
        joint = run.arm == "joint"
        finish(run, folder, dice=0.9 if joint else 0.8, is_right=joint)
    return runs


def test_the_record_and_its_page_say_who_gained(tmp_path: Path) -> None:
    record = comparison_record(finished_runs(tmp_path, label_fractions=[0.5, 1.0]), tmp_path)
    lines = list(verdict_lines(record))
    assert (
        "joint against segmentation, 100% of the labels, Dice: +0.100 [+0.100, +0.100], gain"
        in lines
    )
    assert any("against diagnosis, 50%" in line and "AUROC: +1.000" in line for line in lines)
    page = comparison_page(record)
    assert "With fewer labels" in page
    assert "1.50" in page


@pytest.mark.parametrize("is_exclusive", [True, False])
def test_an_accuracy_is_compared_where_the_manifests_say_that_findings_exclude_each_other(
    tmp_path: Path, is_exclusive: bool
) -> None:
    record = comparison_record(finished_runs(tmp_path, is_exclusive=is_exclusive), tmp_path)
    metrics = {row["metric"] for one in record["comparisons"] for row in one["rows"]}
    assert ("accuracy" in metrics) == is_exclusive
    assert (record["arms"][0]["accuracy"] is not None) == is_exclusive


def test_an_unfinished_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"joint/labels-100: found no scores.json"):
        comparison_record(plan_runs(write_file(tmp_path)), tmp_path)
