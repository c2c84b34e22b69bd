"""Gradients of several losses where the tasks meet, and plain gradients of what each task owns.

The losses meet in *points*: either feature maps, with the encoder below them, or the shared
parameters themselves. A *row* is the gradient of one loss with respect to all points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medmtl.balancing.memory_order import flat_column
from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch.autograd.graph import Node

__all__ = ["Row", "add_gradients", "check_independent", "parameters_below", "task_rows"]

Row = list[Tensor | None]
"""One gradient per point; None is zero everywhere."""

_LARGEST_PART = 4.0
"""In half precision a difference holds, to some percent, what is no smaller than a quarter of what
was taken away; float32 has digits to spare."""


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
    return (_one_by_one if is_disjoint else _by_difference)(losses, points, own)


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
    """All rows but one, then a full pass of the sum; what is left is the row of the largest loss.

    Where one task reads the output of another (a diagnosis that measures the masks), the weights in
    between need the gradient of the sum only. A pass without gradients of weights costs half.
    """
    left = max(range(len(losses)), key=lambda n: losses[n].item())
    rows: dict[int, Row] = {
        number: _gradients(loss, points, retain_graph=True)
        for number, loss in enumerate(losses)
        if number != left
    }
    leaves = list({id(leaf): leaf for leaves in own for leaf in leaves}.values())
    is_half = any(point.dtype in {torch.float16, torch.bfloat16} for point in points)
    total = torch.stack(list(losses)).sum()
    gradients = _gradients(total, [*points, *leaves], retain_graph=is_half)
    add_gradients(leaves, gradients[len(points) :])
    rest = gradients[: len(points)]
    for row in rows.values():
        rest = [_minus(all_of_it, part) for all_of_it, part in zip(rest, row, strict=True)]
    if is_half and any(_norm(row) > _LARGEST_PART * _norm(rest) for row in rows.values()):
        rest = _gradients(losses[left], points, retain_graph=False)
    rows[left] = rest
    return [rows[number] for number in range(len(losses))]


def _norm(row: Row) -> float:
    """Over all points, in float32."""
    vectors = [flat_column([gradient])[0] for gradient in row if gradient is not None]
    norms = [torch.linalg.vector_norm(x, dtype=torch.float32) for x in vectors if x is not None]
    return torch.linalg.vector_norm(torch.stack(norms)).item() if norms else 0.0


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
