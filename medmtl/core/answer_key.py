"""Which answer of a model a reader saw: a case that is computed again may answer otherwise."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["answer_key"]


def answer_key(record: Mapping[str, Any]) -> str:
    """A digest of what a case.json tells a reader: images, sizes of the masks, findings.

    Other formats, timings or versions of medmtl leave it as it is; a study that grew, another
    series on the same grid, another mask or decision does not.

    Raises:
        KeyError: If a field of schema version 1 is missing.
    """
    volumes = [
        [one["id"], one["series_uid"], one["shape_ijk"]] for one in record["source"]["volumes"]
    ]
    segments = [[one["volume"], one["label"], one["voxels"]] for one in record["segments"]]
    findings = [
        [one["name"], one["decision"], round(one["probability"], 3)] for one in record["findings"]
    ]
    text = json.dumps([volumes, segments, findings])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
