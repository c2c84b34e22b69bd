"""What people made of the cases of a result folder: corrected masks and signed reviews."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medmtl.core.answer_key import answer_key
from medmtl.core.errors import ConfigError, MedmtlError
from medmtl.core.review import Review
from medmtl.data.result_case import read_result_case

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from medmtl.data.result_case import ResultCase

__all__ = ["ReviewedCase", "find_masks", "noted_segments", "read_reviews", "reviewed_cases"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ReviewedCase:
    """A case of a result folder and what people made of it.

    Attributes:
        case: As `predict` left it.
        masks: Corrected file by volume id: NIfTI, SEG or RTSTRUCT.
        reviews: Signed reviews that hold, at most one per reviewer.
    """

    case: ResultCase
    masks: Mapping[str, Path] = field(default_factory=dict)
    reviews: tuple[Review, ...] = ()

    @property
    def case_id(self) -> str:
        """Folder name of the case."""
        return self.case.folder.name


def read_reviews(path: Path) -> dict[str, tuple[Review, ...]]:
    """The signed reviews of a file of JSON lines (`Review.as_json`) by case, the last per reviewer.

    Raises:
        ConfigError: If a line is no review; it names the line and quotes nothing of it.
    """
    found: dict[str, dict[str, Review]] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a comment may hold other line ends
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path.name} cannot be read. Give JSON lines, one per review."
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            review = Review.from_json(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"{path.name}, line {number}: no review. Expected one JSON object per line, with "
                "case_id, reviewer, reviewed_at, findings, masks and is_signed."
            ) from error
        mine = found.setdefault(review.case_id, {})
        before = mine.get(review.reviewer)
        if before is None or before.reviewed_at <= review.reviewed_at:
            mine[review.reviewer] = review
    return {
        case_id: tuple(review for review in mine.values() if review.is_signed)
        for case_id, mine in found.items()
    }


def find_masks(folder: Path, case: ResultCase) -> dict[str, Path]:
    """Corrected masks of a case, by volume id.

    They lie in a folder named like the case, as `<volume>.nii.gz` (or another suffix),
    `<volume>-<anything>.nii.gz`, or alone in a folder `<volume>`. `image-2.nii.gz` is of `image-2`
    where there is such a volume beside `image`. Of several, the one that a note (`*.json` with
    `volume`, `file` and `saved_at`, as the viewer writes) dates last counts; those
    whose note names another model, or another answer of this one, are left out with a warning.

    Raises:
        MedmtlError: If there are several and no note says which one counts.
    """
    places = [one for one in _folders(folder, case.folder.name) if one != case.folder]
    found = {}
    for volume_id in case.volume_ids:
        others = [one for one in case.volume_ids if one.startswith(f"{volume_id}-")]
        files = [path for place in places for path in _masks_of(place, volume_id, others)]
        notes = list(_notes(files, volume_id))
        files = _of_this_answer(files, notes, case, volume_id)
        if len(files) > 1:
            files = _latest(files, notes)
        if len(files) > 1:
            names = ", ".join(sorted(path.name for path in files)[:3])
            raise MedmtlError(
                f"Case {case.folder.name}, volume {volume_id}: {len(files)} corrected masks "
                f"({names}), expected one. Remove those that do not hold."
            )
        if files:
            found[volume_id] = files[0]
    return found


def _folders(root: Path, name: str) -> list[Path]:
    return [root / name] if (root / name).is_dir() else sorted(root.rglob(name))


def _masks_of(place: Path, volume_id: str, others: Sequence[str]) -> Iterator[Path]:
    inner = place / volume_id
    for path in sorted(inner.iterdir() if inner.is_dir() else place.iterdir()):
        if not path.is_file() or path.name.startswith(".") or path.suffix == ".json":
            continue
        stem = path.name.partition(".")[0]
        is_of_other = any(_is_named(stem, other) for other in others)
        if inner.is_dir() or (_is_named(stem, volume_id) and not is_of_other):
            yield path


def _is_named(stem: str, volume_id: str) -> bool:
    return stem == volume_id or stem.startswith(f"{volume_id}-")


@dataclass(frozen=True, order=True)
class _Note:
    """What the viewer wrote beside a mask.

    `model_sha256` and `answer` are "" where it names none, `segments` is None where it says not
    which of them the mask describes.
    """

    saved_at: str
    path: Path
    model_sha256: str
    answer: str
    segments: tuple[str, ...] | None = field(default=None, compare=False)

    def is_of(self, case: ResultCase) -> bool:
        """Whether it may be about this answer."""
        is_model = self.model_sha256 in ("", str(case.record["model"]["sha256"]))
        return is_model and (not self.answer or self.answer == answer_key(case.record))


def _notes(files: Sequence[Path], volume_id: str) -> Iterator[_Note]:
    for note in sorted({note for path in files for note in path.parent.glob("*.json")}):
        try:
            said: Any = json.loads(note.read_bytes())
            path = note.parent / str(said["file"])
            if str(said["volume"]) == volume_id and path in files:
                names = said.get("segments")
                yield _Note(
                    str(said["saved_at"]),
                    path,
                    str(said.get("model_sha256", "")),
                    str(said.get("answer", "")),
                    None if names is None else tuple(map(str, names)),
                )
        except (OSError, ValueError, KeyError, TypeError):
            continue


def noted_segments(path: Path, volume_id: str) -> tuple[str, ...] | None:
    """The segments that a corrected mask describes by its last note; None where no note says."""
    notes = list(_notes([path], volume_id))
    return max(notes).segments if notes else None


def _of_this_answer(
    files: Sequence[Path], notes: Sequence[_Note], case: ResultCase, volume_id: str
) -> list[Path]:
    """Without the corrections of another answer: of other labels, or of another series."""
    mine = {note.path for note in notes if note.is_of(case)}
    others = {note.path for note in notes} - mine
    if others:
        logger.warning(
            "case %s, volume %s: %d corrected masks of another model's or an earlier answer; "
            "not used",
            case.folder.name, volume_id, len(others),
        )  # fmt: skip
    return [path for path in files if path not in others]


def _latest(files: Sequence[Path], notes: Sequence[_Note]) -> list[Path]:
    """The file of the last note; all of them where no note speaks of any."""
    dated = [note for note in notes if note.path in files]
    return [max(dated).path] if dated else list(files)


def reviewed_cases(
    results: Path, *, masks: Path | None, reviews: Mapping[str, Sequence[Review]]
) -> tuple[list[ReviewedCase], list[str]]:
    """The cases of a result folder that have a corrected mask or a signed review.

    Args:
        results: Folder that `predict` wrote.
        masks: Folder of corrected masks, see `find_masks`; None for none.
        reviews: By case id.

    Returns:
        The cases in the order of their names, and what is wrong with others.
    """
    found, problems = [], []
    for record in sorted(results.glob("*/case.json")):
        try:
            case = read_result_case(record.parent)
            files = find_masks(masks, case) if masks is not None else {}
        except MedmtlError as error:
            problems.append(f"{error} Left out.")
            continue
        sha256 = str(case.record["model"]["sha256"])
        said = reviews.get(record.parent.name, ())
        mine = tuple(review for review in said if review.is_of(record.parent.name, sha256))
        if len(mine) < len(said):
            others = len(said) - len(mine)
            problems.append(
                f"{record.parent.name}: {others} reviews of another model's answer; not used"
            )
        if files or mine:
            found.append(ReviewedCase(case, files, mine))
    return found, problems
