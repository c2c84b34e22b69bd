"""`torchrun` with two gloo processes learns what one process learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medmtl.build import train_run
from tests.tiny_run import configuration, write_configuration, write_data

ROOT = Path(__file__).resolve().parents[2]


def weights(out: Path) -> Tensor:
    saved: dict[str, Any] = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    model = saved["state"]["model"]
    return torch.cat([value.flatten() for value in model.values() if value.is_floating_point()])


def history(out: Path) -> list[dict[str, float]]:
    saved: dict[str, Any] = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    rows: list[dict[str, float]] = saved["history"]
    return rows


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs gloo over TCP")
def test_two_processes_match_one_within_seed_noise(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    # Each process has one case, which teaches one task: the other task is missing there.
    alike = ["sampling={one_task_per_case=true}", "network.backbone.norm='instance'",
             "network.head.dropout=0.0"]  # fmt: skip
    for seed in (0, 1):
        config = configuration(data, *alike, f"seed={seed}", batch_size=2)
        train_run(config, tmp_path / f"one_{seed}", data_root=data)
    path = write_configuration(data, tmp_path / "two.toml")
    settings = [part for override in alike for part in ("--set", override)]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = [path, *settings, "--data-root", data, "-o", tmp_path / "two"]
    command = [sys.executable, *launch, "-m", "medmtl", "train", *map(str, options)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, check=False, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    one, two, other = (weights(tmp_path / name) for name in ("one_0", "two", "one_1"))
    assert (two - one).norm() < 0.02 * (other - one).norm()
    for mine, theirs in zip(history(tmp_path / "two"), history(tmp_path / "one_0"), strict=True):
        for name in ("val/dice", "val/loss/segmentation", "val/loss/diagnosis"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-2, abs=1e-3), name
    record = json.loads((tmp_path / "two" / "run.json").read_text(encoding="utf-8"))
    assert record["processes"] == 2
    assert (tmp_path / "two" / "processes.json").read_text(encoding="utf-8") == "2\n"
    assert (tmp_path / "two" / "bundle" / "bundle.toml").exists()
