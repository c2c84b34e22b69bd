"""Requests are made again where that may help, and an error says no more than it should."""

from __future__ import annotations

import base64
import subprocess
import time
from pathlib import Path

import pydicom
import pytest

from medmtl.core.errors import ConfigError
from medmtl.pacs.address import PacsQuery
from medmtl.pacs.archive import Archive, InstanceRef
from medmtl.pacs.credentials import Credentials
from medmtl.pacs.errors import PacsError, PacsUnreachableError
from medmtl.pacs.image_files import short_hash
from medmtl.pacs.retry import Retry
from medmtl.pacs.tls import TlsFiles
from tests.certificates import make_certificates
from tests.dicomweb_server import Answer, serve

QUICK = Retry(attempts=3, first_wait_s=0.01)
STUDY = b'[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}]'
QUERY = PacsQuery(patient="PLANTED")


def _archive(url: str, **options: object) -> Archive:
    return Archive.connect(url, **{"retry": QUICK, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again(status: int) -> None:
    with serve(Answer(status), Answer(status), Answer(body=STUDY)) as server:
        assert [study.uid for study in _archive(server.url).studies(QUERY)] == ["1.2.3"]


@pytest.mark.parametrize("status", [400, 404, 409])
def test_what_will_not_pass_is_asked_once(status: int) -> None:
    with serve(Answer(status)) as server:
        with pytest.raises(PacsError, match=f"HTTP {status}") as caught:
            _archive(server.url).studies(QUERY)
        assert len(server.asked) == 1
        assert "PLANTED" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_attempts_end() -> None:
    with serve(Answer(503)) as server:
        with pytest.raises(PacsError, match="HTTP 503"):
            _archive(server.url).studies(QUERY)
        assert len(server.asked) == QUICK.attempts


def test_the_pause_that_the_archive_asks_for_is_kept() -> None:
    with serve(Answer(503, headers={"Retry-After": "1"}), Answer()) as server:
        start = time.monotonic()
        assert _archive(server.url).studies(QUERY) == ()
        assert time.monotonic() - start >= 1.0


def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    broken = Answer(body=STUDY[:20], claimed_bytes=len(STUDY))
    with serve(broken, Answer(body=STUDY)) as server:
        assert len(_archive(server.url).studies(QUERY)) == 1


@pytest.mark.parametrize("body", [b"<html>", b'["text"]', b"[1]"])
def test_another_service_is_told_from_an_archive(body: bytes) -> None:
    with serve(Answer(body=body)) as server, pytest.raises(PacsError, match="is not DICOMweb"):
        _archive(server.url).studies(QUERY)


def test_an_archive_that_knows_no_pages_ends() -> None:
    with serve(Answer(body=STUDY)) as server:
        assert len(_archive(server.url).studies(PacsQuery())) == 1
        assert len(server.asked) == 2


def test_a_study_that_the_archive_ignored_the_filter_for_is_left_out() -> None:
    with serve(Answer(body=STUDY)) as server:
        assert _archive(server.url).studies(PacsQuery(studies=("9.9",))) == ()


def test_basic_and_bearer_go_into_the_header_alone() -> None:
    for credentials, expected in (
        (Credentials("me", "pässword"), b"Basic " + base64.b64encode("me:pässword".encode())),
        (Credentials(token="tok.en"), b"Bearer tok.en"),  # noqa: S106 - planted
    ):
        with serve(Answer()) as server:
            _archive(server.url, credentials=credentials).studies(QUERY)
            ((path, header),) = set(server.asked)
        assert header.encode() == expected
        assert "tok.en" not in path
        assert "tok.en" not in repr(credentials)


def test_a_wrong_instance_is_refused() -> None:
    headers = {"Content-Type": "multipart/related; type=application/dicom; boundary=b"}
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + bytes(200) + b"\r\n--b--"
    with serve(Answer(body=body, headers=headers)) as server:
        with pytest.raises(PacsError, match=f"instance {short_hash('1.2.3.5')}") as caught:
            _archive(server.url).retrieve(InstanceRef("1.2.3", "1.2.3.4", "1.2.3.5"))
        assert "1.2.3.5" not in str(caught.value)


def test_an_archive_that_keeps_nothing_is_found_out() -> None:
    instance = pydicom.Dataset()
    instance.file_meta = pydicom.dataset.FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    instance.SOPInstanceUID = instance.StudyInstanceUID = instance.SeriesInstanceUID = "1.2.3"
    with (
        serve(Answer(body=b"", headers={"Content-Type": "text/plain"})) as server,
        pytest.raises(PacsError, match="did not keep it"),
    ):
        _archive(server.url).store(instance)


def test_tls_is_checked(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    with serve(Answer(body=STUDY), certificate=(made.server, made.server_key)) as server:
        with pytest.raises(PacsUnreachableError, match="certificate is not trusted"):
            _archive(server.url).studies(QUERY)
        assert server.asked == []
        assert len(_archive(server.url, tls=TlsFiles(made.ca)).studies(QUERY)) == 1


def test_an_archive_that_asks_who_we_are_is_shown_the_certificate(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(made.client.read_bytes() + made.client_key.read_bytes())
    both.chmod(0o600)
    server_files = (made.server, made.server_key)
    with serve(Answer(body=STUDY), certificate=server_files, clients_of=made.ca) as server:
        with pytest.raises(PacsUnreachableError, match="--certificate"):
            _archive(server.url, tls=TlsFiles(made.ca)).studies(QUERY)
        assert server.asked == []
        for files in (TlsFiles(made.ca, made.client, made.client_key), TlsFiles(made.ca, both)):
            assert len(_archive(server.url, tls=files).studies(QUERY)) == 1


def test_certificate_files_are_checked_before_anybody_is_asked(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", "pass:x", "-in", made.client_key,  # noqa: S607
         "-out", locked],
        capture_output=True, check=True,
    )  # fmt: skip
    locked.chmod(0o600)
    junk = tmp_path / "junk.pem"
    junk.write_text("junk", encoding="ascii")
    for files, said in (
        ({"ca_file": tmp_path / "no.pem"}, "no such file"),
        ({"ca_file": junk}, "no certificates in PEM"),
        ({"key": made.client_key}, "--certificate"),
        ({"certificate": made.client, "key": tmp_path / "no.pem"}, "cannot be read"),
        ({"certificate": made.client, "key": made.server_key}, "its own private key"),
        ({"certificate": made.client, "key": locked}, "unencrypted"),
    ):
        with pytest.raises(ConfigError, match=said):
            TlsFiles(**files)
    made.client_key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        TlsFiles(certificate=made.client, key=made.client_key)
