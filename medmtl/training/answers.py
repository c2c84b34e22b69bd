"""What a trained network answered for cases that it was not trained on, beside the truth.

Everything after training is fitted on this one table: calibration, thresholds, prediction sets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Answers"]


@dataclass(frozen=True, eq=False)
class Answers:
    """Raw answers of N cases to F findings.

    Attributes:
        names: (F,) findings in the order of the network's outputs.
        logits_nf: Raw logits, shape (N, F), from the very pass that users run.
        targets_nf: 1 present, 0 absent, NaN unknown, shape (N, F); unknown enters nothing.
        patients: (N,) patient of each case; cases of one patient stay together.
        is_exclusive: Whether at most one finding can be present.
    """

    names: tuple[str, ...]
    logits_nf: NDArray[np.float64]
    targets_nf: NDArray[np.float64]
    patients: tuple[str, ...]
    is_exclusive: bool = False

    def __post_init__(self) -> None:
        """Check the shapes and values.

        Raises:
            ValueError: If they do not belong together, a logit is not finite, a target is neither
                0, 1 nor NaN, or two exclusive findings are present in one case.
        """
        shape = (len(self.patients), len(self.names))
        if self.logits_nf.shape != shape or self.targets_nf.shape != shape:
            found = f"{self.logits_nf.shape} and {self.targets_nf.shape}"
            raise ValueError(f"Logits and targets must be {shape}. Found {found}.")
        if not np.isfinite(self.logits_nf).all():
            raise ValueError("Logits must be finite.")
        if not np.isin(self.targets_nf[~np.isnan(self.targets_nf)], (0, 1)).all():
            raise ValueError("Targets must be 0, 1 or NaN for unknown.")
        if self.is_exclusive and (np.nansum(self.targets_nf, axis=1) > 1).any():
            raise ValueError("Findings exclude each other, but a case has two of them.")

    def known(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Logits and targets (n,) of the cases in which one finding is known."""
        column = self.names.index(name)
        is_known = ~np.isnan(self.targets_nf[:, column])
        return self.logits_nf[is_known, column], self.targets_nf[is_known, column] > 0

    def classes(self) -> NDArray[np.intp]:
        """Exclusive class (N,): index of the finding, F for none, -1 where it is not known."""
        present = self.targets_nf == 1
        is_none = (self.targets_nf == 0).all(axis=1)
        found = np.where(present.any(axis=1), present.argmax(axis=1), -1)
        return np.where(is_none, len(self.names), found)

    def take(self, rows: NDArray[np.bool_]) -> Answers:
        """The cases where `rows` is true."""
        return replace(
            self,
            logits_nf=self.logits_nf[rows],
            targets_nf=self.targets_nf[rows],
            patients=tuple(np.asarray(self.patients, dtype=str)[rows].tolist()),
        )
