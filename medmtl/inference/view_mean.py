"""The mean answer of a network to an image and to further views of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from medmtl.inference.operating_point import Mirror
from medmtl.inference.uncertainty_views import View, apply_view, undo_view

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from medmtl.inference.joint_pass import JointPass
    from medmtl.transforms.preprocessing import NetworkInput

__all__ = ["mean_over_views"]

_AXES = {"k": -3, "j": -2, "i": -1}


def mean_over_views(
    first: JointPass,
    inputs: Sequence[NetworkInput],
    views: Sequence[View | Mirror],
    *,
    run: Callable[[Sequence[NetworkInput]], JointPass],
) -> JointPass:
    """The mean answer to the image and to views of it, each turned back to the image's grid.

    Activation maps and contributions stay those of the image itself.

    Args:
        first: The answer to the image.
        inputs: The image.
        views: Further views.
        run: One pass without activation maps.
    """
    answers = [first]
    for view in views:
        answer = run([replace(one, array_kji=_seen(one, view)) for one in inputs])
        back = [
            _turned_back(one, prepared, view)
            for one, prepared in zip(answer.logits, inputs, strict=True)
        ]
        answers.append(replace(answer, logits=back))
    logits = zip(*(answer.logits for answer in answers), strict=True)
    findings = [a.finding_logits for a in answers if a.finding_logits is not None]
    return replace(
        first,
        logits=[torch.stack(of_one).mean(dim=0) for of_one in logits],
        finding_logits=torch.stack(findings).mean(dim=0) if findings else None,
        measurements=torch.stack([a.measurements for a in answers]).nanmean(dim=0),
    )


def _seen(prepared: NetworkInput, view: View | Mirror) -> np.ndarray:
    image = torch.from_numpy(prepared.array_kji)
    if isinstance(view, Mirror):
        seen = image.flip(_AXES[view.axis])
    else:
        seen = apply_view(image, view, spacing_mm=_in_plane(prepared))
    return np.ascontiguousarray(seen.numpy(), dtype=np.float32)


def _turned_back(logits_ckji: Tensor, prepared: NetworkInput, view: View | Mirror) -> Tensor:
    if isinstance(view, Mirror):
        return logits_ckji.flip(_AXES[view.axis])
    return undo_view(logits_ckji.float(), view, spacing_mm=_in_plane(prepared))


def _in_plane(prepared: NetworkInput) -> tuple[float, float]:
    """Spacing along (J, I)."""
    i, j, _ = prepared.geometry.spacing_mm
    return j, i
