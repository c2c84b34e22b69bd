"""What the viewer knows of a model, from its bundle, without torch.

The bundle of a case is found by the checksum in its case.json; an unknown model opens too, only
without its card, its training population and its measured localisation.
"""

from __future__ import annotations

import logging
import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from medmtl.core.errors import BundleError
from medmtl.tracking.bundle_files import read_bundle

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Localisation", "ModelFacts", "bundle_folders", "read_models"]

logger = logging.getLogger(__name__)

_MEAN, _STD = "head.facts.mean", "head.facts.std"


@dataclass(frozen=True)
class Localisation:
    """How well the activation map of one finding found its place, on the cases of the card.

    Attributes:
        pointing_game: Share of maps whose peak lies inside the finding's segments.
        low: Lower end of its 95 % interval.
        high: Upper end.
        cases: How many.
    """

    pointing_game: float
    low: float
    high: float
    cases: int


@dataclass(frozen=True)
class ModelFacts:
    """A bundle, as far as a reader needs it.

    Attributes:
        name: As in `bundle.toml`.
        version: As in `bundle.toml`.
        sha256: Identity.
        modality: Of the input.
        intended_use: One sentence.
        limits: One or two sentences.
        notice: Stands on every page.
        card: Markdown.
        is_exclusive: Whether at most one finding can be present.
        segments: Names in label order.
        expected_ml: Volumes of the training cases by segment, (1st, 99th percentile).
        measured: Mean and standard deviation over the training cases of every measurement that the
            diagnosis reads, in its order; empty where the bundle does not tell.
        lesions: Segments of which none is normal.
        finding_segments: Where the evidence of a finding is expected.
        localisation: By finding, where it was measured.
        split: Which cases the figures come from.
    """

    name: str
    version: str
    sha256: str
    modality: str = ""
    intended_use: str = ""
    limits: str = ""
    notice: str = ""
    card: str = ""
    is_exclusive: bool = False
    segments: tuple[str, ...] = ()
    expected_ml: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    measured: tuple[tuple[float, float], ...] = ()
    lesions: frozenset[str] = frozenset()
    finding_segments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    localisation: Mapping[str, Localisation] = field(default_factory=dict)
    split: str = ""


def bundle_folders(*, cache: Path, further: Iterable[Path] = ()) -> tuple[Path, ...]:
    """Shipped bundles, those fetched from a registry, and those beside the results."""
    shipped = Path(str(files("medmtl"))) / "bundles"
    found = [path.parent for place in (shipped, cache) for path in place.glob("*/bundle.toml")]
    return (*sorted(found), *further)


def read_models(folders: Iterable[Path]) -> dict[str, ModelFacts]:
    """The facts of every sound bundle, by checksum; a damaged one is left out with a warning."""
    models: dict[str, ModelFacts] = {}
    for folder in folders:
        try:
            facts = _read(folder)
        except (BundleError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("bundle %s: not used (%s)", folder.name, type(error).__name__)
            continue
        models[facts.sha256] = facts
    return models


def _read(folder: Path) -> ModelFacts:
    record = read_bundle(folder)
    settings = tomllib.loads((folder / "bundle.toml").read_text(encoding="utf-8"))
    segments, findings = settings.get("segments", ()), settings.get("findings", ())
    metrics = record.metrics
    return ModelFacts(
        name=record.name,
        version=record.version,
        sha256=record.sha256,
        modality=settings["input"]["modality"],
        intended_use=settings["intended_use"],
        limits=settings["limits"],
        notice=settings["notice"],
        card=record.card,
        is_exclusive=bool(settings.get("findings_exclusive", False)),
        segments=record.segments,
        expected_ml={
            one["name"]: (float(one["expected_ml"][0]), float(one["expected_ml"][1]))
            for one in segments
            if one.get("expected_ml")
        },
        measured=_measured(folder / "weights.safetensors", settings),
        lesions=frozenset(one["name"] for one in segments if one.get("is_lesion")),
        finding_segments={one["name"]: tuple(one.get("segments", ())) for one in findings},
        localisation=_localisation(metrics),
        split=str(metrics.get("split", "")),
    )


def _measured(weights: Path, settings: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    """What the head standardises by: each fact, then its logarithm; covariates come last."""
    with safe_open(weights, "numpy") as tensors:
        if not {_MEAN, _STD} <= set(tensors.keys()):
            return ()
        mean, std = tensors.get_tensor(_MEAN), tensors.get_tensor(_STD)
    covariates = settings.get("network", {}).get("head", {}).get("covariates", ())
    count = len(mean) // 2 - len(covariates)
    return tuple(
        (float(one), float(two)) for one, two in zip(mean[:count], std[:count], strict=True)
    )


def _localisation(metrics: Mapping[str, Any]) -> dict[str, Localisation]:
    measured = metrics.get("evidence", {}).get("per_finding", {})
    found = {name: scores.get("pointing_game") for name, scores in measured.items()}
    return {
        name: _score(one) for name, one in found.items() if one and one.get("value") is not None
    }


def _score(record: Mapping[str, Any]) -> Localisation:
    low, high = record.get("ci95") or (float("nan"), float("nan"))
    return Localisation(float(record["value"]), float(low), float(high), int(record["n"]))
