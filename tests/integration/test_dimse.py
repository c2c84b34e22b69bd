"""DIMSE against programs that others wrote: DCMTK's echoscu, storescu and storescp, and Orthanc."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import requests
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from pynetdicom import AE, AllStoragePresentationContexts, evt

from medmtl.core.errors import ConfigError
from medmtl.data.intake import open_input
from medmtl.inference.batch import BatchOptions
from medmtl.inference.predictor import load_predictor
from medmtl.pacs.archive import InstanceRef
from medmtl.pacs.dimse_address import parse_listener, parse_peer
from medmtl.pacs.dimse_target import DimseTarget
from medmtl.pacs.errors import PacsError, PacsUnreachableError
from medmtl.pacs.push import push_files, result_files
from medmtl.pacs.receiver import Receiver
from medmtl.pacs.tls import TlsFiles
from pipelines.watch_rounds import Watcher, watch_received
from tests.certificates import make_certificates
from tests.dicom_factory import make_series, uid_of
from tests.orthanc import PASSWORD, QUICK, USER, Orthanc, free_port
from tests.planted_study import SLICES, write_study

# pynetdicom leaves the socket of a refused connection to the garbage collector
# (AssociationSocket._shutdown_socket: close is skipped where shutdown raises).
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")

SECRETS = ("Planted", "PLANTED", str(uid_of("one")), str(uid_of("two")), str(uid_of("one", 1)))


@pytest.fixture(autouse=True)
def _sockets_left_behind() -> Iterator[None]:
    yield
    gc.collect()  # here, where the warning is expected, not in somebody else's test


def _dcmtk(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """One of DCMTK's programs on loopback; skips where it is absent."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian package dcmtk)")
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def _send(folder: Path, port: int, *options: object) -> subprocess.CompletedProcess[str]:
    return _dcmtk("storescu", *options, "-aec", "MEDMTL", "+sd", "127.0.0.1", port, folder)


@contextmanager
def _receiving(folder: Path, query: str = "", tls: Any = None) -> Iterator[int]:
    scheme = "dimse" if tls is None else "dimses"
    with Receiver(parse_listener(f"{scheme}://:0{query}"), folder, tls).listening() as port:
        yield port


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _assert_nothing_told(text: str) -> None:
    assert [secret for secret in SECRETS if secret in text] == []


def test_echo_is_answered_to_those_who_may_ask(tmp_path: Path) -> None:
    with _receiving(tmp_path / "got", "?aet=AI&from=PACS&from=OTHER") as port:

        def echo(called: str, calling: str) -> bool:
            done = _dcmtk("echoscu", "-aec", called, "-aet", calling, "127.0.0.1", port)
            return done.returncode == 0

        assert echo("AI", "PACS")
        assert echo("AI", "OTHER")
        assert not echo("AI", "STRANGER")
        assert not echo("MEDMTL", "PACS")


def test_what_is_sent_lies_there_whole_once_and_without_a_name(tmp_path: Path) -> None:
    source, got = write_study(tmp_path / "in", "one"), tmp_path / "got"
    with _receiving(got) as port:
        assert _send(source, port).returncode == 0
        first = _files(got)
        assert len(first) == SLICES
        times = [path.stat().st_mtime_ns for path in first]
        assert _send(source, port).returncode == 0
    assert _files(got) == first
    assert [path.stat().st_mtime_ns for path in first] == times  # not written again
    sent = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, source.iterdir())}
    assert {d.SOPInstanceUID: d for d in map(pydicom.dcmread, first)} == sent
    _assert_nothing_told("".join(map(str, first)))
    assert {path.stat().st_mode & 0o077 for path in first} == {0}


def test_a_corrected_instance_takes_the_place_of_the_first(tmp_path: Path) -> None:
    got = tmp_path / "got"
    with _receiving(got) as port:
        _send(write_study(tmp_path / "a", "one"), port)
        _send(write_study(tmp_path / "b", "one", PatientID="CORRECTED"), port)
    assert {pydicom.dcmread(path).PatientID for path in _files(got)} == {"CORRECTED"}
    assert len(_files(got)) == SLICES


@pytest.mark.parametrize(
    ("syntax", "option"),
    [(RLELossless, "-xr"), (JPEGLSLossless, "-xt"), (JPEG2000Lossless, "-xv")],
    ids=["rle", "jpeg-ls", "jpeg-2000"],
)
def test_compressed_images_arrive_as_they_were_sent(
    tmp_path: Path, syntax: str, option: str
) -> None:
    source, got = write_study(tmp_path / "in", "one"), tmp_path / "got"
    (plain,) = open_input(source).studies
    for path in source.iterdir():
        instance = pydicom.dcmread(path)
        instance.compress(syntax, generate_instance_uid=False)
        instance.save_as(path)
    with _receiving(got) as port:
        done = _send(source, port, option)
        assert done.returncode == 0, done.stderr
    assert {pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in _files(got)} == {syntax}
    (study,) = open_input(got).studies
    assert study.case_id == plain.case_id
    volume, wanted = study.volumes[0].read(), plain.volumes[0].read()
    np.testing.assert_array_equal(volume.array, wanted.array)


def test_what_is_too_large_is_cut_off_and_leaves_nothing(tmp_path: Path) -> None:
    got = tmp_path / "got"
    make_series(tmp_path / "large", array=np.zeros((1200, 1200, 1), np.int16))
    small = write_study(tmp_path / "small", "one")
    with _receiving(got, "?max_mb=1") as port:
        assert _send(tmp_path / "large", port).returncode != 0
        assert _send(small, port).returncode == 0
    assert len(_files(got)) == SLICES


def test_a_sender_that_breaks_off_leaves_nothing_half(tmp_path: Path) -> None:
    got = tmp_path / "got"
    (got / ".arriving").mkdir(parents=True)
    (got / ".arriving" / "left.part").write_bytes(b"half")  # of a kill
    source = write_study(tmp_path / "in", "one")
    with _receiving(got) as port:
        cut = _Cut(port, after_bytes=20_000)
        _dcmtk("storescu", "-aec", "MEDMTL", "+sd", "127.0.0.1", cut.port, source)
        cut.end()
        assert all(pydicom.dcmread(path).PixelData for path in _files(got))
        assert 0 < len(_files(got)) < SLICES
        assert _send(source, port).returncode == 0
    assert len(_files(got)) == SLICES


class _Cut:
    """A wire between two programs that breaks after some bytes."""

    def __init__(self, port: int, *, after_bytes: int) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._child = os.fork()
        if self._child == 0:
            client, _ = self._server.accept()
            with socket.create_connection(("127.0.0.1", port)) as far:
                _pass_on(client, far, after_bytes)
            os._exit(0)

    def end(self) -> None:
        self._server.close()
        os.waitpid(self._child, 0)


def _pass_on(client: socket.socket, far: socket.socket, left: int) -> None:
    import select

    while left > 0:
        for ready in select.select([client, far], [], [], 10)[0]:
            data = ready.recv(min(4096, max(left, 1)))
            if not data:
                return
            (far if ready is client else client).sendall(data)
            left -= len(data) if ready is client else 0


def test_a_full_disk_is_told_to_the_sender(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    got = tmp_path / "got"
    source = write_study(tmp_path / "in", "one")
    with _receiving(got) as port:
        (got / ".arriving").rmdir()
        assert _send(source, port).returncode != 0
        (got / ".arriving").mkdir()
        assert _send(source, port).returncode == 0
    assert len(_files(got)) == SLICES
    messages = "".join(record.getMessage() for record in caplog.records if "medmtl" in record.name)
    assert "could not be written" in messages
    _assert_nothing_told(messages)


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with _receiving(tmp_path / "a") as port:
        second = Receiver(parse_listener(f"dimse://:{port}"), tmp_path / "b")
        with pytest.raises(ConfigError, match="in use"), second.listening():
            pass


def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    source = write_study(tmp_path / "in", "one")
    first, *_ = map(pydicom.dcmread, sorted(source.iterdir()))
    ours = TlsFiles(made.ca, made.server, made.server_key)
    with _receiving(tmp_path / "got", tls=ours.server_context()) as port:

        def target(files: TlsFiles) -> DimseTarget:
            return DimseTarget(
                parse_peer(f"dimses://MEDMTL@localhost:{port}"), files.client_context(), QUICK
            )

        with pytest.raises(PacsUnreachableError, match="--certificate"):
            target(TlsFiles(made.ca)).store(first)  # it does not say who it is
        with pytest.raises(PacsUnreachableError, match="--ca-file"):
            target(TlsFiles(None, made.client, made.client_key)).store(first)  # whom it talks to
        plain = DimseTarget(parse_peer(f"dimse://MEDMTL@localhost:{port}"), None, QUICK, 2.0)
        with pytest.raises(PacsUnreachableError):
            plain.store(first)
        assert _files(tmp_path / "got") == []
        target(TlsFiles(made.ca, made.client, made.client_key)).store(first)
        done = _dcmtk("storescu", "+tls", made.client_key, made.client, "+cf", made.ca,
                      "-aec", "MEDMTL", "+sd", "127.0.0.1", port, source)  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert len(_files(tmp_path / "got")) == SLICES


def test_pushing_twice_sends_once(orthanc: Orthanc, tmp_path: Path) -> None:
    files = _files(write_study(tmp_path / "a", "one"))
    target = DimseTarget(parse_peer(orthanc.peer), retry=QUICK)
    assert [o.status for o in push_files(target, files, root=tmp_path)] == ["sent"] * SLICES
    assert [o.status for o in push_files(target, files, root=tmp_path)] == ["present"] * SLICES
    assert len(orthanc.instances()) == SLICES


def test_an_archive_that_does_not_tell_what_it_has_has_it_once(tmp_path: Path) -> None:
    orthanc = Orthanc(tmp_path / "orthanc", answers_find=False)
    orthanc.start()
    try:
        files = _files(write_study(tmp_path / "a", "one"))
        target = DimseTarget(parse_peer(orthanc.peer), retry=QUICK)
        for _ in range(2):
            assert [o.status for o in push_files(target, files, root=tmp_path)] == ["sent"] * SLICES
        assert len(orthanc.instances()) == SLICES
    finally:
        orthanc.end()


def test_wrong_titles_and_addresses_are_said(orthanc: Orthanc, tmp_path: Path) -> None:
    first, *_ = map(pydicom.dcmread, _files(write_study(tmp_path / "a", "one")))
    for address, said in (
        (f"dimse://WRONG@localhost:{orthanc.dicom_port}", "the AET before @"),
        (f"dimse://ORTHANC@localhost:{free_port()}", "cannot be reached"),
        (f"dimse://ORTHANC@localhost:{orthanc.port}", "cannot be reached"),  # speaks HTTP
    ):
        with pytest.raises(PacsUnreachableError, match=said) as caught:
            DimseTarget(parse_peer(address), None, QUICK, 3.0).store(first)
        _assert_nothing_told(str(caught.value))


@pytest.mark.parametrize(
    ("status", "tries"), [(0xA700, 2), (0x0110, 2), (0xC000, 1), (0xA900, 1)], ids=hex
)
def test_what_may_pass_is_tried_again(tmp_path: Path, status: int, tries: int) -> None:
    answers = [status, 0x0000]
    asked: list[str] = []

    def store(event: evt.Event) -> int:
        asked.append(event.request.AffectedSOPInstanceUID)
        return answers.pop(0)

    entity = AE("PACS")
    entity.supported_contexts = AllStoragePresentationContexts
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        target = DimseTarget(
            parse_peer(f"dimse://PACS@127.0.0.1:{server.server_address[1]}"), retry=QUICK
        )
        first, *_ = map(pydicom.dcmread, _files(write_study(tmp_path / "a", "one")))
        if tries == 1:
            with pytest.raises(PacsError, match=f"status {status:04X}"):
                target.store(first)
        else:
            target.store(first)
        assert len(asked) == tries
    finally:
        server.shutdown()


@contextmanager
def _storescp(folder: Path) -> Iterator[int]:
    """DCMTK's receiver, which takes no compressed objects and answers no query."""
    if shutil.which("storescp") is None:
        pytest.skip("storescp is not installed (Debian package dcmtk)")
    folder.mkdir()
    port = free_port()
    process = subprocess.Popen(["storescp", "-od", str(folder), str(port)])  # noqa: S607
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if _dcmtk("echoscu", "127.0.0.1", port).returncode == 0:
                break
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_compressed_objects_go_uncompressed_where_need_be(tmp_path: Path) -> None:
    source = write_study(tmp_path / "in", "one")
    with _storescp(tmp_path / "got") as port:
        target = DimseTarget(parse_peer(f"dimse://STORESCP@127.0.0.1:{port}"), retry=QUICK)
        for path in source.iterdir():
            instance = pydicom.dcmread(path)
            instance.compress(JPEGLSLossless, generate_instance_uid=False)
            target.store(instance)
            assert instance.file_meta.TransferSyntaxUID == JPEGLSLossless  # not changed by sending
        instance.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"  # label map: unknown to DCMTK 3.6.7
        with pytest.raises(PacsError, match="takes no objects of this class"):
            target.store(instance)
    sent = {d.SOPInstanceUID: d.PixelData for d in map(pydicom.dcmread, source.iterdir())}
    got = map(pydicom.dcmread, (tmp_path / "got").iterdir())
    assert {d.SOPInstanceUID: d.PixelData for d in got} == sent


def test_results_of_every_kind_go_to_a_plain_receiver(tmp_path: Path, bundle: Path) -> None:
    out = tmp_path / "out"
    with _storescp(tmp_path / "got") as port:
        target = DimseTarget(parse_peer(f"dimse://STORESCP@127.0.0.1:{port}"), retry=QUICK)
        analyser = load_predictor(bundle, device="cpu", cam="all")
        formats = ("json", "seg", "sr", "pm")
        write_study(tmp_path / "in" / "study", "one")
        with Watcher.open(
            out, analyser=analyser, options=BatchOptions(formats=formats), target=target
        ) as watcher:
            assert watch_received(watcher, tmp_path / "in", settle_s=0)() == 0
    sent = [pydicom.dcmread(path) for path in out.rglob("*.dcm")]
    got = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, (tmp_path / "got").iterdir())}
    assert len(got) == len(sent) == 4
    for instance in sent:
        other = got[instance.SOPInstanceUID]
        assert (other.PatientID, other.Modality) == ("PLANTED-ID", instance.Modality)
        if "PixelData" in instance:
            np.testing.assert_array_equal(other.pixel_array, instance.pixel_array)


class _Program:
    """`medmtl watch` as a program of its own, that can be killed."""

    def __init__(self, *arguments: object, log: Path) -> None:
        self.log = log
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "medmtl", "watch", *map(str, arguments)],
                stderr=stream, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def wait_for(self, what: Any, *, seconds: float = 200) -> None:
        until = time.monotonic() + seconds
        while not what():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=30)


@pytest.mark.slow
def test_a_hospital_day(orthanc: Orthanc, tmp_path: Path, bundle: Path) -> None:
    """Studies come by C-STORE and results go by C-STORE, while both sides go down and up again."""
    one = write_study(tmp_path / "one", "one")
    two = write_study(tmp_path / "two", "two", seed=1)
    three = write_study(tmp_path / "three", "three", seed=2)
    out, log, port = tmp_path / "out", tmp_path / "log", free_port()
    arguments = (f"dimse://:{port}?from=STORESCU", "-o", out, "--push", orthanc.peer, "--settle",
                 "1", "--interval", "0.2", "--model", bundle, "--formats", "json")  # fmt: skip

    watch = _Program(*arguments, log=log)
    watch.wait_for(lambda: _has_echo_as(port))
    assert _send(one, port).returncode == 0
    watch.wait_for(lambda: len(orthanc.instances()) == 2)
    assert _send(two, port).returncode == 0
    watch.kill()  # in the middle of the second study
    assert _send(three, port).returncode != 0  # nobody there: the sender knows
    orthanc.stop()

    watch = _Program(*arguments, log=log)
    watch.wait_for(lambda: _has_echo_as(port))
    assert _send(three, port).returncode == 0
    assert _send(one, port).returncode == 0  # once more
    watch.wait_for(lambda: len(list(out.glob("*/case.json"))) == 3)
    orthanc.start()
    watch.wait_for(lambda: len(orthanc.instances()) >= 6)
    watch.kill()

    watch = _Program(*arguments, log=log)
    watch.wait_for(lambda: _has_echo_as(port))
    time.sleep(3)  # several looks, with nothing new
    watch.kill()
    held = orthanc.instances()
    assert len(held) == len(set(held)) == 6
    cases = [path.parent for path in out.glob("*/case.json")]
    for path in (path for case in cases for path in result_files(case)):
        sent = pydicom.dcmread(path)
        ref = InstanceRef(sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID)
        assert orthanc.archive().retrieve(ref) == sent
    told = log.read_text() + (out / "run.json").read_text()
    _assert_nothing_told(told + (out / ".medmtl" / "watch.jsonl").read_text())


def _has_echo_as(port: int) -> bool:
    return (
        _dcmtk("echoscu", "-aec", "MEDMTL", "-aet", "STORESCU", "127.0.0.1", port).returncode == 0
    )


@pytest.mark.slow
def test_push_from_the_command_line(orthanc: Orthanc, tmp_path: Path, bundle: Path) -> None:
    out = tmp_path / "out"
    write_study(tmp_path / "in" / "study", "one")
    analyser = load_predictor(bundle, device="cpu", cam="none")
    with Watcher.open(
        out, analyser=analyser, options=BatchOptions(formats=("json", "seg", "sr")), target=None
    ) as watcher:
        watch_received(watcher, tmp_path / "in", settle_s=0)()
    for said in ("2 result(s) sent, 0 there before", "0 result(s) sent, 2 there before"):
        done = subprocess.run(
            [sys.executable, "-m", "medmtl", "push", str(out), "--to", orthanc.peer],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert said in " ".join(done.stderr.split())
        _assert_nothing_told(done.stderr)


def test_once_and_forget_images_do_not_go_with_a_receiver(tmp_path: Path) -> None:
    for option in ("--once", "--forget-images"):
        done = subprocess.run(
            [sys.executable, "-m", "medmtl", "watch", "dimse://:11112", "-o", tmp_path, option],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "do not go with dimse" in done.stderr


def test_orthanc_sends_to_the_receiver(orthanc: Orthanc, tmp_path: Path) -> None:
    """The archive as the sender, as a routing rule in a hospital would do it."""
    for path in _files(write_study(tmp_path / "a", "one")):
        requests.post(f"http://localhost:{orthanc.port}/instances", data=path.read_bytes(),
                      auth=(USER, PASSWORD), timeout=60).raise_for_status()  # fmt: skip
    with _receiving(tmp_path / "got", "?from=ORTHANC") as port:
        modality = {"AET": "MEDMTL", "Host": "127.0.0.1", "Port": port}
        base = f"http://localhost:{orthanc.port}"
        requests.put(f"{base}/modalities/ai", json=modality, auth=(USER, PASSWORD),
                     timeout=60).raise_for_status()  # fmt: skip
        ids = requests.get(f"{base}/instances", auth=(USER, PASSWORD), timeout=60).json()
        requests.post(f"{base}/modalities/ai/store", json=ids, auth=(USER, PASSWORD),
                      timeout=60).raise_for_status()  # fmt: skip
    assert len(_files(tmp_path / "got")) == SLICES
