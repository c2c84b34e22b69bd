"""Bundles of several folds become one that answers as the first of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from medmtl.core.errors import BundleError
from medmtl.inference.bundle import load_bundle, load_members, verify_bundle, write_bundle
from medmtl.inference.ensemble import join_bundles
from tests.tiny_bundle import heart_settings, random_net, torso_settings, write_tiny

if TYPE_CHECKING:
    from pathlib import Path


def fold(folder: Path, seed: int) -> Path:
    settings = torso_settings()
    weights = random_net(settings, seed).state_dict()
    write_bundle(folder, settings, weights, card=f"# {seed}\n", metrics_json="{}")
    return folder


def test_the_first_answers_and_the_others_are_beside_it(tmp_path: Path) -> None:
    folds = [fold(tmp_path / str(seed), seed) for seed in range(3)]
    joined = tmp_path / "joined"
    join_bundles(folds[0], folds[1:], out=joined)
    verify_bundle(joined)
    for name in ("weights.safetensors", "card.md", "metrics.json"):
        assert (joined / name).read_bytes() == (folds[0] / name).read_bytes()
    for net, folder in zip(load_members(load_bundle(joined)), folds[1:], strict=True):
        for name, value in load_bundle(folder).net.state_dict().items():
            assert torch.equal(net.state_dict()[name], value)


def test_a_mean_of_folds_has_no_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    averaged = torso_settings().model_copy(update={"folds": ("fold1",)})
    monkeypatch.setattr("medmtl.inference.ensemble.verify_bundle", lambda _: averaged)
    with pytest.raises(BundleError, match="mean of 2 folds"):
        join_bundles(fold(tmp_path / "a", 0), [fold(tmp_path / "b", 1)], out=tmp_path / "c")


def test_another_network_is_no_member(tmp_path: Path) -> None:
    base = fold(tmp_path / "a", 0)
    write_tiny(tmp_path / "b", heart_settings())
    with pytest.raises(BundleError, match="b: its network differs"):
        join_bundles(base, [tmp_path / "b"], out=tmp_path / "c")
    with pytest.raises(BundleError, match="at least one"):
        join_bundles(base, [], out=tmp_path / "c")
    assert not (tmp_path / "c").exists()
