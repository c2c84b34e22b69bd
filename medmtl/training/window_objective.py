"""The losses of both tasks on an imported network, which sees patches of its own size only.

An instance norm answers a whole volume otherwise than a patch, so nothing is shown whole. The masks
learn on random patches, as nnU-Net trains. The diagnosis learns on what prediction will read: the
features of all patches that cover the study, pooled inside its masks; gradients go into every patch
(see `inference.windows`). The masks themselves learn nothing from the diagnosis.

Tensors: B batch, P patch, V volume of the study, K J I voxel axes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

from medmtl.data.samples import IGNORED
from medmtl.inference.plans_window import padded
from medmtl.inference.windows import measured_masks, pooled_sums
from medmtl.networks.joint import JointOutput
from medmtl.training.patches import crop, on_foreground
from medmtl.training.step import TaskLosses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medmtl.data.samples import Batch
    from medmtl.inference.routes import ImportedRoute
    from medmtl.inference.windows import WindowedVolume
    from medmtl.networks.joint import JointNet
    from medmtl.training.objective import JointObjective

__all__ = ["FOREGROUND", "WindowObjective", "draw_patch"]

FOREGROUND = 1 / 3
"""Share of the patches that are centred on a segment (Isensee et al., Nature Methods 18, 2021)."""

_Findings = tuple["Tensor | None", "Tensor", "Tensor"]


@dataclass(frozen=True)
class WindowObjective:
    """Segmentation loss of random patches, diagnosis loss of the whole study.

    Attributes:
        base: The losses.
        route: How the network goes over a volume.
        patches: Of every volume in a step.
    """

    base: JointObjective
    route: ImportedRoute
    patches: int

    def __call__(self, model: nn.Module, batch: Batch) -> TaskLosses:
        """Losses of the tasks of which the batch knows anything.

        They meet in no feature map, so there are none for balancers.
        """
        net = cast("JointNet", model)
        cut = self._cut(batch)
        with self.base.autocast(batch.spacing_mm.device):
            decoded = [net.decode_deep(net.encode(image)) for image in cut.images]
        logits = None
        if bool((~batch.findings.isnan()).any()):
            studies = self._windowed(net, batch, mirrors=False)
            logits = self._diagnose(net, batch, studies, learns=True)[0]
        output = JointOutput(
            [one for one, _ in decoded],
            logits,
            batch.spacing_mm.new_zeros(0),
            batch.spacing_mm.new_zeros(0),
            deep_logits=[deep for _, deep in decoded],
        )
        return TaskLosses(self.losses(output, cut))

    def losses(self, output: JointOutput, batch: Batch) -> dict[str, Tensor]:
        """See `JointObjective`."""
        return self.base.losses(output, batch)

    def forward(self, model: nn.Module, batch: Batch) -> JointOutput:
        """Whole studies, to the number as the bundle will answer."""
        net = cast("JointNet", model)
        with torch.no_grad():
            studies = self._windowed(net, batch, mirrors=True)
            findings = self._diagnose(net, batch, studies, learns=False)
        logits = []
        for number, image in enumerate(batch.images):
            whole = image.new_zeros(
                len(image), len(studies[0][number].logits_ckji), *image.shape[2:]
            )
            for out, study in zip(whole, studies, strict=True):
                k, j, i = (slice(n) for n in study[number].image_kji.shape)
                out[:, k, j, i] = study[number].logits_ckji
            logits.append(whole)
        return JointOutput(logits, *findings)

    def answer(self, net: JointNet, batch: Batch) -> JointOutput:
        """A patch is never too large."""
        return self.forward(net, batch)

    def _windowed(
        self, net: JointNet, batch: Batch, *, mirrors: bool
    ) -> list[list[WindowedVolume]]:
        """The volumes of every study with their masks of now; one view is enough to learn from."""
        studies: list[list[WindowedVolume]] = [[] for _ in batch.images[0]]
        for number, images in enumerate(batch.images):
            for study, found in enumerate(studies):
                k, j, i = (slice(size) for size in batch.sizes[number][study])
                mm = batch.spacing_mm[study, number].tolist()
                image = images[study, 0, k, j, i]
                found.append(self.route.windowed(net, image, mm, mirrors=mirrors))
        return studies

    def _diagnose(
        self,
        net: JointNet,
        batch: Batch,
        studies: Sequence[Sequence[WindowedVolume]],
        *,
        learns: bool,
    ) -> _Findings:
        """Finding logits (B, F), measurements (B, M) and empty organs (B, V, S)."""
        device, facts = batch.spacing_mm.device, self.base.covariates(net, batch)
        answers = []
        for number, volumes in enumerate(studies):
            with self.base.autocast(device):
                pooled = [pooled_sums(net, one, device, learns=learns) for one in volumes]
            answers.append(
                net.diagnose(
                    pooled,
                    [measured_masks(net, one, device) for one in volumes],
                    spacing_mm=batch.spacing_mm[number : number + 1],
                    covariates={n: values[number : number + 1] for n, values in facts.items()},
                )
            )
        known = [logits for logits, _, _ in answers if logits is not None]
        _, measurements, is_empty = zip(*answers, strict=True)
        return torch.cat(known) if known else None, torch.cat(measurements), torch.cat(is_empty)

    def _cut(self, batch: Batch) -> Batch:
        """B * P patches of every volume; the findings stay those of the B studies."""
        rng = np.random.default_rng(int(torch.randint(2**31, ())))  # seeded for every step
        images, labels = [], []
        for number, (image, mask) in enumerate(zip(batch.images, batch.labels, strict=True)):
            found = []
            for study, size in enumerate(batch.sizes[number]):
                k, j, i = (slice(n) for n in size)
                whole = image[study, 0, k, j, i], mask[study, k, j, i]
                found += [
                    draw_patch(*whole, self.route.patch_kji, rng) for _ in range(self.patches)
                ]
            images.append(torch.stack([one for one, _ in found])[:, None])
            labels.append(torch.stack([one for _, one in found]))
        return replace(
            batch,
            images=images,
            labels=labels,
            is_annotated=batch.is_annotated.repeat_interleave(self.patches, dim=0),
            sizes=tuple((self.route.patch_kji,) * len(image) for image in images),
        )


def draw_patch(
    image_kji: Tensor, labels_kji: Tensor, patch_kji: Sequence[int], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A patch and its labels, a third of them on a segment, the others anywhere.

    A smaller volume is filled with zeros on both sides, as in prediction; nothing is known there.
    """
    image = padded(image_kji[None], patch_kji)[0][0]
    labels = padded(labels_kji[None], patch_kji, value=IGNORED)[0][0]
    k, j, i = rng.random(3).tolist()
    if rng.random() < FOREGROUND and bool((labels > 0).any()):
        k, j, i = on_foreground(labels.cpu(), rng)
    return crop(image, (k, j, i), patch_kji), crop(labels, (k, j, i), patch_kji)
