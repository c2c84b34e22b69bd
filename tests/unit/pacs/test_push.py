"""One damaged result keeps no other from being sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medmtl.pacs.push import push_files
from tests.dicom_factory import make_series


class _Empty:
    """An archive that holds nothing and keeps what it is sent."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    def stored(self, _study_uid: str, _series_uid: str) -> frozenset[str]:
        return frozenset()

    def store(self, instance: pydicom.Dataset) -> None:
        self.kept.append(str(instance.SOPInstanceUID))


def _cut_off(content: bytes) -> bytes:
    """In the middle of the head of the pixel data."""
    return content[: content.rindex(b"\xe0\x7f\x10\x00OW") + 10]


def _unknown_representation(content: bytes) -> bytes:
    return content.replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x10\x00\x55\xba", 1)


@pytest.mark.parametrize("damage", [_cut_off, _unknown_representation, lambda content: b""])
def test_a_damaged_result_is_named_and_the_others_go_on(tmp_path: Path, damage: object) -> None:
    make_series(tmp_path, array=np.zeros((5, 4, 2), np.uint16))
    first, second = sorted(tmp_path.iterdir())
    first.write_bytes(damage(first.read_bytes()))  # type: ignore[operator]
    archive = _Empty()
    outcomes = list(push_files(archive, [first, second], root=tmp_path))
    assert [outcome.status for outcome in outcomes] == ["failed", "sent"]
    assert outcomes[0].reason == "the file cannot be read as DICOM"
    assert len(archive.kept) == 1
