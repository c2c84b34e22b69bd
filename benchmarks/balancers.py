"""Step time of every balancer relative to the plain sum: same network, same batch, one run.

Processor time of one thread, so that others on the machine count as little as possible. Every
balancer has its turn in every round, and is compared with the sum of the same round.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from pydantic import TypeAdapter

from benchmarks.record import Row, finish, options
from medmtl.balancing.configs import BalancerConfig, GradientSettings
from medmtl.balancing.gradient_table import MIN_TASKS
from medmtl.balancing.table import BALANCERS, build_balancer
from medmtl.data.samples import Batch
from medmtl.networks.backbones import SegResNetDSConfig
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import COVARIATES, JointNet, NetworkConfig
from medmtl.training.objective import JointObjective
from pipelines.recipes.cardiac_settings import NETWORK as CARDIAC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medmtl.balancing.balancer import Balancer

TASKS = ("segmentation", "diagnosis")
SMALL = NetworkConfig(
    backbone=SegResNetDSConfig(init_filters=8, blocks_down=(1, 2, 2)),
    segments=("lung", "heart"),
    findings=("effusion",),
    head=HeadConfig(measurements="torso"),
)
CARDIAC_HEAD = CARDIAC.head.model_copy(update={"embedding": 8}) if CARDIAC.head else None
CARDIAC_NETWORKS = {
    "`cardiac-mr`": CARDIAC,
    "`acdc_joint`": CARDIAC.model_copy(update={"head": CARDIAC_HEAD}),
}
"""The head of the first reads the masks alone, that of the second pools features, too."""
LIMIT = 1.25
ROUNDS = 7
CARDIAC_ROUNDS = 3


class Step:
    """A forward pass and the balanced backward pass of a joint network on one study.

    Args:
        network: Both of its tasks learn.
        grid: (K, J, I) of every volume.
        spacing_mm: Along (K, J, I).
        precision: See `JointObjective`.
    """

    def __init__(
        self,
        network: NetworkConfig,
        *,
        grid: tuple[int, int, int],
        spacing_mm: tuple[float, float, float],
        precision: str,
    ) -> None:
        torch.manual_seed(0)
        self.net = JointNet(network)
        self.objective = JointObjective(precision=precision, diagnosis_weight=0.2)
        volumes, classes = len(network.volumes), len(network.segments) + 1
        self.batch = Batch(
            images=[torch.randn(1, 1, *grid) for _ in range(volumes)],
            labels=[torch.randint(0, classes, (1, *grid)) for _ in range(volumes)],
            is_annotated=torch.ones(1, volumes, classes - 1, dtype=torch.bool),
            findings=torch.ones(1, len(network.findings)),
            covariates={name: torch.tensor([70.0]) for name in COVARIATES},
            spacing_mm=torch.tensor([[spacing_mm] * volumes]),
            case_ids=("made",),
            sizes=((grid,),) * volumes,
        )

    def _again(self) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(self.objective(self.net, self.batch).by_task)

    def seconds(self, balancer: Balancer, *, at_encoder: bool = False) -> float:
        objective = replace(self.objective, meets_at_encoder=at_encoder)
        self.net.zero_grad()
        start = time.process_time()
        found = objective(self.net, self.batch)
        balancer.backward(found.by_task, features=found.features)
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
    for place in ("encoder", "weights"):
        found[f"mgda, on {place}"] = {"name": "mgda", "on": place, "report_every": 10**9}
    return found


def measure(step: Step, names: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Ratios to the sum of the same round, by balancer."""
    parse: TypeAdapter[BalancerConfig] = TypeAdapter(BalancerConfig)
    settings = _settings()
    balancers = {
        name: build_balancer(parse.validate_python(settings[name]), TASKS) for name in names
    }
    ratios: dict[str, list[float]] = {name: [] for name in balancers}
    for balancer in balancers.values():
        step.seconds(balancer)  # the first step reports and checks
    for _ in range(rounds):
        seconds = {
            name: step.seconds(balancer, at_encoder=name.endswith("on encoder"))
            for name, balancer in balancers.items()
        }
        # The sum at both ends of the round: what drifts during it falls out.
        plain = (seconds["sum"] + step.seconds(balancers["sum"])) / 2
        for name, own in seconds.items():
            ratios[name].append(own / plain)
    return ratios


def _row(network: str, name: str, ratios: list[float]) -> Row:
    median = statistics.median(ratios)
    what = f"{network}, step time relative to the sum: {name}"
    text = f"{median:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    if not name.endswith("on features"):
        return Row(what, text)
    return Row(what, text, f"<= {LIMIT}", median <= LIMIT)


def _rows(is_quick: bool) -> list[Row]:
    """Every balancer on the small network; those with a limit on that of `cardiac-mr`, too."""
    limited = [name for name in _settings() if name.endswith(("on features", "on encoder"))]
    limited = ["sum", "famo", *limited]
    small = Step(SMALL, grid=(8, 64, 64), spacing_mm=(3.0, 1.5, 1.5), precision="float32")
    plan = [("small network", small, list(_settings()), ROUNDS)]
    plan += [
        (
            name,
            Step(network, grid=(8, 96, 96), spacing_mm=(8.0, 1.25, 1.25), precision="bfloat16"),
            limited,
            CARDIAC_ROUNDS,
        )
        for name, network in CARDIAC_NETWORKS.items()
    ]
    return [
        _row(network, name, ratios)
        for network, step, chosen, rounds in plan
        for name, ratios in measure(step, chosen, 1 if is_quick else rounds).items()
    ]


def main() -> None:
    """Every balancer for two tasks; `--quick` takes one round."""
    arguments = options(__doc__ or "")
    torch.set_num_threads(1)
    finish("balancers", _rows(arguments.quick), arguments)


if __name__ == "__main__":
    main()
