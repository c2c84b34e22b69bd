"""Which segment of a schema a segment of somebody's file is: by its code, then by its name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydicom.sr.coding import Code as DicomCode

from medmtl.core.errors import InputRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medmtl.core.labels import Code, LabelSchema, SegmentSpec
    from medmtl.dicom.read_seg import ReadSegment

__all__ = ["labels_of"]

_BETWEEN = re.compile(r"[\W_]+")


def labels_of(
    segments: Iterable[ReadSegment], schema: LabelSchema, *, source: str
) -> dict[int, int]:
    """The label in the schema of each segment number.

    A code that one segment of the schema has alone decides; the older SNOMED codes ("SRT") are
    taken for what they became. Where several have it, or none, the name does (case, spaces and
    underscores mean nothing).

    Args:
        segments: As read from a SEG or RTSTRUCT.
        schema: What the labels of the result mean.
        source: Name of the file, for refusals.

    Raises:
        InputRefusedError: If a segment is none of the schema, its code and name contradict each
            other, or two of them are one that is no lesion.
    """
    found: dict[int, int] = {}
    for segment in segments:
        spec = _spec(segment, schema, source)
        if spec.label in found.values() and not spec.is_lesion:
            raise _refusal(source, "segment-twice", f"two segments {spec.name!r}", "one of each")
        found[segment.number] = spec.label
    return found


def _spec(segment: ReadSegment, schema: LabelSchema, source: str) -> SegmentSpec:
    coded = [spec for spec in schema.segments if _is_same(spec.code, segment.type)]
    named = [spec for spec in schema.segments if _plain(spec.name) == _plain(segment.label)]
    code = f"{segment.type.scheme} {segment.type.value}" if segment.type else "no code"
    text = f"segment {segment.number} {segment.label!r} ({code})"
    if len(coded) == 1:
        if named and named[0] is not coded[0]:
            both = f"{text}, by its code {coded[0].name!r}"
            raise _refusal(source, "code-and-name-differ", both, "a code and a name that agree")
        return coded[0]
    both_ways = [spec for spec in coded if spec in named]
    if len(both_ways or named) == 1:
        return (both_ways or named)[0]
    expected = f"one of {', '.join(schema.segment_names)}"
    raise _refusal(source, "unknown-segment", text, expected)


def _is_same(mine: Code | None, theirs: Code | None) -> bool:
    if mine is None or theirs is None:
        return False
    pairs = [DicomCode(code.value, code.scheme, code.meaning) for code in (mine, theirs)]
    return bool(pairs[0] == pairs[1])


def _plain(name: str) -> str:
    return _BETWEEN.sub("", name).casefold()


def _refusal(source: str, code: str, found: str, expected: str) -> InputRefusedError:
    return InputRefusedError(
        source,
        stage="read",
        code=code,
        found=found,
        expected=expected,
        advice="Name the segments as the model does, or give them its codes, and export again.",
    )
