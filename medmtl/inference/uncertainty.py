"""How far the answer to a case would have been another one: test-time augmentation, ensembles.

Members are further answers to the same input, from views of it or from other weights. They never
change the answer of the case, so calibration, thresholds and prediction sets keep their meaning.
Test-time augmentation after Wang et al. 2019 (doi 10.1016/j.neucom.2019.01.103), ensembles after
Lakshminarayanan et al. 2017 (arXiv:1612.01474).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from medmtl.inference.uncertainty_views import VIEWS, apply_view, undo_view

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from medmtl.inference.bundle_settings import BundleSettings
    from medmtl.inference.joint_pass import JointPass
    from medmtl.inference.uncertainty_views import View
    from medmtl.networks.joint import JointNet
    from medmtl.transforms.preprocessing import NetworkInput

__all__ = [
    "METHODS",
    "Member",
    "ensemble_members",
    "gather_members",
    "member_of",
    "view_members",
]

METHODS = ("none", "tta", "ensemble")


class Pass(Protocol):
    """One pass of a network over inputs."""

    def __call__(self, net: JointNet, inputs: Sequence[NetworkInput], /) -> JointPass:
        """Masks and raw answers."""


@dataclass(frozen=True, eq=False)
class Member:
    """One answer to a case.

    Attributes:
        name: For the record.
        labels: One class map (K, J, I) per volume on the network grid without its padding.
        finding_logits: (F,), or None where the diagnosis is off.
    """

    name: str
    labels: tuple[NDArray[np.int16], ...]
    finding_logits: tuple[float, ...] | None


def member_of(name: str, answer: JointPass, inputs: Sequence[NetworkInput]) -> Member:
    """What is kept of one pass whose logits lie on the grids of the inputs."""
    labels = tuple(
        _labels(logits, prepared) for logits, prepared in zip(answer.logits, inputs, strict=True)
    )
    logits = answer.finding_logits
    return Member(name, labels, None if logits is None else tuple(logits.tolist()))


def view_members(
    net: JointNet, inputs: Sequence[NetworkInput], *, run: Pass, views: Sequence[View] = VIEWS
) -> Iterator[Member]:
    """The answers to views of the inputs, each turned back to the grid of the inputs."""
    for view in views:
        answer = run(net, [replace(one, array_kji=_view(one, view)) for one in inputs])
        back = [
            undo_view(logits.float(), view, spacing_mm=_in_plane(prepared))
            for logits, prepared in zip(answer.logits, inputs, strict=True)
        ]
        yield member_of(view.name, replace(answer, logits=back), inputs)


def ensemble_members(
    nets: Sequence[JointNet], inputs: Sequence[NetworkInput], *, names: Sequence[str], run: Pass
) -> Iterator[Member]:
    """The answers of further networks to the same inputs."""
    for name, net in zip(names, nets, strict=True):
        yield member_of(name, run(net, inputs), inputs)


def gather_members(
    method: str,
    nets: Sequence[JointNet],
    inputs: Sequence[NetworkInput],
    *,
    answer: JointPass,
    settings: BundleSettings,
    run: Pass,
) -> list[Member]:
    """The answer itself, then those it is compared with.

    Args:
        method: "tta" or "ensemble".
        nets: The network that answered, then the further ones of an ensemble.
        inputs: What it answered to.
        answer: Its answer.
        settings: Of the bundle.
        run: The pass that answered.
    """
    own = member_of("answer", answer, inputs)
    if method == "tta":
        return [own, *view_members(nets[0], inputs, run=run)]
    return [own, *ensemble_members(nets[1:], inputs, names=settings.ensemble or (), run=run)]


def _labels(logits_ckji: torch.Tensor, prepared: NetworkInput) -> NDArray[np.int16]:
    i, j, k = prepared.content_geometry.shape
    classes = logits_ckji[:, :k, :j, :i].argmax(dim=0)
    return np.asarray(classes.to(torch.int16).cpu().numpy())


def _view(prepared: NetworkInput, view: View) -> NDArray[np.float32]:
    image = torch.from_numpy(prepared.array_kji)
    seen = apply_view(image, view, spacing_mm=_in_plane(prepared))
    return np.ascontiguousarray(seen.numpy(), dtype=np.float32)


def _in_plane(prepared: NetworkInput) -> tuple[float, float]:
    """Spacing along (J, I)."""
    i, j, _ = prepared.geometry.spacing_mm
    return j, i
