"""Batches made in the background, the same for any number of workers, and the time waited for them.

Every random number of a batch comes from (seed, process, step, place), so a resumed run sees what
it would have seen, and a batch does not depend on which worker made it.
"""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from medmtl.core.errors import MedmtlError
from medmtl.data.samples import TASKS, Batch, Sample, collate, only_task
from medmtl.data.sampling import AUGMENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medmtl.data.samples import Task
    from medmtl.data.sampling import TaskSampler

__all__ = ["Augment", "LoadTimes", "StudyLoader"]

Augment: TypeAlias = Callable[[Sample, np.random.Generator], Sample]
"""Changes a sample at random; the same generator gives the same sample."""


@dataclass
class LoadTimes:
    """How long the trainer waited.

    Attributes:
        wait_s: Seconds in which no batch was ready, starting the workers included.
        batches: Batches handed out.
    """

    wait_s: float = 0.0
    batches: int = 0

    def share(self, elapsed_s: float) -> float:
        """Share of the elapsed time that was waiting, 0..1."""
        return min(1.0, self.wait_s / elapsed_s) if elapsed_s > 0 else 0.0


class StudyLoader:
    """Batches of a run, by step.

    Args:
        dataset: Samples by index.
        sampler: Which cases a step has; of this process.
        divisor: The grid (K, J, I) of every batch is a multiple of this.
        seed: Of the run.
        augment: Changes every sample, or one for each task that a case can be drawn for (a patch
            knows no findings, so in patch mode the cases of the diagnosis stay whole); None for
            none. It must be picklable where workers are spawned (macOS, Windows).
        workers: Processes beside this one; 0 makes the batches here, when asked for.
        prefetch: Batches that each worker keeps ready.
        pin_memory: For copies to a GPU that do not wait.
    """

    def __init__(
        self,
        dataset: Dataset[Sample],
        sampler: TaskSampler,
        *,
        divisor: Sequence[int],
        seed: int,
        augment: Augment | Mapping[Task, Augment | None] | None = None,
        workers: int = 0,
        prefetch: int = 2,
        pin_memory: bool = False,
    ) -> None:
        self.times = LoadTimes()
        self.sampler = sampler
        self.workers, self.prefetch, self.pin_memory = workers, prefetch, pin_memory
        by_task = augment if isinstance(augment, Mapping) else dict.fromkeys(TASKS, augment)
        self._steps = _Steps(dataset, sampler, tuple(divisor), seed, by_task)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of the steps `start` to `stop` - 1, with the task shares of this moment.

        Ask for the steps up to the next validation, then tell the scheduler its scores: batches
        are made ahead, and a change of the shares reaches only the next call.

        Raises:
            MedmtlError: If a case cannot be used.
        """
        began = time.perf_counter()
        source = self._background(range(start, stop))
        for _ in range(start, stop):
            batch = next(source)
            self.times.wait_s += time.perf_counter() - began
            self.times.batches += 1
            if isinstance(batch, _Refused):
                raise MedmtlError(batch.text)
            yield batch
            began = time.perf_counter()

    def _background(self, steps: range) -> Iterator[Batch | _Refused]:
        with warnings.catch_warnings():
            # Python 3.12 warns of every fork beside threads; workers run no thread of the parent.
            warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
            loader: DataLoader[Batch | _Refused] = DataLoader(
                self._steps,
                batch_size=None,  # a step is a batch already
                sampler=steps,
                num_workers=self.workers,
                prefetch_factor=self.prefetch if self.workers else None,
                pin_memory=self.pin_memory,
                worker_init_fn=_outlive_signals,
                # Without its own generator it would draw from the run's.
                generator=torch.Generator().manual_seed(0),
            )
            return iter(loader)


@dataclass(frozen=True)
class _Refused:
    """A refusal as text: exceptions with keyword arguments do not survive the way to the parent."""

    text: str


class _Steps(Dataset[Batch | _Refused]):
    """Batches by step."""

    def __init__(
        self,
        dataset: Dataset[Sample],
        sampler: TaskSampler,
        divisor: tuple[int, ...],
        seed: int,
        augment: Mapping[Task, Augment | None],
    ) -> None:
        self.dataset, self.sampler, self.divisor = dataset, sampler, divisor
        self.seed, self.augment = seed, augment

    def __getitem__(self, step: int) -> Batch | _Refused:
        try:
            return self._batch(step)
        except MedmtlError as error:
            return _Refused(str(error))

    def _batch(self, step: int) -> Batch:
        samples = []
        for place, draw in enumerate(self.sampler.draw(step)):
            sample = self.dataset[draw.index]
            if (augment := self.augment[draw.task]) is not None:
                rng = np.random.default_rng([self.seed, AUGMENT, self.sampler.rank, step, place])
                sample = augment(sample, rng)
            if self.sampler.config.one_task_per_case:
                sample = only_task(sample, draw.task)
            samples.append(sample)
        return collate(samples, divisor=self.divisor)


def _outlive_signals(_: int) -> None:
    """A signal to the whole group ends the run at the parent, which saves first, not here."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
