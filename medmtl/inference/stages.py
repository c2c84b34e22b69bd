"""An answer in three stages, so that neighbours in a batch overlap: prepare, network, report.

A staged analyser is a generator that stops twice: before the network, and after it. Each stage may
run in another thread, one after the other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from typing import TYPE_CHECKING, Protocol, TypeAlias

from medmtl.core.prediction import Prediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.study import Study
    from medmtl.core.volume import Volume

__all__ = ["Staged", "Stages", "finish", "stages_of"]

Stages: TypeAlias = Generator[None, None, Prediction]


class Staged:
    """Gives an analyser that has stages the method that runs them all."""

    @abstractmethod
    def stages(self, study: Study, volumes: Sequence[Volume]) -> Stages:
        """The answer for the volumes that `select` named; stops before and after the network."""

    def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
        """The answer for the volumes that `select` named, in that order."""
        return finish(self.stages(study, volumes))


class _Analyses(Protocol):
    def analyse(self, study: Study, volumes: Sequence[Volume], /) -> Prediction: ...


def stages_of(analyser: _Analyses, study: Study, volumes: Sequence[Volume]) -> Stages:
    """The stages of any analyser; one without stages has all its work in the network's."""
    if isinstance(analyser, Staged):
        return analyser.stages(study, volumes)
    return _in_one(analyser, study, volumes)


def _in_one(analyser: _Analyses, study: Study, volumes: Sequence[Volume]) -> Stages:
    yield
    prediction = analyser.analyse(study, volumes)
    yield
    return prediction


def finish(stages: Stages) -> Prediction:
    """Run what is left of the stages."""
    while True:
        try:
            next(stages)
        except StopIteration as end:
            prediction: Prediction = end.value
            return prediction
