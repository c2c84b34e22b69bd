"""The gate names every criterion that fails, and lets nothing pass that was not measured."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.core.errors import ConfigError
from medmtl.tracking.figures import Figure, figure, mean_figure
from medmtl.tracking.gate import Evidence, judge
from medmtl.tracking.gate_settings import GateSettings, load_gate
from tests.evidence import good_metrics, number, write_evident
from tests.tiny_bundle import TORSO, TORSO_FINDINGS

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.tracking.bundle_files import BundleRecord

SETTINGS = load_gate()
LUNG, NODULE = TORSO[0], TORSO_FINDINGS[1]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> BundleRecord:
    return write_evident(tmp_path_factory.mktemp("gate") / "b")


def changed(*path: str, to: Any) -> dict[str, Any]:
    """Good figures but for one place; None takes it out."""
    metrics = copy.deepcopy(good_metrics())
    *folders, last = path
    part = metrics
    for name in folders:
        part = part[name]
    if to is None:
        del part[last]
    else:
        part[last] = to
    return metrics


def unmet(
    mine: Evidence, theirs: Evidence | None = None, settings: GateSettings = SETTINGS
) -> list[str]:
    return [one.name for one in judge(mine, theirs, settings) if not one.is_met]


def with_limits(**fields: Any) -> GateSettings:
    return GateSettings.model_validate({**SETTINGS.model_dump(), **fields})


def test_a_good_model_passes(bundle: BundleRecord) -> None:
    assert unmet(Evidence(bundle, bundle.metrics)) == []


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (("split",), "train", "unseen cases"),
        (("split",), "all", "unseen cases"),
        (("split",), "latest", "unseen cases"),
        (("split",), None, "unseen cases"),
        (("n_cases",), 49, "number of cases"),
        (("n_cases",), None, "number of cases"),
        (("n_failed",), 1, "cases that failed"),
        (("segmentation", "mean_dice"), number(0.79), "mean Dice"),
        (("segmentation", "mean_dice"), None, "mean Dice"),
        (("segmentation", "per_segment", LUNG, "dice"), number(0.69), f"Dice, {LUNG}"),
        (("segmentation", "per_segment", LUNG), None, f"Dice, {LUNG}"),
        (("diagnosis", "macro_auroc"), number(0.79), "macro AUROC"),
        (("diagnosis", "per_finding", NODULE, "auroc"), number(0.69), f"AUROC, {NODULE}"),
        (("diagnosis", "per_finding", NODULE, "auroc"), None, f"AUROC, {NODULE}"),
        (("diagnosis", "per_finding", NODULE, "brier"), number(0.21), f"Brier, {NODULE}"),
        (("diagnosis", "per_finding", NODULE, "ece"), number(0.16), f"ECE, {NODULE}"),
        (("diagnosis", "per_finding", NODULE, "ece"), {"value": None}, f"ECE, {NODULE}"),
        (("evidence",), None, "mean pointing game"),
    ],
)
def test_one_weakness_is_one_criterion(
    bundle: BundleRecord, path: tuple[str, ...], value: Any, name: str
) -> None:
    assert unmet(Evidence(bundle, changed(*path, to=value))) == [name]


def test_out_of_fold_figures_of_training_cases_are_unseen(bundle: BundleRecord) -> None:
    assert unmet(Evidence(bundle, changed("split", to="train, out of fold"))) == []


def test_without_any_figure_every_number_is_missed(bundle: BundleRecord) -> None:
    met = {one.name for one in judge(Evidence(bundle, {}), None, SETTINGS) if one.is_met}
    assert met == {
        "model card",
        "cases that failed",
        *(f"calibration, {n}" for n in TORSO_FINDINGS),
    }


def test_an_empty_card_and_raw_probabilities_are_seen(tmp_path: Path) -> None:
    record = write_evident(tmp_path / "b", card="# x", is_calibrated=False)
    names = ["model card", *(f"calibration, {name}" for name in TORSO_FINDINGS)]
    assert unmet(Evidence(record, record.metrics)) == names


def test_an_evaluation_must_be_of_this_very_bundle(bundle: BundleRecord) -> None:
    right = good_metrics(model={"sha256": bundle.sha256})
    other = good_metrics(model={"sha256": "0" * 64})
    assert unmet(Evidence(bundle, right, is_evaluation=True)) == []
    assert unmet(Evidence(bundle, other, is_evaluation=True)) == ["evaluated model"]
    assert unmet(Evidence(bundle, good_metrics(), is_evaluation=True)) == ["evaluated model"]


def test_an_evaluation_at_another_speed_speaks_for_another_answer(bundle: BundleRecord) -> None:
    fast = good_metrics(model={"sha256": bundle.sha256}, speed="fast")
    assert unmet(Evidence(bundle, fast, is_evaluation=True)) == ["speed"]


def test_a_name_may_go_unmeasured_only_where_the_gate_says_so(bundle: BundleRecord) -> None:
    metrics = changed("segmentation", "per_segment", LUNG, to=None)
    assert unmet(Evidence(bundle, metrics), None, with_limits(may_be_unmeasured=(LUNG,))) == []


def test_judged_by_the_bound_the_interval_counts(bundle: BundleRecord) -> None:
    strict = with_limits(judge_by="bound")
    wide = changed("segmentation", "mean_dice", to=number(0.81, 0.05))
    assert unmet(Evidence(bundle, wide)) == []
    assert unmet(Evidence(bundle, wide), None, strict) == ["mean Dice"]
    no_interval = changed("segmentation", "mean_dice", to={"value": 0.99})
    assert unmet(Evidence(bundle, no_interval), None, strict) == ["mean Dice"]


@pytest.mark.parametrize(("dice", "is_refused"), [(0.90, False), (0.89, False), (0.889, True)])
def test_the_champion_may_be_missed_by_the_tolerance_and_no_more(
    bundle: BundleRecord, dice: float, is_refused: bool
) -> None:
    metrics = changed("segmentation", "per_segment", to={n: {"dice": number(dice)} for n in TORSO})
    mine, theirs = Evidence(bundle, metrics), Evidence(bundle, good_metrics())
    assert unmet(mine, theirs) == (["mean Dice against the champion"] if is_refused else [])


@pytest.mark.parametrize(
    ("path", "shared", "easy", "means"),
    [
        (("segmentation", "per_segment"), {"dice": number(0.88)}, {"dice": number(0.99)}, "Dice"),
        (("diagnosis", "per_finding"), {"auroc": number(0.86)}, {"auroc": number(0.99)}, "AUROC"),
    ],
)
def test_further_easy_answers_do_not_make_up_for_worse_shared_ones(
    bundle: BundleRecord,
    path: tuple[str, str],
    shared: dict[str, Any],
    easy: dict[str, Any],
    means: str,
) -> None:
    metrics = good_metrics()
    answers = metrics[path[0]][path[1]]
    for entry in answers.values():
        entry.update(shared)
    further = {f"easy_{n}": {**next(iter(answers.values())), **easy} for n in range(9)}
    answers |= further
    larger = replace(
        bundle,
        segments=(*bundle.segments, *(further if means == "Dice" else ())),
        findings={**bundle.findings, **dict.fromkeys(further if means == "AUROC" else (), True)},
    )
    names = unmet(Evidence(larger, metrics), Evidence(bundle, good_metrics()))
    assert names == [f"mean {means} against the champion"]


@pytest.mark.parametrize(
    ("path", "title"),
    [
        (("segmentation", "per_segment", LUNG, "dice"), f"Dice, {LUNG}"),
        (("diagnosis", "per_finding", NODULE, "auroc"), f"AUROC, {NODULE}"),
    ],
)
def test_no_single_answer_may_be_much_worse_than_the_champions(
    bundle: BundleRecord, path: tuple[str, ...], title: str
) -> None:
    theirs = Evidence(bundle, changed(*path, to=number(0.98)))
    mine = Evidence(bundle, good_metrics())
    loose = with_limits(
        champion={**SETTINGS.champion.model_dump(), "dice_tolerance": 1, "auroc_tolerance": 1}
    )
    assert unmet(mine, theirs, loose) == [f"{title} against the champion"]


@pytest.mark.parametrize("key", ["brier", "ece"])
def test_worse_calibration_than_the_champion_is_refused(bundle: BundleRecord, key: str) -> None:
    metrics = good_metrics()
    for entry in metrics["diagnosis"]["per_finding"].values():
        entry[key] = number(entry[key]["value"] + 0.04)
    names = unmet(Evidence(bundle, metrics), Evidence(bundle, good_metrics()))
    assert names == [f"mean {'Brier' if key == 'brier' else 'ECE'} against the champion"]


def test_figures_from_other_cases_do_not_compare(bundle: BundleRecord) -> None:
    theirs = Evidence(bundle, good_metrics(manifest={"sha256": "d" * 64}))
    mine = Evidence(bundle, good_metrics())
    assert unmet(mine, theirs) == ["same cases as the champion"]
    unnamed = Evidence(bundle, changed("manifest", to=None))
    assert unmet(unnamed, unnamed) == ["same cases as the champion"]
    loose = {**SETTINGS.champion.model_dump(), "require_same_cases": False}
    assert unmet(mine, theirs, with_limits(champion=loose)) == []


def test_a_model_that_answers_less_does_not_replace_the_champion(
    bundle: BundleRecord, tmp_path: Path
) -> None:
    smaller = replace(bundle, findings={TORSO_FINDINGS[0]: True})
    names = unmet(Evidence(smaller, good_metrics()), Evidence(bundle, good_metrics()))
    assert names == ["answers of the champion"]


@given(value=st.floats(0, 1), gain=st.floats(0, 1))
def test_a_better_figure_never_fails_where_a_worse_one_passed(value: float, gain: float) -> None:
    from medmtl.tracking.criterion import at_least, at_most

    better = Figure(min(1.0, value + gain))
    assert (
        at_least("x", better, 0.5, SETTINGS).is_met
        >= at_least("x", Figure(value), 0.5, SETTINGS).is_met
    )
    assert (
        at_most("x", better, 0.5, SETTINGS).is_met
        <= at_most("x", Figure(value), 0.5, SETTINGS).is_met
    )


def test_figures_are_read_only_where_they_are_numbers() -> None:
    assert figure({"a": {"value": 0.5, "ci95": [0.4, 0.6]}}, "a") == Figure(0.5, 0.4, 0.6)
    for entry in ({"value": None}, {"value": True}, {"value": "0.9"}, {"value": float("nan")}, [1]):
        assert figure({"a": entry}, "a") is None
    mean = mean_figure([None, Figure(0.25, 0.1, 0.3), Figure(0.75)])
    assert mean == Figure(0.5, None, None)
    assert mean_figure([None]) is None


def test_a_gate_with_a_forgotten_or_misspelt_limit_is_refused(tmp_path: Path) -> None:
    import tomli_w

    document = SETTINGS.model_dump(mode="json")
    del document["min_cases"]
    document["segmentation"]["min_dise"] = 0.8
    document["champion"]["dice_tolerance"] = 2
    path = tmp_path / "gate.toml"
    path.write_text(tomli_w.dumps(document))
    with pytest.raises(ConfigError) as caught:
        load_gate(path)
    for name in ("min_cases", "segmentation.min_dise", "champion.dice_tolerance"):
        assert name in str(caught.value)
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
        load_gate(tmp_path / "nowhere.toml")
