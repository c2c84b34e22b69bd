"""Cases of one or several manifests as samples on the network grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from medmtl.core.errors import ConfigError
from medmtl.data.covariates import covariate_values
from medmtl.data.label_mapping import LabelMapping
from medmtl.data.label_table import LabelTable
from medmtl.data.manifest import listed_problems
from medmtl.data.mask_rules import grid_refusal
from medmtl.data.sample_cache import GridVolume, SampleCache, entry_key, file_facts
from medmtl.data.samples import Sample
from medmtl.data.sources import DataSource, finding_values, network_rows, source_problems
from medmtl.data.volume_file import read_volume_file
from medmtl.transforms.any_grid import grid_hash, network_grid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medmtl.data.cases import VolumeRow
    from medmtl.networks.joint import NetworkConfig
    from medmtl.transforms.any_grid import AnyPreprocessing

__all__ = ["DataSource", "StudyDataset"]


class StudyDataset(Dataset[Sample]):
    """Samples of several manifests; a label that a manifest does not have is unknown there.

    Args:
        sources: Their segments and findings are matched with the network's by name.
        network: Names of volumes, segments and findings.
        preprocessing: The steps to the network grid.
        cache_dir: Where prepared volumes are kept; None keeps none.

    Raises:
        ConfigError: Naming every case that lacks a volume of the network or a file, and every
            manifest that shares no name with the network, and structures that are whole in one
            manifest and left and right in another where the network has both names.
    """

    def __init__(
        self,
        sources: Sequence[DataSource],
        *,
        network: NetworkConfig,
        preprocessing: AnyPreprocessing,
        cache_dir: Path | None = None,
    ) -> None:
        self.network = network
        self.preprocessing = network_grid(preprocessing)
        self.cache = SampleCache(cache_dir) if cache_dir is not None else None
        self.entries = tuple((source, case) for source in sources for case in source.cases)
        self._hash = grid_hash(preprocessing)
        problems = list(source_problems(sources, network))
        if problems:
            raise ConfigError(listed_problems("training data", problems))

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        """One study.

        Raises:
            InputRefusedError: If a file cannot be used: damaged, another grid than its image, or a
                label that the manifest does not name.
        """
        source, case = self.entries[index]
        rows = network_rows(case, self.network.volumes)
        mappings = [self._mapping(source, row) for row in rows]
        grids = [
            self._grid(source.data_root, row, mapping)
            for row, mapping in zip(rows, mappings, strict=True)
        ]
        return Sample(
            case_id=case.case_id,
            dataset=source.manifest.name,
            images=tuple(torch.from_numpy(grid.image_kji) for grid in grids),
            labels=tuple(
                None if grid.labels_kji is None else torch.from_numpy(grid.labels_kji)
                for grid in grids
            ),
            is_annotated=torch.tensor([mapping.is_annotated for mapping in mappings]).bool(),
            findings=torch.tensor(finding_values(case, self.network.findings)),
            covariates={
                name: torch.tensor([value])
                for name, value in covariate_values(case.covariates).items()
            },
            spacing_mm=torch.from_numpy(np.stack([grid.spacing_mm for grid in grids])),
        )

    @property
    def table(self) -> LabelTable:
        """What is known of every case, from the manifests alone."""
        annotated = [
            np.any(
                [
                    self._mapping(source, row).is_annotated
                    for row in network_rows(case, self.network.volumes)
                ],
                axis=0,
            )
            for source, case in self.entries
        ]
        findings = [finding_values(case, self.network.findings) for _, case in self.entries]
        count = len(self.entries)
        return LabelTable(
            np.array(annotated, dtype=bool).reshape(count, len(self.network.segments)),
            np.array(findings, dtype=float).reshape(count, len(self.network.findings)),
        )

    def _mapping(self, source: DataSource, row: VolumeRow) -> LabelMapping:
        return LabelMapping(
            source.manifest.schema,
            annotated=row.annotated_segments if row.segmentation else (),
            segments=self.network.segments,
        )

    def _grid(self, data_root: Path, row: VolumeRow, mapping: LabelMapping) -> GridVolume:
        if self.cache is None:
            return self._build(data_root, row, mapping)
        mask = row.segmentation
        key = entry_key(
            preprocessing_hash=self._hash,
            image=file_facts(data_root / row.image, row.sha256),
            mask=file_facts(data_root / mask) if mask else None,
            labels=mapping.values,
        )
        return self.cache.get(key, lambda: self._build(data_root, row, mapping))

    def _build(self, data_root: Path, row: VolumeRow, mapping: LabelMapping) -> GridVolume:
        image = read_volume_file(data_root, row.image)
        prepared: Any = self.preprocessing.apply(image)
        labels = None
        if row.segmentation:
            mask = read_volume_file(data_root, row.segmentation)
            if refusal := grid_refusal(
                mask.geometry, image.geometry, source=row.segmentation, stage="preprocess"
            ):
                raise refusal
            own = mapping.apply(mask.array, source=row.segmentation)
            labels = np.ascontiguousarray(self.preprocessing.apply_labels(own, prepared))
        spacing = np.array(prepared.geometry.spacing_mm[::-1], dtype=np.float32)
        return GridVolume(prepared.array_kji.astype(np.float16), labels, spacing)
