"""Rows of tasks of which one reads the other's output, in every precision and memory order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medmtl.balancing.gramian import gramian_of
from medmtl.balancing.graph import Row, task_rows
from medmtl.balancing.memory_order import flat_column, unflat

CPU = torch.device("cpu")


class Reader(nn.Module):
    """An encoder, a decoder, and a head that reads what was decoded."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder, self.head = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        features = torch.tanh(self.encoder(x))
        features = features.view_as(features)
        decoded = torch.tanh(self.decoder(features))
        first = (decoded.float() - 1).square().mean()
        return [first, self.head(decoded).float().square().mean()], [features]


def rows_of(factors: tuple[float, float], precision: torch.dtype) -> tuple[list[Tensor], Reader]:
    net = Reader()
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        losses, points = net(x)
    assert points[0].dtype is precision
    scaled = [loss * factor for loss, factor in zip(losses, factors, strict=True)]
    rows = task_rows(scaled, points, cut=True)
    return [row[0].float() for row in rows if row[0] is not None], net


@pytest.mark.parametrize("factors", [(1.0, 1.0), (1e-3, 1.0), (1.0, 1e-3), (1e3, 1.0), (1.0, 1e3)])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_each_row_is_the_gradient_of_its_loss(
    factors: tuple[float, float], precision: torch.dtype
) -> None:
    """However small one is beside the other, though one of them is found as a difference."""
    found, net = rows_of(factors, precision)
    losses, points = Reader()(torch.randn(16, 8, generator=torch.Generator().manual_seed(1)))
    for row, loss, factor in zip(found, losses, factors, strict=True):
        (wanted,) = torch.autograd.grad(loss * factor, points, retain_graph=True)
        error = (row - wanted).norm() / wanted.norm()
        assert error < (1e-4 if precision is torch.float32 else 0.05)
    total = sum((a * b for a, b in zip(losses, factors, strict=True)), torch.zeros(()))
    wanted = torch.autograd.grad(total, points)[0]
    assert net.decoder.weight.grad is not None
    assert net.encoder.weight.grad is None  # gets the balanced one
    assert wanted.shape == found[0].shape


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (0, 2, 3, 4, 1), (2, 0, 1, 3, 4)])
def test_inner_products_do_not_depend_on_the_order_in_memory(order: tuple[int, ...]) -> None:
    back = sorted(range(5), key=order.__getitem__)
    rows = [[torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)] for _ in range(2)]
    wanted = torch.tensor([[float((a[0] * b[0]).sum()) for b in rows] for a in rows])
    laid: list[Row] = [[row[0].permute(order).contiguous().permute(back).float()] for row in rows]
    torch.testing.assert_close(gramian_of(laid, CPU).float(), wanted, rtol=1e-5, atol=1e-4)
    laid[1] = [rows[1][0].float()]  # two rows need not agree
    torch.testing.assert_close(gramian_of(laid, CPU).float(), wanted, rtol=1e-5, atol=1e-4)
    first = laid[0][0]
    assert first is not None
    vectors = [vector for vector in flat_column([first, laid[1][0]]) if vector is not None]
    for vector, row in zip(vectors, rows, strict=True):
        assert torch.equal(unflat(vector, first), row[0].float())


def test_a_long_gradient_is_added_up_piece_by_piece() -> None:
    row = torch.full((2**18 + 7,), 0.5)
    gramian = gramian_of([[row], [None], [-row]], CPU)
    wanted = 0.25 * (2**18 + 7) * torch.tensor([[1.0, 0, -1], [0, 0, 0], [-1, 0, 1]])
    assert torch.equal(gramian, wanted.double())
