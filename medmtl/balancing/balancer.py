"""What a balancer is: it turns the losses of several tasks into one gradient.

Loss balancers choose one weight per task; gradient balancers look at the gradient of each task,
by default that of the shared features, and choose how to add them up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import Tensor, nn

__all__ = ["BalanceReport", "Balancer"]


@dataclass(frozen=True)
class BalanceReport:
    """How one batch was balanced, with the names of the tasks.

    Attributes:
        weights: Factor of each task present: of its loss, or of its gradient where the balancer
            works on gradients. Empty for methods without one factor per task (GradDrop, trimmed
            mean).
        gradient_norms: Norm of each task's gradient where the tasks meet, in units of its loss;
            empty between two measurements and where there is nothing to measure at.
        cosines: Cosine between the gradients of two tasks, keyed "a:b" in the order of the tasks;
            a pair with a zero gradient is left out.
    """

    weights: dict[str, float]
    gradient_norms: dict[str, float] = field(default_factory=dict)
    cosines: dict[str, float] = field(default_factory=dict)


class Balancer(Protocol):
    """Adds the balanced gradient of a batch to `.grad`.

    Several processes: every rank calls `backward` once per micro-batch, also with no loss at all;
    afterwards the trainer averages every `.grad` over the ranks. A task counts as the mean over
    the ranks that have it, and weights and state stay equal on all of them.

    Accumulation: each micro-batch is balanced by itself and adds to `.grad`; pass `scale` divided
    by the number of micro-batches.
    """

    name: str

    def backward(
        self,
        losses: Mapping[str, Tensor],
        *,
        features: Sequence[Tensor] = (),
        shared: Sequence[nn.Parameter] = (),
        scale: float = 1.0,
    ) -> BalanceReport:
        """Add `scale` times the balanced gradient to `.grad` of every parameter reached.

        Args:
            losses: Scalar loss of each task present in this batch, unscaled.
            features: Where the tasks part, `JointOutput.features`: tensors of one graph, none of
                which depends on another.
            shared: Parameters that `features` depend on; found in the graph if not given.
            scale: Loss scale of mixed precision, divided by the number of micro-batches.

        Raises:
            ConfigError: If a loss belongs to no task, or features are needed and missing.
        """
        ...

    def after_step(self, losses: Callable[[], Mapping[str, Tensor]]) -> None:
        """To be called after the optimiser's step; most balancers do nothing.

        Args:
            losses: Gives the losses of the last batch anew, without gradient; FAMO calls it.
        """
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """Weights to be learned with the model, without weight decay; on the CPU."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All memory, for a checkpoint."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        ...
