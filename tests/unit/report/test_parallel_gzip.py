"""A stream that any reader of gzip takes, the same whatever the number of threads."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st

from medmtl.core.geometry import Geometry
from medmtl.report.nifti import write_label_map
from medmtl.report.parallel_gzip import write_gzip


def packed(blocks: list[bytes]) -> bytes:
    stream = io.BytesIO()
    write_gzip(stream, iter(blocks))
    return stream.getvalue()


@given(st.lists(st.binary(max_size=300), max_size=9))
def test_what_comes_out_is_what_went_in(blocks: list[bytes]) -> None:
    assert gzip.decompress(packed(blocks)) == b"".join(blocks)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [bytes([n]) * 10**6 + os.urandom(99_999) for n in range(5)]
    assert gzip.decompress(packed(blocks)) == b"".join(blocks)
    many = packed(blocks)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert packed(blocks) == many


def test_another_library_reads_the_file(tmp_path: Path, rng: np.random.Generator) -> None:
    label_map = rng.integers(0, 9, (40, 30, 50)).astype(np.uint8)
    geometry = Geometry.from_parts(shape=(40, 30, 50), spacing_mm=(1, 1, 1))
    write_label_map(tmp_path / "mask.nii.gz", label_map, geometry)
    image = SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image).T, label_map)


def test_a_full_disk_is_said() -> None:
    class Full(io.BytesIO):
        def write(self, content: bytes) -> int:  # type: ignore[override]  # bytes only
            if self.tell() > 1000:
                raise OSError(28, "No space left on device")
            return super().write(content)

    with pytest.raises(OSError, match="No space"):
        write_gzip(Full(), (os.urandom(1000) for _ in range(50)))
