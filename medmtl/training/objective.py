"""The losses of both tasks on one batch, from one forward pass; unknown labels give no gradient.

Tensors: B batch, V volume of the study, C class (background first), S segment, K J I voxel axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn

from medmtl.inference import joint_pass
from medmtl.losses.diagnosis import known_binary_cross_entropy
from medmtl.losses.distil import distillation
from medmtl.losses.partial import marginal_dice_cross_entropy
from medmtl.losses.segmentation import IGNORED
from medmtl.training.step import TaskLosses

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medmtl.data.samples import Batch
    from medmtl.networks.joint import JointNet, JointOutput

__all__ = ["PRECISIONS", "JointObjective", "StudyObjective", "freeze_batch_norm"]

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""Of the forward pass, by name."""


class StudyObjective(Protocol):
    """Losses of a network, and its answer to whole studies."""

    def __call__(self, model: nn.Module, batch: Batch, /) -> TaskLosses:
        """Losses of the tasks of which the batch knows anything."""
        ...

    def forward(self, model: nn.Module, batch: Batch, /) -> JointOutput:
        """What the network says of whole studies."""
        ...

    def answer(self, net: JointNet, batch: Batch, /) -> JointOutput:
        """The same of one study, which may be large."""
        ...

    def losses(self, output: JointOutput, batch: Batch, /) -> dict[str, Tensor]:
        """Losses of an answer."""
        ...


@dataclass(frozen=True)
class JointObjective:
    """Segmentation and diagnosis loss of a `JointNet`.

    Attributes:
        precision: One of PRECISIONS.
        class_weights: (C,) weights of the cross entropy, background first; () for none.
        diagnosis_weight: Factor of the diagnosis loss.
        covariate_dropout: Share of studies whose covariates are made unknown, so that the
            diagnosis also works without.
        channels_last: Whether images lie channels last in memory.
        sharing_weight: Of the distance of two tied encoders.
        meets_at_encoder: Whether balancers get the encoder's levels, not where the tasks part.
        teacher: Whose masks are to be kept where a volume has no labels, or none of a segment, in
            evaluation mode; None keeps none.
        distil_weight: Factor of that loss.
    """

    precision: str = "float32"
    class_weights: tuple[float, ...] = ()
    diagnosis_weight: float = 1.0
    covariate_dropout: float = 0.0
    channels_last: bool = False
    sharing_weight: float = 0.0
    meets_at_encoder: bool = False
    teacher: JointNet | None = None
    distil_weight: float = 1.0

    def __call__(self, model: nn.Module, batch: Batch) -> TaskLosses:
        """Losses of the tasks of which the batch knows anything."""
        output = self.forward(model, batch)
        distance = cast("JointNet", model).sharing_penalty() if self.sharing_weight else None
        penalty = None if distance is None else self.sharing_weight * distance
        features = output.encoded if self.meets_at_encoder else output.features
        return TaskLosses(self.losses(output, batch), features, penalty)

    def losses(self, output: JointOutput, batch: Batch) -> dict[str, Tensor]:
        """Loss of each task of which the batch knows anything."""
        losses = {}
        if (segmentation := self.segmentation(output, batch)) is not None:
            losses["segmentation"] = segmentation
        if output.finding_logits is not None and bool((~batch.findings.isnan()).any()):
            diagnosis = known_binary_cross_entropy(output.finding_logits, batch.findings)
            losses["diagnosis"] = self.diagnosis_weight * diagnosis
        return losses

    def forward(self, model: nn.Module, batch: Batch) -> JointOutput:
        """One pass in the precision of the run."""
        images = batch.images
        if self.channels_last:
            images = [x.contiguous(memory_format=torch.channels_last_3d) for x in images]
        with self.autocast(images[0].device):
            output: JointOutput = model(
                images,
                spacing_mm=batch.spacing_mm,
                covariates=self.covariates(model, batch),
                sizes=batch.sizes,
            )
        return output

    def answer(self, net: JointNet, batch: Batch) -> JointOutput:
        """What the network says of one whole study, tile by tile where a volume is too large."""
        if max(image.numel() for image in batch.images) <= joint_pass.MAX_WHOLE_VOXELS:
            return self.forward(net, batch)
        return joint_pass.large_study_output(
            net,
            batch.images,
            spacing_mm=batch.spacing_mm,
            covariates=batch.covariates,
            device=batch.spacing_mm.device,
        )

    def autocast(self, device: torch.device) -> torch.autocast:
        """The precision of the run."""
        dtype = PRECISIONS[self.precision]
        return torch.autocast(device.type, dtype, enabled=dtype is not torch.float32)

    def covariates(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Those of the batch, some of them made unknown while the model learns."""
        if not (model.training and self.covariate_dropout):
            return batch.covariates
        is_kept = torch.rand(batch.findings.shape[0]) >= self.covariate_dropout
        is_kept = is_kept.to(batch.findings.device)
        return {
            name: torch.where(is_kept, values, torch.nan)
            for name, values in batch.covariates.items()
        }

    def segmentation(self, output: JointOutput, batch: Batch) -> Tensor | None:
        """Mean over the volumes of which anything is known; None where there is none."""
        deep = output.deep_logits or [[] for _ in output.segmentation_logits]
        known = [
            torch.stack(losses).sum()
            for number, (logits, coarser) in enumerate(
                zip(output.segmentation_logits, deep, strict=True)
            )
            if (losses := [*self._masks([logits, *coarser], batch, number)])
        ]
        return torch.stack(known).mean() if known else None

    def _masks(self, levels: Sequence[Tensor], batch: Batch, number: int) -> Iterator[Tensor]:
        """Losses of one volume: of what its labels say, and of what only the teacher does."""
        labels, is_annotated = batch.labels[number], batch.is_annotated[:, number]
        if (own := self._volume(levels, labels, is_annotated)) is not None:
            yield own
        is_open = ~is_annotated | (labels == IGNORED).flatten(1).all(dim=1, keepdim=True)
        if self.teacher is not None and bool(is_open.any()):
            with torch.no_grad():
                wanted = self.teacher.decode(self.teacher.encode(batch.images[number]))
            yield self.distil_weight * distillation(levels[0], wanted, is_open)

    def _volume(
        self, levels: Sequence[Tensor], labels: Tensor, is_annotated: Tensor
    ) -> Tensor | None:
        """Of one volume at every level; each coarser one counts half (nnU-Net)."""
        weights = None
        if self.class_weights:
            weights = torch.tensor(self.class_weights, device=labels.device)
        total, share = None, 0.0
        for number, logits in enumerate(levels):
            loss = marginal_dice_cross_entropy(
                logits, _on_grid(labels, logits), is_annotated, class_weights=weights
            )
            if loss is not None:
                total = loss * 0.5**number + (0.0 if total is None else total)
                share += 0.5**number
        return None if total is None else total / share


def _on_grid(labels: Tensor, logits: Tensor) -> Tensor:
    """Labels (B, K, J, I) on the grid of the logits, nearest."""
    grid = logits.shape[2:]
    if labels.shape[1:] == grid:
        return labels
    resized = nn.functional.interpolate(labels[:, None].float(), size=grid, mode="nearest")
    return resized[:, 0].long()


def freeze_batch_norm(model: nn.Module) -> None:
    """Keep the statistics of batch normalisation as they are, until `model.train()`."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
