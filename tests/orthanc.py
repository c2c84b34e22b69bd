"""A real archive for the tests: Orthanc with its DICOMweb plugin, on loopback."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from medmtl.pacs.archive import Archive
from medmtl.pacs.credentials import Credentials
from medmtl.pacs.retry import Retry

__all__ = ["QUICK", "Orthanc", "free_port", "send"]

USER, PASSWORD = "planted-user", "planted-secret"
QUICK = Retry(attempts=2, first_wait_s=0.05)
_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_START_S = 60.0


@dataclass
class Orthanc:
    """One archive; `stop` and `start` keep its ports and its storage."""

    folder: Path
    port: int = 0
    dicom_port: int = 0
    answers_find: bool = True
    _process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def program() -> str:
        """Skips where Orthanc is absent."""
        program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
        if program is None or not _PLUGIN.exists():
            pytest.skip("Orthanc is not installed (Debian packages orthanc and orthanc-dicomweb)")
        return program

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/dicom-web"

    @property
    def peer(self) -> str:
        """Its address over DIMSE."""
        return f"dimse://ORTHANC@localhost:{self.dicom_port}"

    def start(self) -> None:
        program = self.program()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        self.dicom_port = self.dicom_port or free_port()
        settings = {
            "StorageDirectory": str(self.folder / "db"),
            "IndexDirectory": str(self.folder / "db"),
            "HttpPort": self.port,
            "DicomAet": "ORTHANC",
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowFind": self.answers_find,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": [str(_PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (self.folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, str(self.folder / "orthanc.json")], stdout=log, stderr=log
            )
        self._await()

    def _await(self) -> None:
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "log").read_text()
            try:
                with socket.create_connection(("localhost", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        pytest.fail("Orthanc did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
            self._process = None

    def end(self) -> None:
        """Without the two seconds that an orderly stop takes; nothing is kept."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=60)

    def archive(self, **options: Any) -> Archive:
        """As medmtl asks it, with a retry that does not wait long."""
        values: dict[str, Any] = {"credentials": Credentials(USER, PASSWORD), "retry": QUICK}
        return Archive.connect(self.url, **(values | options))

    def instances(self) -> list[str]:
        """Every SOP Instance UID that it holds, from its own interface, not by DICOMweb."""
        answer = requests.get(
            f"http://localhost:{self.port}/instances?expand",
            auth=(USER, PASSWORD), timeout=60,
        )  # fmt: skip
        answer.raise_for_status()
        return [item["MainDicomTags"]["SOPInstanceUID"] for item in answer.json()]


def send(orthanc: Orthanc, folder: Path) -> None:
    """Store every file of a folder by Orthanc's own interface."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        requests.post(
            f"http://localhost:{orthanc.port}/instances",
            data=path.read_bytes(), auth=(USER, PASSWORD), timeout=60,
        ).raise_for_status()  # fmt: skip


def free_port() -> int:
    """A port of loopback that nobody uses at the moment."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
