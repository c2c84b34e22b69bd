"""DICOM in, without ever being silently wrong.

Bytes go through four steps: `scan` (headers only), `series` and `split` (which frames are one
volume), `grid` (their order and geometry), `decode` (pixels, in a process with limits). Each step
refuses with a reason rather than guess. The rule in full is in docs/reading.md.
"""

from __future__ import annotations

from medmtl.dicom.limits import ReadLimits
from medmtl.dicom.listing import list_dicom
from medmtl.dicom.sources import SourceFile, Sources, collect_sources

__all__ = ["ReadLimits", "SourceFile", "Sources", "collect_sources", "list_dicom"]
