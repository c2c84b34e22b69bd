"""Studies on the network grid and batches of them, with what is unknown said for every label.

Tensors: B batch, V volume of the study, S segment, F finding, K J I voxel axes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from math import ceil, isnan
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from medmtl.networks.joint import COVARIATES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "IGNORED",
    "TASKS",
    "Batch",
    "LabelState",
    "LabelStates",
    "Sample",
    "Samples",
    "Task",
    "collate",
    "label_states",
    "only_task",
]

Task: TypeAlias = Literal["segmentation", "diagnosis"]
TASKS: tuple[Task, ...] = ("segmentation", "diagnosis")

IGNORED = -1
"""Label of a voxel of which nothing is known."""


class LabelState(Enum):
    """What is known of one label of one case; unknown is not absent."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False)
class Sample:
    """One study on the network grid.

    Attributes:
        case_id: Of the manifest.
        dataset: Name of the manifest.
        images: V of (K, J, I), float16 or float32, in the order of `NetworkConfig.volumes`.
        labels: V of (K, J, I) uint8, 1..S by position in `NetworkConfig.segments`, 0 for
            background and for segments that were not looked for; None where there is no mask.
        is_annotated: (V, S) bool, whether the segment was looked for in that volume; all False
            where `labels` is None.
        findings: (F,) 1, 0, or NaN for unknown.
        covariates: (1,) each of `networks.joint.COVARIATES`, NaN where unknown.
        spacing_mm: (V, 3) along (K, J, I).
    """

    case_id: str
    dataset: str
    images: tuple[Tensor, ...]
    labels: tuple[Tensor | None, ...]
    is_annotated: Tensor
    findings: Tensor
    covariates: dict[str, Tensor]
    spacing_mm: Tensor


class Samples(Protocol):
    """A `StudyDataset`, or samples in memory."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __getitem__(self, index: int, /) -> Sample:
        """One of them."""
        ...


@dataclass(frozen=True, eq=False)
class Batch:
    """B studies padded to one grid per volume.

    Attributes:
        images: V of (B, 1, K, J, I) float32; padded with the smallest value of the image.
        labels: V of (B, K, J, I) int64; IGNORED where padded and where there is no mask.
        is_annotated: (B, V, S) bool.
        findings: (B, F), NaN where unknown.
        covariates: (B,) each, NaN where unknown.
        spacing_mm: (B, V, 3) along (K, J, I).
        case_ids: B of the manifests.
        sizes: V of B grids (K, J, I) before the padding.
    """

    images: list[Tensor]
    labels: list[Tensor]
    is_annotated: Tensor
    findings: Tensor
    covariates: dict[str, Tensor]
    spacing_mm: Tensor
    case_ids: tuple[str, ...]
    sizes: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of which this batch knows anything at all."""
        is_known = (bool(self.is_annotated.any()), bool((~self.findings.isnan()).any()))
        return tuple(task for task, known in zip(TASKS, is_known, strict=True) if known)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device; copies from pinned memory do not wait."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory; torch's DataLoader calls this by name."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(
            [change(image) for image in self.images],
            [change(labels) for labels in self.labels],
            change(self.is_annotated),
            change(self.findings),
            {name: change(values) for name, values in self.covariates.items()},
            change(self.spacing_mm),
            self.case_ids,
            self.sizes,
        )


@dataclass(frozen=True)
class LabelStates:
    """The label states of one case.

    Attributes:
        segments: V rows of S states, one per volume and segment.
        findings: F states.
    """

    segments: tuple[tuple[LabelState, ...], ...]
    findings: tuple[LabelState, ...]

    def knows(self, task: Task) -> bool:
        """Whether the case teaches the task anything."""
        states = self.findings if task == "diagnosis" else [s for row in self.segments for s in row]
        return any(state is not LabelState.UNKNOWN for state in states)


def label_states(sample: Sample) -> LabelStates:
    """What is known of every segment in every volume and of every finding."""
    rows = []
    for labels, row in zip(sample.labels, sample.is_annotated.tolist(), strict=True):
        found = set() if labels is None else set(np.unique(labels.numpy()).tolist())
        rows.append(tuple(_state(known, label in found) for label, known in enumerate(row, 1)))
    findings = tuple(_state(not isnan(value), value > 0.5) for value in sample.findings.tolist())
    return LabelStates(tuple(rows), findings)


def _state(is_known: bool, is_present: bool) -> LabelState:
    if not is_known:
        return LabelState.UNKNOWN
    return LabelState.PRESENT if is_present else LabelState.ABSENT


def only_task(sample: Sample, task: Task) -> Sample:
    """The sample with everything unknown that teaches another task."""
    if task == "segmentation":
        return replace(sample, findings=torch.full_like(sample.findings, torch.nan))
    return replace(
        sample,
        labels=(None,) * len(sample.labels),
        is_annotated=torch.zeros_like(sample.is_annotated),
    )


def collate(samples: Sequence[Sample], *, divisor: Sequence[int]) -> Batch:
    """Pad samples at the end of each axis to one grid per volume and stack them.

    Args:
        samples: At least one; all with the same volumes, segments and findings.
        divisor: The grid (K, J, I) of the batch is a multiple of this, as `JointNet.divisor`.

    Raises:
        ValueError: If there is no sample, or a label map is not on the grid of its image.
    """
    if not samples:
        raise ValueError("Expected at least one sample. Found none.")
    images, labels, sizes = [], [], []
    for volume in range(len(samples[0].images)):
        shapes = tuple(tuple(sample.images[volume].shape) for sample in samples)
        sizes.append(shapes)
        grid = tuple(
            ceil(max(sizes) / step) * step
            for sizes, step in zip(zip(*shapes, strict=True), divisor, strict=True)
        )
        images.append(torch.stack([_padded_image(s.images[volume], grid) for s in samples]))
        labels.append(torch.stack([_padded_labels(s, volume, grid) for s in samples]))
    return Batch(
        images,
        labels,
        torch.stack([sample.is_annotated for sample in samples]),
        torch.stack([sample.findings for sample in samples]),
        {name: torch.cat([sample.covariates[name] for sample in samples]) for name in COVARIATES},
        torch.stack([sample.spacing_mm for sample in samples]),
        tuple(sample.case_id for sample in samples),
        tuple(sizes),
    )


def _padded_image(image_kji: Tensor, grid: Sequence[int]) -> Tensor:
    """(1, K, J, I) float32."""
    image = image_kji.float()
    return nn.functional.pad(image, _end(image, grid), value=float(image.min()))[None]


def _padded_labels(sample: Sample, volume: int, grid: Sequence[int]) -> Tensor:
    """(K, J, I) int64."""
    labels, image = sample.labels[volume], sample.images[volume]
    if labels is None:
        return torch.full(tuple(grid), IGNORED, dtype=torch.long)
    if labels.shape != image.shape:
        message = f"case {sample.case_id}: labels {tuple(labels.shape)}, image {tuple(image.shape)}"
        raise ValueError(f"{message}; expected one grid.")
    return nn.functional.pad(labels.long(), _end(labels, grid), value=IGNORED)


def _end(tensor: Tensor, grid: Sequence[int]) -> list[int]:
    """Padding at the end of each axis, last axis first as torch takes it."""
    sizes = zip(reversed(grid), reversed(tensor.shape), strict=True)
    return [amount for size, old in sizes for amount in (0, size - old)]
