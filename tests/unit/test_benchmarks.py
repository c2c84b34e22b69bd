"""The measuring itself: memory of the whole process tree is seen, and the page says it all."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import encoder_acdc, encoder_torso
from benchmarks.encoder_arms import ARMS, JOINT, Split, arm_config, rows_of
from benchmarks.figures import Bar, bars_of, plot
from benchmarks.measured import Measured
from benchmarks.peak import run_and_watch
from benchmarks.random_bundle import MODEL
from benchmarks.record import Row, write_page, write_result
from benchmarks.scale_page import need, scale_page
from benchmarks.torso_ct import squared
from benchmarks.trained_bundle import train
from medmtl.inference.bundle import find_bundle, load_bundle
from medmtl.metrics.scores import CaseScore, FindingScore, SegmentScore
from medmtl.networks.joint import JointNet
from medmtl.phantom import generate_torso

MIB = 2**20
_HOLD_200_MIB = "import time; held = bytearray(b'x' * (200 * 2**20)); time.sleep(0.5)"
_IN_A_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_HOLD_200_MIB!r}])"


@pytest.mark.parametrize("code", [_HOLD_200_MIB, _IN_A_CHILD], ids=["itself", "its child"])
def test_memory_of_the_command_and_its_children_is_seen(code: str) -> None:
    peak_bytes, seconds = run_and_watch([sys.executable, "-c", code])
    assert 200 * MIB < peak_bytes < 500 * MIB
    assert seconds > 0.5


def test_a_failed_command_is_no_measurement() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run_and_watch([sys.executable, "-c", "raise SystemExit(3)"])


def test_page_says_figure_target_and_whether_it_was_reached(tmp_path: Path) -> None:
    rows = [
        Row("peak", "3.10 GiB", "< 4 GiB", reached=True),
        Row("time", "700 s", "< 600 s", False),
    ]
    write_result("demo", rows, out=tmp_path)
    write_page(tmp_path, tmp_path / "page.md", tmp_path / "pictures")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| peak | 3.10 GiB | < 4 GiB | yes |" in page
    assert "| time | 700 s | < 600 s | no |" in page
    assert "cores" in page


def test_a_page_has_a_picture_of_what_can_be_compared(tmp_path: Path) -> None:
    rows = [Row("SimpleITK", "4.00 s (3.50 to 5.00)"), Row("medmtl", "0.50 s, 1.25 GiB")]
    write_result("demo", rows, out=tmp_path)
    write_page(tmp_path, tmp_path / "page.md", tmp_path / "pictures")
    assert "](pictures/demo-seconds.png)" in (tmp_path / "page.md").read_text(encoding="utf-8")
    assert (tmp_path / "pictures" / "demo-seconds.png").stat().st_size > 1000


def test_bars_are_the_numbers_of_the_rows_with_their_spread() -> None:
    measured = ["4.00 s (3.50 to 5.00)", "0.50 s, 1.25 GiB", "141", "not within 180 s", "none"]
    rows = [{"what": f"row {number}", "measured": text} for number, text in enumerate(measured)]
    assert bars_of({"name": "demo", "rows": rows}) == [
        Bar("row 0", 4.0, 3.5, 5.0, "s"),
        Bar("row 1", 0.5, 0.5, 0.5, "s"),
        Bar("row 1", 1.25, 1.25, 1.25, "GiB"),
        Bar("row 2", 141, 141, 141, ""),
    ]


def test_equal_records_give_equal_pictures(tmp_path: Path) -> None:
    record = {"name": "demo", "rows": [{"what": f"{n}", "measured": f"{n} s"} for n in (1, 2, 90)]}
    ((_, one),), ((_, two),) = plot(record, tmp_path / "a"), plot(record, tmp_path / "b")
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("source", [encoder_acdc, encoder_torso])
def test_arms_on_an_encoder_learn_the_findings_of_the_joint_one(
    source: Any, tmp_path: Path
) -> None:
    place = 0 if source is encoder_acdc else tmp_path
    split = Split(tmp_path, {}, tmp_path, source.joint(place), source.TUNING)
    joint = arm_config(split, JOINT, tmp_path)
    for arm in ARMS:
        config = arm_config(split, arm, tmp_path)
        assert config.network.findings == joint.network.findings
        assert config.encoder is not None
        assert (config.encoder.training == "full") == (arm == "tuned")
        assert config.calibration == joint.calibration
        assert config.data.manifests == joint.data.manifests


def test_differences_are_over_the_patients_of_all_folds_that_have_both_arms(
    tmp_path: Path,
) -> None:
    """Two folds have both arms, the third has one, and the fourth was not begun."""
    splits = [
        Split(tmp_path / f"fold-{n}", {}, tmp_path, {}, {}, joint_scores=tmp_path / "not-there")
        for n in range(4)
    ]
    for number, split in enumerate(splits[:3]):
        write_arm(split, JOINT, number, dice=0.5)
        if number < 2:
            write_arm(split, "measured", number, dice=0.7)
    rows = {row.what: row.measured for row in rows_of(splits)}
    assert rows["dice: measured 0.700, joint 0.500, 8 patients"].startswith("+0.200 (+0.200")
    assert "measured: 8 held-out patients, mean Dice before, after" in rows
    assert rows["joint: Dice of each segment"] == "heart 0.500"


def write_arm(split: Split, arm: str, number: int, *, dice: float) -> None:
    """Four patients of a fold, half of whom have the finding."""
    folder = split.work / "arms" / arm
    folder.mkdir(parents=True)
    shown = (1.0, 1.0, False, 1.0, 1.0)  # the surface and the volumes
    scores = [
        CaseScore(
            case_id=f"{number}-{n}",
            patient_id=f"{number}-{n}",
            segments=(SegmentScore("ed", "heart", dice, *shown),),
            findings=(FindingScore("big", n % 2 == 0, 0.5 + 0.1 * (n % 2), decision=True),),
        )
        for n in range(4)
    ]
    said = {"dice_before": {"mean": 0.7}, "dice_after": {"mean": 0.7}}
    run = {"encoder": said | {"loss": 0.0, "equal_voxels": 1.0}, "val_cases": 4}
    (folder / "scores.json").write_text(json.dumps([asdict(score) for score in scores]))
    (folder / "run.json").write_text(json.dumps(run | {"steps": 0, "seconds": 1.0}))


def test_ten_million_studies_are_multiplied_out() -> None:
    all_of = need(36.0, results_mib=2.0, input_mib=150.0)
    assert all_of.core_hours == pytest.approx(100_000)
    assert all_of.per_machine_day == pytest.approx(32 * 0.8 * 2400)
    assert all_of.machines == pytest.approx(1e7 / (32 * 0.8 * 2400) / 30)
    assert all_of.results_tib == pytest.approx(2e7 / 2**20)
    assert all_of.read_mib_s == pytest.approx(1.5e9 / (30 * 86400))


def test_the_scale_page_follows_from_the_record() -> None:
    rows = [
        {"what": "tiny: processor time per study", "measured": "36.0 s"},
        {"what": "tiny: results per study", "measured": "2.00 MiB"},
        {"what": "input per study, 512x512x300, uncompressed", "measured": "150 MiB"},
    ]
    machine = {"processor": "one", "cores": 2}
    page = scale_page({"rows": rows, "machine": machine, "date": "2026-01-01"})
    assert "| tiny | 36 s | 2 MiB | 100,000 |" in page


def test_a_long_benchmark_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write('x')",
               str(tmp_path / "ran")]  # fmt: skip
    state = tmp_path / "measured.json"
    assert not Measured.at(state).run("one", command, limit_s=0)
    assert Measured.at(state).run("one", command, limit_s=60)
    again = Measured.at(state)
    assert again.run("one", command, limit_s=60)
    assert (tmp_path / "ran").read_text() == "x"
    assert again.runs["one"].seconds > 0


def test_a_stopped_training_goes_on_to_the_same_network(tmp_path: Path) -> None:
    settings = load_bundle(find_bundle(MODEL)).settings
    values = torch.rand(1, 36, 36, 36, generator=torch.Generator().manual_seed(0))
    examples = [{"image": values[0] * 2 - 1, "labels": (values[0] * 11).to(torch.uint8)}]

    def trained(kept: Path, until_s: float) -> tuple[int, dict[str, torch.Tensor]]:
        for starts in range(1, 9):
            torch.manual_seed(0)
            net = JointNet(settings.network)
            if train(net, examples, kept, size=(32, 32, 32), steps=2, until_s=until_s):
                return starts, net.state_dict()
        raise AssertionError("never done")

    once, whole = trained(tmp_path / "once.pt", until_s=math.inf)
    often, parts = trained(tmp_path / "often.pt", until_s=0.0)
    assert (once, often) == (1, 3)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_a_command_that_takes_too_long_is_ended() -> None:
    with pytest.raises(TimeoutError):
        run_and_watch([sys.executable, "-c", "import time; time.sleep(60)"], limit_s=0.5)


def test_the_air_around_a_torso_moves_nothing() -> None:
    phantom = generate_torso(1, spacing_mm=(16.0, 16.0, 24.0))
    square = squared(phantom).volume
    i, j, k = phantom.volume.geometry.shape
    assert square.geometry.shape == (i, i, k)
    front = (i - j) // 2
    np.testing.assert_array_equal(square.array[:, front : front + j], phantom.volume.array)
    assert square.array[:, :front].max() < -900
    before, after = phantom.volume.geometry.affine_lps, square.geometry.affine_lps
    np.testing.assert_allclose(after @ [3, front + 2, 1, 1], before @ [3, 2, 1, 1])
