"""Prediction sets: the answers that split conformal prediction does not rule out.

Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a Random World"; Angelopoulos & Bates 2021,
arXiv:2107.07511. On cases that are exchangeable with those of the fit, the truth lies in the set
with at least the stated coverage. The sets read raw logits, which no later fit has touched: a
calibration or a threshold fitted on the same cases does not void the guarantee.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat
from scipy.special import softmax

from medmtl.core.labels import NO_FINDING
from medmtl.core.prediction import PredictionSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ABSENT",
    "PRESENT",
    "BinaryConformal",
    "ClassConformal",
    "class_probabilities",
    "class_scores",
    "predict_class",
    "predict_finding",
    "restrict_to_finding",
]

PRESENT, ABSENT = "present", "absent"
Coverage = Annotated[float, Field(gt=0, lt=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BinaryConformal(_Strict):
    """The set of one finding.

    Attributes:
        coverage: At least this share of the sets holds the truth.
        per_class: Whether that is so among the present and among the absent each, and not only
            over all.
        present_from: "present" is in the set from this logit on; None: always, because too few
            cases were known to rule it out.
        absent_to: "absent" is in the set up to this logit; None: always.
        n_present: Known cases of the fit.
        n_absent: Known cases of the fit.
    """

    coverage: Coverage
    per_class: bool = True
    present_from: FiniteFloat | None = None
    absent_to: FiniteFloat | None = None
    n_present: Annotated[int, Field(ge=0)] = 0
    n_absent: Annotated[int, Field(ge=0)] = 0


class ClassConformal(_Strict):
    """The set of classes where findings exclude each other: the findings in order, then none.

    Attributes:
        coverage: At least this share of the sets holds the true class.
        per_class: Whether that is so among the cases of each class, and not only over all.
        score: "lac": 1 - probability of the class (Sadinle et al. 2019, arXiv:1609.00451), the
            smallest sets; "aps": the probability of all classes at least as probable (Romano et
            al. 2020, arXiv:2006.02544), sets that grow with the difficulty of the case.
        quantiles: Largest score of each class that is still in the set; 1 keeps it in always.
        n: Cases of each class in the fit.
    """

    coverage: Coverage
    per_class: bool = False
    score: Literal["lac", "aps"] = "lac"
    quantiles: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    n: tuple[Annotated[int, Field(ge=0)], ...] = ()


def class_probabilities(logits_nf: ArrayLike) -> NDArray[np.float64]:
    """Probabilities (N, F + 1) of each finding alone and of none, from logits (N, F).

    Independent answers, given that at most one is present, are a softmax with a zero for none.
    """
    logits = np.asarray(logits_nf, dtype=np.float64)
    none = np.zeros((*logits.shape[:-1], 1))
    return np.asarray(softmax(np.concatenate([logits, none], axis=-1), axis=-1))


def class_scores(
    probabilities_nc: NDArray[np.float64], *, score: Literal["lac", "aps"]
) -> NDArray[np.float64]:
    """How little each class conforms, in 0..1; shape (N, C) as the probabilities."""
    if score == "lac":
        return 1 - probabilities_nc
    at_least = probabilities_nc[:, None, :] >= probabilities_nc[:, :, None]
    cumulative = (at_least * probabilities_nc[:, None, :]).sum(axis=-1)
    return np.asarray(np.minimum(cumulative, 1.0))


def predict_finding(logit: float, settings: BinaryConformal) -> PredictionSet:
    """Which of present and absent cannot be ruled out for one finding."""
    is_in = {
        PRESENT: settings.present_from is None or logit >= settings.present_from,
        ABSENT: settings.absent_to is None or logit <= settings.absent_to,
    }
    return PredictionSet(tuple(name for name in is_in if is_in[name]), settings.coverage)


def predict_class(
    logits: Sequence[float], names: Sequence[str], settings: ClassConformal
) -> PredictionSet:
    """Which of the exclusive findings, and none of them, cannot be ruled out.

    Args:
        logits: (F,) raw logits.
        names: (F,) findings in the same order.
        settings: Of the bundle.

    Raises:
        ValueError: If the quantiles are not one per finding and one for none.
    """
    classes = (*names, NO_FINDING)
    scores = class_scores(class_probabilities([list(logits)]), score=settings.score)[0]
    if not len(classes) == len(scores) == len(settings.quantiles):
        message = f"Need {len(classes)} quantiles. Found {len(settings.quantiles)}."
        raise ValueError(message)
    inside = scores <= np.asarray(settings.quantiles)
    kept = tuple(name for name, is_in in zip(classes, inside, strict=True) if is_in)
    return PredictionSet(kept, settings.coverage)


def restrict_to_finding(classes: PredictionSet, name: str) -> PredictionSet:
    """What a set of exclusive classes says of one finding; it covers at least as often."""
    is_in = {
        PRESENT: name in classes.members,
        ABSENT: any(member != name for member in classes.members),
    }
    return PredictionSet(tuple(key for key in is_in if is_in[key]), classes.coverage)
