"""What a trained encoder and its masks say of every case, kept on disk.

A case is answered once, through the very predictor that users run, and what reaches the diagnosis
head is kept: a few thousand numbers, and the label maps. So a head trains in seconds, on exactly
what it will read later. An entry is named by all that it depends on: weights, preprocessing, what
is pooled and measured, covariates, and the state of the image files.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from zipfile import BadZipFile

import numpy as np
import torch

from medmtl.core.errors import ConfigError, InputRefusedError
from medmtl.data.covariates import covariate_values
from medmtl.data.manifest import listed_problems
from medmtl.data.sample_cache import file_facts
from medmtl.data.sources import finding_values
from medmtl.inference.evaluate import Evaluation
from medmtl.networks.joint import COVARIATES
from medmtl.training.head import HeadTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.data.cases import Case
    from medmtl.data.sources import DataSource
    from medmtl.inference.predictor import Predictor

__all__ = ["CaseFeatures", "FeatureStore", "head_table"]

logger = logging.getLogger(__name__)

_FORMAT = 1
_DAMAGED = (BadZipFile, OSError, ValueError, KeyError, EOFError)
_OF_NETWORK = (
    "preprocessing", "input", "segments", "regions", "sliding_window", "components", "speeds",
)  # fmt: skip
_OF_HEAD = ("levels", "pooling", "measurements", "measure_largest_piece")


@dataclass(frozen=True, eq=False)
class CaseFeatures:
    """One case.

    Attributes:
        pooled: (D,) float32, what the head gets of the features.
        measurements: (M,) float32, NaN where unknown.
        labels: Label map (i, j, k) by volume id, as delivered.
    """

    pooled: NDArray[np.float32]
    measurements: NDArray[np.float32]
    labels: dict[str, NDArray[Any]]


class FeatureStore:
    """Answers of one encoder to cases, computed once.

    Args:
        predictor: Without activation maps; its head is not looked at.
        folder: Where entries are kept, made where it is missing.
    """

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self.predictor = predictor
        self.folder = folder
        head = predictor.net.config.head
        reads = bool(head and head.embedding)
        self._key = encoder_key(predictor, reads_features=reads)
        # A head that reads features leaves measurements and masks as well.
        self._richer = None if reads else encoder_key(predictor, reads_features=True)
        self.computed = 0

    def of_sources(
        self, sources: Sequence[DataSource]
    ) -> Iterator[tuple[DataSource, Case, CaseFeatures]]:
        """The features of every case, in order.

        Raises:
            ConfigError: Naming every case that cannot be used, once all were tried.
        """
        problems = []
        for source in sources:
            for case in source.cases:
                try:
                    yield source, case, self.of_case(source, case)
                except InputRefusedError as error:
                    problems.append(f"manifest {source.manifest.name}: {case.case_id}: {error}")
        if problems:
            raise ConfigError(listed_problems("cases that cannot be used", problems))

    def of_case(self, source: DataSource, case: Case) -> CaseFeatures:
        """The features of one case, from disk where they are known.

        Raises:
            InputRefusedError: If a volume cannot be used.
        """
        for key in filter(None, (self._key, self._richer)):
            try:
                return self._own(_read(self._path(source, case, key)))
            except FileNotFoundError:
                pass
            except _DAMAGED as error:
                logger.warning("features of %s are damaged (%s): made anew", case.case_id, error)
        found = self._compute(source, case)
        self.computed += 1
        _write(self._path(source, case, self._key), found)
        return self._own(found)

    def _own(self, found: CaseFeatures) -> CaseFeatures:
        """Without pooled features where the head reads none, whoever left them."""
        return found if self._richer is None else replace(found, pooled=found.pooled[:0])

    def _path(self, source: DataSource, case: Case, encoder: str) -> Path:
        images = {
            row.volume_id: file_facts(source.data_root / row.image, row.sha256)
            for row in case.volumes
        }
        covariates = {name: repr(v) for name, v in covariate_values(case.covariates).items()}
        facts = [_FORMAT, encoder, source.manifest.modality, images, covariates]
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.npz"

    def _compute(self, source: DataSource, case: Case) -> CaseFeatures:
        study = Evaluation(self.predictor, source.manifest, source.data_root).study(case)
        head = self.predictor.net.head
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        if head is None:
            raise ConfigError("network.head: found none, expected a diagnosis head.")
        hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[:2]))
        try:
            chosen = [ref.read() for ref in self.predictor.select(study)]
            answer = self.predictor.analyse(study, chosen)
        finally:
            hook.remove()
        pooled, measurements = seen[0]
        return CaseFeatures(
            pooled[0].detach().float().cpu().numpy(),
            measurements[0].detach().float().cpu().numpy(),
            {mask.volume.id: mask.label_map for mask in answer.volumes},
        )


def encoder_key(predictor: Predictor, *, reads_features: bool) -> str:
    """Hex SHA-256 of all that the features depend on but the case: another head changes nothing."""
    bundle, digest = predictor.bundle, hashlib.sha256()
    settings = bundle.settings.model_dump(mode="json")
    head = settings["network"].pop("head") or {}
    settings["network"].pop("findings")
    facts = {name: settings[name] for name in (*_OF_NETWORK, "network")}
    facts["head"] = {name: head.get(name) for name in _OF_HEAD}
    facts["reads_features"] = reads_features
    facts["folds"] = [bundle.settings.sha256.get(name) for name in bundle.settings.folds or ()]
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for name, value in sorted(predictor.net.state_dict().items()):
        if not name.startswith(("head.", "deep_heads.")):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def head_table(
    cases: Sequence[tuple[DataSource, Case, CaseFeatures]], findings: Sequence[str]
) -> HeadTable:
    """What the head learns from; cases without a known finding teach nothing and are left out."""
    known = [
        (case, features)
        for _, case, features in cases
        if not np.isnan(finding_values(case, findings)).all()
    ]
    covariates: list[Mapping[str, float]] = [covariate_values(case.covariates) for case, _ in known]
    return HeadTable(
        torch.from_numpy(np.stack([features.pooled for _, features in known])),
        torch.from_numpy(np.stack([features.measurements for _, features in known])),
        torch.tensor([finding_values(case, findings) for case, _ in known]),
        {name: torch.tensor([row[name] for row in covariates]) for name in COVARIATES},
    )


def _write(path: Path, features: CaseFeatures) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{uuid4().hex}.tmp")
    labels = {f"labels/{name}": array for name, array in features.labels.items()}
    try:
        with aside.open("wb") as stream:
            np.savez_compressed(
                stream,
                allow_pickle=False,
                pooled=features.pooled,
                measurements=features.measurements,
                **labels,
            )
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _read(path: Path) -> CaseFeatures:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as entry:
        labels = {
            name.removeprefix("labels/"): entry[name]
            for name in entry.files
            if name.startswith("labels/")
        }
        return CaseFeatures(entry["pooled"], entry["measurements"], labels)
