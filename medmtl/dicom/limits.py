"""How much an untrusted input may cost."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ReadLimits"]


@dataclass(frozen=True)
class ReadLimits:
    """Limits that hold while reading one input; whatever exceeds one is refused by name.

    Attributes:
        max_pixel_bytes: Largest decoded volume, and largest single file that is decoded.
        max_seconds: Longest time that one file may take in the decoder.
        max_header_seconds: Longest time that one unusual header may take.
        max_worker_bytes: Memory that the decoder may take beyond what it needs to start.
        max_zip_bytes: Largest total size of a zip, unpacked.
        max_files: Most files that one input may hold.
    """

    max_pixel_bytes: int = 2 * 1024**3
    max_seconds: float = 60.0
    max_header_seconds: float = 10.0
    max_worker_bytes: int = 4 * 1024**3
    max_zip_bytes: int = 20 * 1024**3
    max_files: int = 2_000_000
