"""Step time of every balancer relative to the plain sum: same network, same batch, one run.

Processor time of one thread, so that others on the machine count as little as possible. Every
balancer has its turn in every round, and is compared with the sum of the same round.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from benchmarks.record import Row, finish, options
from medmtl.balancing.configs import BalancerConfig, GradientSettings
from medmtl.balancing.gradient_table import MIN_TASKS
from medmtl.balancing.table import BALANCERS, build_balancer
from medmtl.losses.diagnosis import known_binary_cross_entropy
from medmtl.losses.segmentation import dice_cross_entropy
from medmtl.networks.backbones import SegResNetDSConfig
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import JointNet, NetworkConfig

if TYPE_CHECKING:
    from medmtl.balancing.balancer import Balancer

TASKS = ("segmentation", "diagnosis")
GRID = (8, 64, 64)
LIMIT = 1.25
ROUNDS = 9


class Step:
    """A forward pass and the balanced backward pass of the joint network."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net = JointNet(
            NetworkConfig(
                backbone=SegResNetDSConfig(init_filters=8, blocks_down=(1, 2, 2)),
                segments=("lung", "heart"),
                findings=("effusion",),
                head=HeadConfig(measurements="torso"),
            )
        )
        self.image = torch.randn(1, 1, *GRID)
        self.labels = torch.randint(0, 3, (1, *GRID))
        self.finding = torch.ones(1, 1)
        self.spacing = torch.tensor([[[3.0, 1.5, 1.5]]])

    def losses(self) -> tuple[dict[str, Tensor], list[Tensor]]:
        output = self.net([self.image], spacing_mm=self.spacing, covariates={})
        if output.finding_logits is None:
            raise RuntimeError("the network has no diagnosis")
        segmentation = dice_cross_entropy(output.segmentation_logits[0], self.labels)
        diagnosis = known_binary_cross_entropy(output.finding_logits, self.finding)
        return {"segmentation": segmentation, "diagnosis": diagnosis}, output.features

    def _again(self) -> dict[str, Tensor]:
        with torch.no_grad():
            return self.losses()[0]

    def seconds(self, balancer: Balancer) -> float:
        self.net.zero_grad()
        start = time.process_time()
        losses, features = self.losses()
        balancer.backward(losses, features=features)
        balancer.after_step(self._again)
        return time.process_time() - start


def _settings() -> dict[str, dict[str, Any]]:
    """Of every balancer that takes two tasks, without the reports in between."""
    parse: TypeAdapter[BalancerConfig] = TypeAdapter(BalancerConfig)
    found: dict[str, dict[str, Any]] = {}
    for name in BALANCERS:
        if name in MIN_TASKS:
            continue
        plain = {"name": name, "report_every": 10**9}
        is_on = isinstance(parse.validate_python(plain), GradientSettings)
        place = "weights" if name == "excess_mtl" else "features"
        found[f"{name}, on {place}" if is_on else name] = plain
    found["mgda, on weights"] = {"name": "mgda", "on": "weights", "report_every": 10**9}
    return found


def measure(rounds: int) -> dict[str, list[float]]:
    """Ratios to the sum of the same round."""
    parse: TypeAdapter[BalancerConfig] = TypeAdapter(BalancerConfig)
    step = Step()
    balancers = {
        label: build_balancer(parse.validate_python(settings), TASKS)
        for label, settings in _settings().items()
    }
    ratios: dict[str, list[float]] = {label: [] for label in balancers}
    for balancer in balancers.values():
        step.seconds(balancer)  # the first step reports and checks
    for _ in range(rounds):
        seconds = {label: step.seconds(balancer) for label, balancer in balancers.items()}
        # The sum at both ends of the round: what drifts during it falls out.
        plain = (seconds["sum"] + step.seconds(balancers["sum"])) / 2
        for label, own in seconds.items():
            ratios[label].append(own / plain)
    return ratios


def _row(label: str, ratios: list[float]) -> Row:
    median = statistics.median(ratios)
    text = f"{median:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    if not label.endswith("on features"):
        return Row(f"step time relative to the sum: {label}", text)
    target = f"<= {LIMIT}"
    return Row(f"step time relative to the sum: {label}", text, target, median <= LIMIT)


def main() -> None:
    """Every balancer for two tasks; `--quick` takes one round."""
    arguments = options(__doc__ or "")
    torch.set_num_threads(1)
    ratios = measure(1 if arguments.quick else ROUNDS)
    finish("balancers", [_row(label, values) for label, values in ratios.items()], arguments)


if __name__ == "__main__":
    main()
