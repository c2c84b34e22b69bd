"""A run that was killed goes on to the same numbers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from medmtl.build import train_run
from medmtl.core.errors import ConfigError
from medmtl.inference.bundle import load_bundle
from medmtl.training.trainer import TrainingStoppedError
from tests.tiny_run import STEPS, configuration, write_configuration, write_data

ROOT = Path(__file__).resolve().parents[2]
HARD = ["balancer={name = 'uw'}", "augmentation={name = 'volume_mr'}"]
"""A balancer with weights of its own, random augmentation and dropout: all must resume."""

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from medmtl.build import train_run
from tests.tiny_run import configuration
def watch(report, steps):
    if report.step == 5:  # in the middle of an epoch, one step after the last checkpoint
        os.kill(os.getpid(), signal.SIGKILL)
config = configuration(Path(sys.argv[1]), *sys.argv[3:], checkpoint_every_s=1e-6)
train_run(config, Path(sys.argv[2]), data_root=Path(sys.argv[1]), watch=watch)
"""


pytestmark = pytest.mark.usefixtures("one_thread")


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}


def checkpoint(out: Path) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    return saved


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Every tensor and number of a nested state, by its place."""
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list | tuple):
        pairs = enumerate(value)  # type: ignore[assignment]
    else:
        return {key: value}
    return {name: x for k, v in pairs for name, x in flat(v, f"{key}/{k}").items()}


def assert_same_numbers(one: Path, other: Path) -> None:
    first, second = flat(checkpoint(one)), flat(checkpoint(other))
    assert first.keys() == second.keys()
    for name, value in first.items():
        if "seconds" in name or "wait" in name:
            continue
        same = torch.equal(value, second[name]) if torch.is_tensor(value) else value == second[name]
        assert same, name


def test_a_killed_run_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, data, tmp_path / "killed", *HARD],
        env=environment(), check=False, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert checkpoint(tmp_path / "killed")["state"]["step"] == 4
    whole = train_run(configuration(data, *HARD), tmp_path / "whole", data_root=data)
    again = train_run(configuration(data, *HARD), tmp_path / "killed", data_root=data, resume=True)
    assert_same_numbers(tmp_path / "whole", tmp_path / "killed")
    weights = [load_bundle(result.bundle).net.state_dict() for result in (whole, again)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert whole.cases.read_text() == again.cases.read_text()


def test_a_run_that_is_asked_to_stop_saves_and_says_so(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    config, out = configuration(data), tmp_path / "run"
    with pytest.raises(TrainingStoppedError, match=r"prepared: 1 of 8.*same command again"):
        train_run(config, out, data_root=data, should_stop=lambda: True)
    steps: list[int] = []
    with pytest.raises(TrainingStoppedError, match=r"after step 1 of 6.*--resume"):
        train_run(
            config,
            out,
            data_root=data,
            watch=lambda report, _: steps.append(report.step),
            should_stop=lambda: bool(steps),
        )
    assert checkpoint(out)["state"]["step"] == 1
    with pytest.raises(ConfigError, match="--resume"):
        train_run(config, out, data_root=data)
    with pytest.raises(ConfigError, match="another configuration"):
        train_run(configuration(data, lr=1e-4), out, data_root=data, resume=True)
    older = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(older | {"unknown_today": 1}))
    with pytest.raises(ConfigError, match="another configuration"):
        train_run(config, out, data_root=data, resume=True)
    del older["trainer"]["compile"]  # as a version wrote it that did not have the setting yet
    (out / "config.json").write_text(json.dumps(older))
    result = train_run(config, out, data_root=data, resume=True)
    assert checkpoint(out)["state"]["step"] == STEPS
    assert [row["step"] for row in result.history] == [3, 6]


def test_a_run_that_ends_within_a_validation_resumes_with_that_validation(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "stopped"
    steps, kept = [0], list[int]()

    def stops_at_the_second_study() -> bool:
        if steps[-1] == 3:  # the end of the first epoch
            kept.append(checkpoint(out)["state"]["step"])
        return len(kept) > 1

    with pytest.raises(TrainingStoppedError, match=r"after step 3 of 6.*--resume"):
        train_run(
            configuration(data),
            out,
            data_root=data,
            watch=lambda report, _: steps.append(report.step),
            should_stop=stops_at_the_second_study,
        )
    assert kept[0] == 3, "a process that is killed while it validates must lose no step"
    assert not checkpoint(out)["history"]
    train_run(configuration(data), out, data_root=data, resume=True)
    train_run(configuration(data), tmp_path / "whole", data_root=data)
    assert_same_numbers(tmp_path / "whole", out)


@pytest.mark.parametrize(
    ("setting", "said"),
    [("seed=0", "measured: 1 of 3"), ("head_refit={steps=5, batch=4}", "head: 1 of 5")],
)
def test_a_run_can_be_stopped_after_its_last_step(tmp_path: Path, setting: str, said: str) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "run"
    done: list[bool] = []

    def stop() -> bool:
        path = out / "checkpoints" / "last.ckpt"
        done.append(path.exists() and len(checkpoint(out)["history"]) == 2)
        return sum(done) > 1  # the first time the loop itself asks

    with pytest.raises(TrainingStoppedError, match=rf"{said}\..*--resume"):
        train_run(configuration(data, setting), out, data_root=data, should_stop=stop)
    assert not (out / "bundle").exists()
    assert train_run(configuration(data, setting), out, data_root=data, resume=True).scores


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_sigterm_ends_the_command_with_143_and_a_checkpoint(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    path = write_configuration(data, tmp_path / "long.toml", max_steps=100_000, steps_per_epoch=2)
    out = tmp_path / "run"
    options = [path, "--data-root", data, "-o", out]
    command = [sys.executable, "-m", "medmtl", "train", *map(str, options)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 300
        while not (out / "checkpoints" / "last.ckpt").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 143
    assert "--resume" in said
    assert checkpoint(out)["state"]["step"] >= 2
