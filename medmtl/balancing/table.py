"""Every balancer by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.balancing.gradient_balancer import GradientBalancer
from medmtl.balancing.gradient_table import METHODS, MIN_TASKS
from medmtl.balancing.gradnorm import GradNorm
from medmtl.balancing.loss_balancer import LossBalancer
from medmtl.balancing.loss_table import SCALARIZERS
from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from medmtl.balancing.balancer import Balancer
    from medmtl.balancing.configs import BalancerConfig

__all__ = ["BALANCERS", "build_balancer"]

_BY_TASK = ("weights", "reference", "min_losses", "leak")
"""Settings whose keys are tasks."""


def _loss_balancer(config: Any, tasks: tuple[str, ...]) -> Balancer:
    scalarizer = SCALARIZERS[config.name](config, tasks)
    return LossBalancer(config.name, tasks, scalarizer, report_every=config.report_every)


def _gradient_balancer(config: Any, tasks: tuple[str, ...]) -> Balancer:
    method = METHODS[config.name](config)
    return GradientBalancer(
        config.name, tasks, method, on=config.place, report_every=config.report_every
    )


def _gradnorm(config: Any, tasks: tuple[str, ...]) -> Balancer:
    return GradNorm(
        tasks,
        alpha=config.alpha,
        lr=config.lr,
        initial_batches=config.initial_batches,
        on=config.place,
        report_every=config.report_every,
    )


BALANCERS: Mapping[str, Callable[[Any, tuple[str, ...]], Balancer]] = {
    **dict.fromkeys(SCALARIZERS, _loss_balancer),
    **dict.fromkeys(METHODS, _gradient_balancer),
    "gradnorm": _gradnorm,
}
"""Name to a function of the settings and of all tasks in their order."""


def build_balancer(config: BalancerConfig, tasks: tuple[str, ...]) -> Balancer:
    """The balancer of a run.

    Args:
        config: Its settings.
        tasks: Names of all tasks, in the order of reports.

    Raises:
        ConfigError: If a setting names no task, or the method needs more tasks.
    """
    if problems := [*_unknown_tasks(config, tasks), *_too_few(config, tasks)]:
        raise ConfigError(f"balancer {config.name}: {'; '.join(problems)}")
    return BALANCERS[config.name](config, tasks)


def _unknown_tasks(config: BalancerConfig, tasks: tuple[str, ...]) -> list[str]:
    named = {key: tuple(getattr(config, key)) for key in _BY_TASK if hasattr(config, key)}
    primary = getattr(config, "primary", None)
    named["primary"] = (primary,) if primary else ()
    return [
        f"{key} names {task!r}, expected one of {list(tasks)}"
        for key, names in named.items()
        for task in names
        if task not in tasks
    ]


def _too_few(config: BalancerConfig, tasks: tuple[str, ...]) -> list[str]:
    needed = MIN_TASKS[config.name](config) if config.name in MIN_TASKS else 1
    few = [f"found {len(tasks)} tasks, expected at least {needed}"] if len(tasks) < needed else []
    odd = [f"task {task!r} must not contain '+' or ':'" for task in tasks if set(task) & set("+:")]
    return few + odd
