"""Gradients of several losses where the tasks meet, and plain gradients of what each task owns.

The losses meet in *points*: either feature maps, with the encoder below them, or the shared
parameters themselves. A *row* is the gradient of one loss with respect to all points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch.autograd.graph import Node

__all__ = ["Row", "add_gradients", "check_independent", "parameters_below", "task_rows"]

Row = list[Tensor | None]
"""One gradient per point; None is zero everywhere."""


def parameters_below(roots: Iterable[Tensor], *, stop: Sequence[Tensor] = ()) -> list[Tensor]:
    """Leaves that the roots depend on, in order of their discovery.

    Args:
        roots: Where the search begins.
        stop: Tensors behind which nothing is searched, nor found.
    """
    barred = {point.grad_fn for point in stop} | {None}
    leaves = {id(root): root for root in roots if root.is_leaf and root.requires_grad}
    open_nodes: list[Node | None] = [root.grad_fn for root in roots]
    seen: set[Node | None] = set(barred)
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)  # of AccumulateGrad, the end of every path
        if leaf is not None:
            leaves[id(leaf)] = leaf
        open_nodes += [below for below, _ in node.next_functions]
    for point in stop:
        leaves.pop(id(point), None)
    return list(leaves.values())


def check_independent(points: Sequence[Tensor]) -> None:
    """Refuse feature maps of which one is computed from another.

    Raises:
        ConfigError: If so: what flows through both would be counted twice.
    """
    barred = {point.grad_fn for point in points if point.grad_fn is not None}
    open_nodes = [below for node in barred for below, _ in node.next_functions]
    seen: set[Node | None] = {None}
    while open_nodes:
        node = open_nodes.pop()
        if node in seen or node is None:
            continue
        if node in barred:
            raise ConfigError(
                "A feature map to balance on depends on another one; pass what the tasks read, "
                "each as a view of its own (`feature.view_as(feature)`)."
            )
        seen.add(node)
        open_nodes += [below for below, _ in node.next_functions]


def task_rows(losses: Sequence[Tensor], points: Sequence[Tensor], *, cut: bool) -> list[Row]:
    """The row of each loss; adds to `.grad` the plain gradient of every parameter but the points.

    Args:
        losses: Scalars of one graph.
        points: Independent tensors.
        cut: Whether the search for the tasks' own parameters ends at the points; to be set where
            they are features and what lies below them is shared.
    """
    stop = points if cut else ()
    barred = {id(point) for point in points}
    own = [
        [leaf for leaf in parameters_below([loss], stop=stop) if id(leaf) not in barred]
        for loss in losses
    ]
    count = sum(len(leaves) for leaves in own)
    is_disjoint = len({id(leaf) for leaves in own for leaf in leaves}) == count
    # The difference of two gradients is exact enough in float32, and in nothing smaller.
    is_single = all(point.dtype in {torch.float32, torch.float64} for point in points)
    rows = _one_by_one if is_disjoint or not is_single else _by_difference
    return rows(losses, points, own)


def _one_by_one(
    losses: Sequence[Tensor], points: Sequence[Tensor], own: Sequence[Sequence[Tensor]]
) -> list[Row]:
    """One backward pass per loss."""
    rows = []
    for number, (loss, leaves) in enumerate(zip(losses, own, strict=True)):
        is_last = number == len(losses) - 1
        gradients = _gradients(loss, [*points, *leaves], retain_graph=not is_last)
        rows.append(gradients[: len(points)])
        add_gradients(leaves, gradients[len(points) :])
    return rows


def _by_difference(
    losses: Sequence[Tensor], points: Sequence[Tensor], own: Sequence[Sequence[Tensor]]
) -> list[Row]:
    """All rows but the longest task's, then one full pass of the sum; what is left is its row.

    Where one task reads the output of another (a diagnosis that measures the masks), the weights in
    between need the gradient of the sum only. A pass without gradients of weights costs half.
    """
    longest = max(range(len(losses)), key=lambda n: sum(leaf.numel() for leaf in own[n]))
    rows: dict[int, Row] = {
        number: _gradients(loss, points, retain_graph=True)
        for number, loss in enumerate(losses)
        if number != longest
    }
    leaves = list({id(leaf): leaf for leaves in own for leaf in leaves}.values())
    gradients = _gradients(torch.stack(list(losses)).sum(), [*points, *leaves], retain_graph=False)
    add_gradients(leaves, gradients[len(points) :])
    rest = gradients[: len(points)]
    for row in rows.values():
        rest = [_minus(all_of_it, part) for all_of_it, part in zip(rest, row, strict=True)]
    rows[longest] = rest
    return [rows[number] for number in range(len(losses))]


def _minus(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    if total is None or part is None:
        return total
    return total - part


def _gradients(loss: Tensor, inputs: Sequence[Tensor], *, retain_graph: bool) -> Row:
    if not loss.requires_grad:
        return [None] * len(inputs)
    return list(
        torch.autograd.grad(loss, list(inputs), retain_graph=retain_graph, allow_unused=True)
    )


def add_gradients(leaves: Iterable[Tensor], gradients: Iterable[Tensor | None]) -> None:
    """Add to `.grad`, as `Tensor.backward` does."""
    for leaf, gradient in zip(leaves, gradients, strict=True):
        if gradient is not None:
            gradient = gradient.detach().to(leaf.dtype)  # noqa: PLW2901
            leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient
