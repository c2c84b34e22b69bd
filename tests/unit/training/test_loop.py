"""The training loop: same seed same weights, exact resume, and no damaged checkpoint."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
import torch
from torch import Tensor, nn

from medmtl.balancing.configs import FAMOConfig
from medmtl.balancing.table import build_balancer
from medmtl.core.errors import ConfigError
from medmtl.training.loop import (
    FitOptions,
    TaskLosses,
    TrainingDivergedError,
    TrainState,
    fit,
    train_steps,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPTIONS = FitOptions(steps=20, warmup_steps=5, save_every=10, log_every=10)
Batch = tuple[Tensor, Tensor]


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))


def batches(start: int = 0) -> Iterator[Batch]:
    """The batch of a step depends on the step alone."""
    for step in itertools.count(start):
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
        yield x, x.sum(dim=1, keepdim=True)


def losses(net: nn.Module, batch: Batch) -> dict[str, Tensor]:
    return {"mse": nn.functional.mse_loss(net(batch[0]), batch[1])}


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    one = fit(model(), batches(), losses, OPTIONS, checkpoint=tmp_path / "a.ckpt")
    other = fit(model(), batches(), losses, OPTIONS, checkpoint=tmp_path / "b.ckpt")
    assert_same(weights(one), weights(other))


def test_accumulated_halves_are_the_whole_batch(tmp_path: Path) -> None:
    def plain() -> nn.Linear:
        torch.manual_seed(0)
        return nn.Linear(3, 1)

    def halves() -> Iterator[Batch]:
        for x, y in batches():
            yield x[:8], y[:8]
            yield x[8:], y[8:]

    whole = fit(plain(), batches(), losses, OPTIONS, checkpoint=tmp_path / "a.ckpt")
    options = replace(OPTIONS, accumulate=2)
    accumulated = fit(plain(), halves(), losses, options, checkpoint=tmp_path / "b.ckpt")
    for one, other in zip(whole.parameters(), accumulated.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_scaled_loss_changes_nothing(tmp_path: Path) -> None:
    plain = fit(model(), batches(), losses, OPTIONS, checkpoint=tmp_path / "a.ckpt")
    options = replace(OPTIONS, is_half=True)
    scaled = fit(model(), batches(), losses, options, checkpoint=tmp_path / "b.ckpt")
    for one, other in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_without_an_average_the_model_itself_is_delivered(tmp_path: Path) -> None:
    net = model()
    options = replace(OPTIONS, ema_decay=0.0)
    assert fit(net, batches(), losses, options, checkpoint=tmp_path / "a.ckpt") is net


def test_a_damaged_checkpoint_is_said(tmp_path: Path) -> None:
    checkpoint = tmp_path / "broken.ckpt"
    checkpoint.write_bytes(b"no checkpoint")
    with pytest.raises(ConfigError, match=r"broken\.ckpt: no checkpoint can be read"):
        fit(model(), batches(), losses, OPTIONS, checkpoint=checkpoint)


class Killed(BaseException):
    """Like Ctrl-C: nobody catches it on the way."""


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    in_one_go = model()
    average = fit(in_one_go, batches(), losses, OPTIONS, checkpoint=tmp_path / "whole.ckpt")
    checkpoint = tmp_path / "killed.ckpt"

    def until_13() -> Iterator[Batch]:
        yield from itertools.islice(batches(), 13)
        raise Killed

    with pytest.raises(Killed):
        fit(model(), until_13(), losses, OPTIONS, checkpoint=checkpoint)
    resumed = model()
    for weight in resumed.parameters():
        nn.init.zeros_(weight)  # everything that matters is in the checkpoint
    average_resumed = fit(resumed, batches(10), losses, OPTIONS, checkpoint=checkpoint)
    assert_same(weights(average), weights(average_resumed))
    assert_same(weights(in_one_go), weights(resumed))


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    checkpoint = tmp_path / "done.ckpt"
    average = fit(model(), batches(), losses, OPTIONS, checkpoint=checkpoint)
    again = fit(model(), iter(()), losses, OPTIONS, checkpoint=checkpoint)
    assert_same(weights(average), weights(again))
    assert not again.training


def test_it_learns_and_returns_the_average_in_evaluation_mode(tmp_path: Path) -> None:
    net = model()
    x, y = next(batches(999))
    before = nn.functional.mse_loss(model().eval()(x), y).item()
    options = FitOptions(steps=200, peak_lr=2e-2, warmup_steps=10, ema_decay=0.9)
    average = fit(net, batches(), losses, options, checkpoint=tmp_path / "c.ckpt")
    assert not average.training
    assert nn.functional.mse_loss(average(x), y).item() < 0.2 * before
    assert not torch.equal(average.state_dict()["0.weight"], net.state_dict()["0.weight"])


def failing_from(step: int, *, how: str) -> Iterator[Batch]:
    for number, (x, y) in enumerate(batches()):
        if number < step:
            yield x, y
        elif how == "loss":
            yield x, torch.full_like(y, torch.nan)
        else:
            yield torch.zeros_like(x), y


def root_losses(net: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """sqrt has an infinite slope at zero: a finite loss with a gradient that is not."""
    spread = (net(batch[0]) * batch[0].sum(dim=1, keepdim=True)).square().sum()
    return {"root": spread.sqrt()}


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_divergence_is_an_error_and_keeps_the_checkpoint_before_it(
    tmp_path: Path, how: str
) -> None:
    checkpoint = tmp_path / "d.ckpt"
    options = FitOptions(steps=20, warmup_steps=5, save_every=5)
    terms = losses if how == "loss" else root_losses
    with pytest.raises(TrainingDivergedError, match="step 9"):
        fit(model(), failing_from(9, how=how), terms, options, checkpoint=checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    assert state["step"] == 5
    assert all(torch.isfinite(value.float()).all() for value in state["model"].values())


def test_a_write_that_fails_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "e.ckpt"
    short = FitOptions(steps=10, warmup_steps=5, save_every=10)
    fit(model(), batches(), losses, short, checkpoint=checkpoint)
    before = checkpoint.read_bytes()

    def half(state: object, file: object) -> None:
        file.write(b"half of it")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space"):
        fit(model(), batches(10), losses, OPTIONS, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def test_the_learning_rate_on_paper() -> None:
    options = FitOptions(steps=1000, peak_lr=1e-2, warmup_steps=100)
    floor = 1e-6
    assert options.lr(0) == pytest.approx(1e-2 / 100 + floor)
    assert options.lr(500) == pytest.approx(0.5e-2 + floor)
    assert options.lr(250) == pytest.approx(1e-2 * (1 + 0.5**0.5) / 2 + floor)
    assert options.lr(1000) == pytest.approx(floor)
    assert max(options.lr(step) for step in range(1000)) <= 1e-2 + floor
    rates = [options.lr(step) for step in range(100, 1000)]
    assert rates == sorted(rates, reverse=True)


def test_no_warm_up_starts_at_the_peak() -> None:
    assert FitOptions(steps=10, peak_lr=1.0, warmup_steps=0).lr(0) == pytest.approx(1.0, abs=1e-5)


def test_a_compiled_network_trains_to_the_weights_of_the_plain_one() -> None:
    def trained(*, is_compiled: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        net = nn.Linear(3, 1)  # no __len__: a compiled one must not be asked for its truth value
        run = cast("nn.Module", torch.compile(net, backend="eager")) if is_compiled else net
        state = TrainState.start(net, OPTIONS)

        def objective(called: nn.Module, batch: Batch) -> TaskLosses:
            return TaskLosses(losses(called, batch))

        assert len(list(train_steps(state, batches(), objective, OPTIONS, run=run))) == 20
        return weights(net)

    assert_same(trained(is_compiled=True), trained(is_compiled=False))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_balancer_compares_the_losses_of_the_same_draws(accumulate: int) -> None:
    """Without learning FAMO sees no change, whatever is random in a loss."""
    net, seen = nn.Linear(3, 1), list[float]()

    def of_chance(net: nn.Module, batch: Batch) -> TaskLosses:
        loss = net(batch[0]).pow(2).mean() * torch.rand(()) + 0.1
        seen.append(loss.item())
        return TaskLosses({"a": loss, "b": 2 * loss})

    options = FitOptions(steps=3, peak_lr=0.0, floor_lr=0.0, warmup_steps=0, accumulate=accumulate)
    state = TrainState.start(net, options, balancer=build_balancer(FAMOConfig(), ("a", "b")))
    for _ in train_steps(state, batches(), of_chance, options):
        assert seen[-1] == seen[-2]
    assert len(set(seen)) == 3 * accumulate
