"""What the manifests say is known of every case, before any image is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.data.samples import Task

__all__ = ["LabelTable"]


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels of N cases.

    Attributes:
        is_annotated: (N, S) bool, whether the segment was looked for in any volume.
        findings: (N, F) 1, 0, or NaN for unknown.
    """

    is_annotated: NDArray[np.bool_]
    findings: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.findings)

    def is_known(self, task: Task) -> NDArray[np.bool_]:
        """(N,), whether the case teaches the task anything."""
        known = ~np.isnan(self.findings) if task == "diagnosis" else self.is_annotated
        return np.asarray(known.any(axis=1))

    def rarity(self, task: Task) -> NDArray[np.float64]:
        """(N,) how much of what is rare a case teaches; 0 where it teaches the task nothing.

        Segmentation: the sum over the case's annotated segments of one over the number of cases
        that have the segment annotated, so that a small data set with an organ of its own is not
        drowned. Diagnosis: the mean over the case's known findings of one over the number of cases
        with the same answer, so that the few with a rare finding weigh more than the many without.
        """
        if task == "segmentation":
            counts = self.is_annotated.sum(axis=0)
            return np.asarray((self.is_annotated / np.maximum(counts, 1)).sum(axis=1))
        known = ~np.isnan(self.findings)
        shares = np.zeros(self.findings.shape)
        for answer in (0.0, 1.0):
            is_answer = self.findings == answer
            shares += is_answer / np.maximum(is_answer.sum(axis=0), 1)
        return np.asarray(shares.sum(axis=1) / np.maximum(known.sum(axis=1), 1))
