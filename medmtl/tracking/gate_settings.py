"""The numbers of the gate, from a TOML file; `gate.toml` beside this file holds the defaults."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from medmtl.core.errors import ConfigError

__all__ = ["GateSettings", "load_gate"]

Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SegmentationLimits(_Strict):
    """Dice, of the mean over segments and of each."""

    min_mean_dice: Share
    min_segment_dice: Share


class DiagnosisLimits(_Strict):
    """Discrimination and calibration."""

    min_macro_auroc: Share
    min_finding_auroc: Share
    require_calibrated: bool
    max_finding_brier: Share
    max_finding_ece: Share


class EvidenceLimits(_Strict):
    """Whether the activation maps point at the right place."""

    min_mean_pointing_game: Share


class ChampionLimits(_Strict):
    """How much worse than the present holder of the alias a model may be.

    The tolerances of one segment and of one finding may be left out, and are then those shown.
    """

    require_same_cases: bool
    dice_tolerance: Share
    segment_dice_tolerance: Share = 0.03
    auroc_tolerance: Share
    finding_auroc_tolerance: Share = 0.05
    brier_tolerance: Share
    ece_tolerance: Share


class CardLimits(_Strict):
    """The model card."""

    min_characters: NonNegativeInt


class GateSettings(_Strict):
    """What a model must reach before it gets an alias; see `gate.toml` for what each means.

    A forgotten limit would leave the gate open, so keys without a default must be given.
    """

    judge_by: Literal["value", "bound"]
    min_cases: PositiveInt
    max_failed_cases: NonNegativeInt
    unseen_splits: tuple[str, ...]
    may_be_unmeasured: tuple[str, ...]
    segmentation: SegmentationLimits
    diagnosis: DiagnosisLimits
    evidence: EvidenceLimits
    champion: ChampionLimits
    card: CardLimits


def load_gate(path: Path | None = None) -> GateSettings:
    """Read a gate; None reads the shipped one.

    Raises:
        ConfigError: Naming every key that is missing, unknown or out of range.
    """
    name = path.name if path else "gate.toml"
    source = path or Path(str(files("medmtl.tracking"))) / "gate.toml"
    try:
        return GateSettings.model_validate(tomllib.loads(source.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        message = f"{name}: cannot be read ({type(error).__name__}), expected a gate in TOML."
        raise ConfigError(message) from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise ConfigError(f"{name}: {problems}. Start from a copy of gate.toml.") from error
