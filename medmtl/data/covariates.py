"""Covariates of a patient as the numbers that a network reads."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from medmtl.networks.joint import COVARIATES

if TYPE_CHECKING:
    from medmtl.core.prediction import Covariates

__all__ = ["covariate_values"]


def covariate_values(covariates: Covariates) -> dict[str, float]:
    """One number for each of `networks.joint.COVARIATES`, NaN where unknown.

    A sex other than male or female is unknown to a network that saw these two alone.
    """
    sex = {"M": 1.0, "F": 0.0}.get((covariates.sex or "").upper())
    values = (covariates.age_years, sex, covariates.height_cm, covariates.weight_kg)
    return {
        name: nan if value is None else float(value)
        for name, value in zip(COVARIATES, values, strict=True)
    }
