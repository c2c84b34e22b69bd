"""The joint network: one shared 3D encoder, a segmentation decoder and a diagnosis head.

Tensors: B batch, V volume of the study, C class (background first), K J I voxel axes, F finding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Protocol, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from medmtl.networks.backbones import (
    Backbone,
    DynUNetConfig,
    SegResNetDSConfig,
    SwinUNETRConfig,
)
from medmtl.networks.diagnosis_head import DiagnosisHead, HeadConfig
from medmtl.networks.gate import largest_piece
from medmtl.networks.measurements import MEASUREMENTS, MeasurementSet, TorsoMeasurements
from medmtl.networks.monai_nets import MonaiNetConfig
from medmtl.networks.nnunet import PlainConvUNetConfig, ResidualEncoderUNetConfig
from medmtl.networks.planar import PlanarDynUNetConfig
from medmtl.networks.pooling import PooledSums, Pooling
from medmtl.networks.slice_context import SliceContext
from medmtl.networks.soft_sharing import Partner, Sharing

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COVARIATES", "BackboneConfig", "Engine", "JointNet", "JointOutput", "NetworkConfig"]

COVARIATES = ("age_years", "sex_male", "height_cm", "weight_kg")
"""Names a head may list; unknown is NaN."""


BackboneConfig = Annotated[
    DynUNetConfig
    | MonaiNetConfig
    | PlainConvUNetConfig
    | PlanarDynUNetConfig
    | ResidualEncoderUNetConfig
    | SegResNetDSConfig
    | SwinUNETRConfig,
    Field(discriminator="name"),
]
"""The shared encoder, selected by name."""


class NetworkConfig(BaseModel):
    """The joint network of a bundle.

    Attributes:
        backbone: The shared encoder and the decoder.
        slice_context: Neighbouring slices on each side that the stem sees as channels.
        in_channels: Images of one volume that an imported network sees together.
        volumes: Names of the volumes of a study, in input order.
        segments: Segment names in label order.
        findings: Finding names in output order; empty switches the diagnosis off.
        has_segmentation: False switches the masks off.
        has_background: False where an imported network has an output for each region and none for
            the background.
        head: The diagnosis head; None switches it off.
        sharing: "hard" is one encoder for both tasks; "soft" and "cross_stitch" are two.
        axes: Which of (K, J, I) the backbone takes as its first, second and third axis: an
            imported one may have learned on another order. All else here is (K, J, I).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: BackboneConfig = Field(default_factory=DynUNetConfig)
    slice_context: int = Field(default=0, ge=0, le=2)
    in_channels: int = Field(default=1, ge=1, le=32)
    volumes: tuple[str, ...] = ("image",)
    segments: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    has_segmentation: bool = True
    has_background: bool = True
    head: HeadConfig | None = None
    sharing: Sharing = "hard"
    axes: tuple[int, int, int] = (0, 1, 2)

    @model_validator(mode="after")
    def _can_share(self) -> NetworkConfig:
        if sorted(self.axes) != [0, 1, 2]:
            raise ValueError(f"axes {self.axes} must hold 0, 1 and 2")
        if self.axes != (0, 1, 2) and self.sharing != "hard":
            raise ValueError("two encoders take the axes as they are: leave axes or sharing out")
        if self.sharing == "cross_stitch" and self.backbone.name == "swin_unetr":
            raise ValueError("sharing cross_stitch needs a convolutional encoder, not swin_unetr.")
        return self


@dataclass(frozen=True, eq=False)
class JointOutput:
    """What one forward pass gives.

    Attributes:
        segmentation_logits: V tensors (B, C, K, J, I); empty where segmentation is off.
        finding_logits: (B, F), or None where diagnosis is off.
        measurements: (B, M) inputs of the diagnosis, NaN where unknown; M may be 0.
        is_empty: (B, V, S), which predicted organs were empty for mask-guided pooling.
        features: Where the tasks part, the last that they share: the logits and what the diagnosis
            pools of the encoder, if it reads the masks; else the encoder's levels. Each is a node
            of its own in the graph: a gradient with respect to one holds nothing of the others, so
            that going on from all of them into what is shared counts nothing twice.
        encoded: The encoder's levels of all volumes, nodes of their own in the same way.
        deep_logits: For each volume the logits of the decoder's coarser levels, while training
            with deep supervision.
    """

    segmentation_logits: list[Tensor]
    finding_logits: Tensor | None
    measurements: Tensor
    is_empty: Tensor
    features: list[Tensor] = field(default_factory=list)
    encoded: list[Tensor] = field(default_factory=list)
    deep_logits: list[list[Tensor]] = field(default_factory=list)


class Engine(Protocol):
    """Another way to run a trained encoder and decoder than torch: the same numbers, faster."""

    def __call__(self, stem_bckji: Tensor, /) -> tuple[list[Tensor], Tensor]:
        """Feature maps in the places of `JointNet.encode`, and segmentation logits.

        A map that no head reads may be empty.
        """
        ...


class JointNet(nn.Module):
    """Masks of every volume and the diagnosis of the study from one shared encoder.

    Attributes:
        engine: What runs encoder and decoder where no gradient of them is needed; None is torch.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.context = SliceContext(config.slice_context)
        module = config.backbone.build(
            in_channels=config.in_channels * (2 * config.slice_context + 1),
            out_channels=len(config.segments) + int(config.has_background),
        )
        self.backbone = module
        is_stitched = config.sharing == "cross_stitch"
        self.partner = (
            None if config.sharing == "hard" else Partner(module, is_stitched=is_stitched)
        )
        self.poolings = nn.ModuleList()
        self.measure: MeasurementSet | None = None
        self.head: DiagnosisHead | None = None
        self.deep_heads = nn.ModuleList()
        self.engine: Engine | None = None
        if config.head is not None and config.findings:
            self._add_head(config.head)

    def add_deep_supervision(self, levels: int) -> None:
        """Give the decoder's next coarser levels an output each, for training only.

        They are no part of a bundle: the names of their weights start with `deep_heads.`.
        """
        channels = cast("Backbone", self.backbone).channels[:-1][1 : levels + 1]
        classes = len(self.config.segments) + 1
        self.deep_heads.extend(nn.Conv3d(channel, classes, 1) for channel in channels)

    def _add_head(self, head: HeadConfig) -> None:
        channels = cast("Backbone", self.backbone).channels
        kinds = head.pooling if self.config.has_segmentation else tuple(
            kind for kind in head.pooling if kind != "mask"
        )  # fmt: skip
        if head.embedding:
            for level in head.levels:
                pooling = Pooling(
                    channels=channels[level], segments=len(self.config.segments), kinds=kinds
                )
                self.poolings.append(pooling)
        if head.measurements is not None:
            self.measure = MEASUREMENTS[head.measurements](self.config.segments)
        width = sum(
            cast("Pooling", pooling).count * channels[level]
            for pooling, level in zip(self.poolings, head.levels, strict=False)
        )
        self.head = DiagnosisHead(
            head,
            pooled=width * len(self.config.volumes),
            measurements=len(self.measure.names) if self.measure else 0,
            findings=len(self.config.findings),
        )

    @property
    def divisor(self) -> tuple[int, int, int]:
        """The grid (K, J, I) must be a multiple of this."""
        own = cast("Backbone", self.backbone).divisor
        k, j, i = (own[self.config.axes.index(axis)] for axis in range(3))
        return k, j, i

    @property
    def measurement_names(self) -> tuple[str, ...]:
        """Names of `JointOutput.measurements`, in order."""
        return self.measure.names if self.measure else ()

    def encode(self, image_bckji: Tensor) -> list[Tensor]:
        """Feature maps of one volume, fine to coarse, as `decode` and `pool` take them.

        With two encoders those of the segmentation, then those of the diagnosis.
        """
        return self.encode_stem(self.context(image_bckji))

    def encode_stem(self, stem_bckji: Tensor) -> list[Tensor]:
        """Feature maps of a tile, cut from what `context` makes of the whole volume."""
        if self.partner is not None:
            return self.partner.encode(self.backbone, stem_bckji)
        features = cast("Backbone", self.backbone).encode(self._turned(stem_bckji))
        return [self._turned_back(feature) for feature in features]

    def _turned(self, x_bckji: Tensor) -> Tensor:
        """With the axes in the backbone's order."""
        if self.config.axes == (0, 1, 2):
            return x_bckji
        return x_bckji.permute(0, 1, *(axis + 2 for axis in self.config.axes))

    def _turned_back(self, x: Tensor) -> Tensor:
        if self.config.axes == (0, 1, 2):
            return x
        return x.permute(0, 1, *(self.config.axes.index(axis) + 2 for axis in range(3)))

    def _levels(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What the segmentation reads of `encode`, and what the diagnosis reads."""
        depth = len(cast("Backbone", self.backbone).channels)
        return features[:depth], features[-depth:]

    def diagnosis_features(self, features: list[Tensor]) -> list[Tensor]:
        """The feature maps of `encode` that the diagnosis pools, fine to coarse."""
        return self._levels(features)[1]

    def sharing_penalty(self) -> Tensor | None:
        """Squared distance of two tied encoders, to be added to the loss with a small weight."""
        if self.partner is None or self.config.sharing != "soft":
            return None
        return self.partner.distance(self.backbone)

    def decode(self, features: list[Tensor]) -> Tensor:
        """Segmentation logits (B, C, K, J, I) of one volume."""
        levels = [self._turned(level) for level in self._levels(features)[0]]
        return self._turned_back(cast("Backbone", self.backbone).decode(levels))

    def encode_and_decode(self, stem_bckji: Tensor) -> tuple[list[Tensor], Tensor]:
        """Feature maps and segmentation logits of what `context` makes of a volume, or of a tile.

        By the engine, where there is one.
        """
        return (self.engine or self.torch_pass)(stem_bckji)

    def torch_pass(self, stem_bckji: Tensor) -> tuple[list[Tensor], Tensor]:
        """What torch itself says; where segmentation is off, the logits are zero."""
        features = self.encode_stem(stem_bckji)
        if self.config.has_segmentation:
            return features, self.decode(features)
        classes = len(self.config.segments) + 1
        return features, features[0].new_zeros(len(stem_bckji), classes, *stem_bckji.shape[2:])

    def decode_deep(self, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Segmentation logits of one volume, and those of the deep heads on their own grids."""
        backbone = cast("Backbone", self.backbone)
        shared = [self._turned(level) for level in self._levels(features)[0]]
        levels = backbone.decode_levels(shared)
        deep = [
            self._turned_back(head(level))
            for head, level in zip(self.deep_heads, levels[1:], strict=False)
        ]
        return self._turned_back(backbone.classify(levels[0])), deep

    def pool(
        self, features: list[Tensor], probabilities: Tensor, weight: Tensor | None = None
    ) -> list[PooledSums]:
        """Additive pooled sums of one tile of one volume, one per pooled level.

        Args:
            features: Of `encode`.
            probabilities: (B, C, K, J, I) of the same tile.
            weight: (K, J, I) importance of the tile's voxels, or (B, 1, K, J, I) of each study's;
                None for one everywhere.
        """
        levels = self.config.head.levels if self.config.head else ()
        sums = []
        for pooling, level in zip(self.poolings, levels, strict=False):
            feature = self.diagnosis_features(features)[level]
            scaled = weight
            if weight is not None:
                k, j, i = feature.shape[2:]
                wide = weight if weight.dim() == 5 else weight[None, None]
                scaled = nn.functional.adaptive_avg_pool3d(wide, (k, j, i))
            sums.append(cast("Pooling", pooling).sums(feature, probabilities, scaled))
        return sums

    def pooled_grid(self, features: list[Tensor]) -> tuple[int, ...] | None:
        """Grid (K', J', I') of the finest features of `encode` that masks are pooled with.

        None where no masks are.
        """
        if not any("mask" in cast("Pooling", pooling).kinds for pooling in self.poolings):
            return None
        read = self.diagnosis_features(features)
        return max(tuple(read[level].shape[2:]) for level in self._pooled_levels)

    @property
    def slab_measure(self) -> TorsoMeasurements | None:
        """The measurements, if they need no more than sums over slabs of the masks."""
        head = self.config.head
        if head is None or head.measure_largest_piece:
            return None
        return self.measure if isinstance(self.measure, TorsoMeasurements) else None

    def diagnose(
        self,
        pooled: Sequence[list[PooledSums]],
        probabilities: list[Tensor],
        *,
        spacing_mm: Tensor,
        covariates: dict[str, Tensor],
        measured: Tensor | None = None,
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Finding logits (B, F), measurements (B, M) and empty organs (B, V, S).

        Args:
            pooled: For each volume the sums of `pool`, added up over its tiles.
            probabilities: V tensors (B, C, K, J, I) of the whole volumes.
            spacing_mm: (B, V, 3) along (K, J, I).
            covariates: (B,) each of COVARIATES, NaN where unknown.
            measured: (B, M), where the masks were measured before; the probabilities are not read.
        """
        batch = spacing_mm.shape[0]
        measurements = spacing_mm.new_zeros(batch, 0)
        vectors, empties = [spacing_mm.new_zeros(batch, 0)], []
        for sums in pooled:
            for pooling, level_sums in zip(self.poolings, sums, strict=True):
                vector, empty = cast("Pooling", pooling).finish(level_sums)
                vectors.append(vector)
            empties.append(empty if sums else spacing_mm.new_zeros(batch, 0, dtype=torch.bool))
        is_empty = torch.stack(empties, dim=1)
        if self.head is None:
            return None, measurements, is_empty
        if measured is not None:
            measurements = measured
        elif self.measure is not None:
            masks = probabilities
            if self.head.config.measure_largest_piece:
                masks = [mask * largest_piece(mask) for mask in masks]
            if self.head.config.detach_measurements:
                masks = [mask.detach() for mask in masks]
            measurements = self.measure(masks, spacing_mm, covariates)
        logits = self.head(torch.cat(vectors, dim=-1), measurements, covariates)
        return logits, measurements, is_empty

    def forward(
        self,
        volumes: Sequence[Tensor],
        *,
        spacing_mm: Tensor,
        covariates: dict[str, Tensor],
        sizes: Sequence[Sequence[Sequence[int]]] | None = None,
    ) -> JointOutput:
        """Masks and diagnosis of a batch of studies in one pass.

        Args:
            volumes: V tensors (B, 1, K, J, I), each grid a multiple of `divisor`.
            spacing_mm: (B, V, 3) along (K, J, I).
            covariates: (B,) each of COVARIATES, NaN where unknown.
            sizes: For each volume the grids (K, J, I) of the B studies before they were padded at
                the end of each axis: the diagnosis neither pools nor measures what was added.
        """
        logits, probabilities, pooled, encoded, deep = [], [], [], [], []
        apart: list[Tensor] = []
        for number, image in enumerate(volumes):
            inside = None if sizes is None else _inside(image, sizes[number])
            features = [level.view_as(level) for level in self.encode(image)]
            encoded += features
            if self.config.has_segmentation:
                volume_logits, deep_logits = self.decode_deep(features)
                volume_logits = volume_logits.view_as(volume_logits)
                logits.append(volume_logits)
                deep.append(deep_logits)
                probabilities.append(volume_logits.float().softmax(dim=1))
            else:
                shape = (image.shape[0], len(self.config.segments) + 1, *image.shape[2:])
                probabilities.append(image.new_zeros(shape))
            if inside is not None:
                probabilities[-1] = probabilities[-1] * inside
            own = [level.view_as(level) for level in features]
            apart += [self.diagnosis_features(own)[level] for level in self._pooled_levels]
            pooled.append(self.pool(own, probabilities[-1], inside))
        finding_logits, measurements, is_empty = self.diagnose(
            pooled, probabilities, spacing_mm=spacing_mm, covariates=covariates
        )
        parting = encoded
        if self._diagnoses_masks:
            parting = [*logits, *(level for levels in deep for level in levels), *apart]
        return JointOutput(logits, finding_logits, measurements, is_empty, parting, encoded, deep)

    @property
    def _pooled_levels(self) -> tuple[int, ...]:
        head = self.config.head
        return head.levels if head is not None and self.poolings else ()

    @property
    def _diagnoses_masks(self) -> bool:
        """Whether the diagnosis learns through the masks, so that the decoder is shared, too."""
        head = self.config.head
        if head is None or not self.config.has_segmentation:
            return False
        is_measured = self.measure is not None and not head.detach_measurements
        return is_measured or ("mask" in head.pooling and len(self.poolings) > 0)


def _inside(image: Tensor, sizes: Sequence[Sequence[int]]) -> Tensor | None:
    """(B, 1, K, J, I), one where a study is and zero where it was padded; None where none was."""
    grid = tuple(image.shape[2:])
    if all(tuple(size) == grid for size in sizes):
        return None
    inside = torch.zeros_like(image, dtype=torch.float32)
    for study, (k, j, i) in enumerate(sizes):
        inside[study, :, :k, :j, :i] = 1
    return inside
