"""Studies of an archive whose images no longer change and that were not analysed yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medmtl.pacs.errors import PacsError, PacsUnreachableError
from medmtl.pacs.image_files import short_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medmtl.pacs.address import PacsQuery
    from medmtl.pacs.archive import Archive, InstanceRef, StudyEntry
    from medmtl.pacs.journal import Journal

__all__ = ["Arrival", "Arrivals"]


@dataclass(frozen=True)
class Arrival:
    """A study to analyse.

    Attributes:
        key: For the journal; the same study with more images has another one.
        images: What the study holds now, without results.
    """

    key: str
    images: tuple[InstanceRef, ...] = field(repr=False)


@dataclass(frozen=True)
class Arrivals:
    """What is new in one archive.

    Attributes:
        archive: Asked once per round for its studies; for a study's instances only where their
            number changed since the last round, or the archive does not say it.
        query: Which studies.
        journal: What was seen and done, by whichever watcher before.
        settle_s: A study is complete when nothing was added for so long.
        name: Makes the names of studies in the journal out of UIDs.
    """

    archive: Archive
    query: PacsQuery
    journal: Journal
    settle_s: float
    name: Callable[..., str] = short_hash
    _known: dict[StudyEntry, tuple[str, tuple[InstanceRef, ...]]] = field(
        default_factory=dict, repr=False
    )

    def settled(self, *, now_s: float, failures: list[PacsError]) -> Iterator[Arrival]:
        """The studies to analyse now; note "done" or "failed" for each in the journal.

        Args:
            now_s: Seconds since 1970.
            failures: Gets what the archive answers for a study that it cannot describe; the others
                go on, and that one is asked for again.

        Raises:
            PacsError: If the archive cannot be asked.
        """
        studies = self.archive.studies(self.query)
        for study in set(self._known) - set(studies):
            del self._known[study]
        for study in studies:
            try:
                key, images = self._images(study)
            except PacsUnreachableError:
                raise
            except PacsError as error:
                failures.append(error)
                continue
            if not images:
                continue
            entry = self.journal.state(key)
            if entry is None:
                self.journal.note(key, "seen", time_s=now_s)
                entry = self.journal.state(key)
            if entry and entry.state == "seen" and now_s - entry.time_s >= self.settle_s:
                yield Arrival(key, images)

    def _images(self, study: StudyEntry) -> tuple[str, tuple[InstanceRef, ...]]:
        if study.instances is not None and study in self._known:
            return self._known[study]
        images = self.archive.images(study.uid, self.query)
        content = self.name(*(ref.sop_uid for ref in images))
        answer = f"study:{self.name(study.uid)}:{content}", images
        self._known[study] = answer
        return answer
