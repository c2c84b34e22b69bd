"""What goes to other machines: seats, studies without their files, bundles, what a worker does."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medmtl.core.errors import BundleError, MedmtlError
from medmtl.data.intake import open_input
from medmtl.inference.bundle_parcel import BundleParcel
from medmtl.inference.cluster_seats import Seat, seats_of
from medmtl.inference.cluster_worker import CaseWorker, Facts, Order, Probe, Worked, bytes_of
from medmtl.report.table import Failure
from tests.planted_study import write_study
from tests.threshold_batch import ThresholdAnalyser, list_studies, write_studies
from tests.tiny_bundle import torso_settings, write_tiny

pytest.importorskip("ray")
from medmtl.inference.parcel import Parcel

if TYPE_CHECKING:
    from medmtl.core.study import Study

GIB = 2**30


def _node(name: str, resources: dict[str, float], *, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("resources", "device", "expected"),
    [
        ({"CPU": 1}, "auto", [("cpu", 1)]),
        ({"CPU": 16}, "auto", [("cpu", 4)] * 4),
        ({"CPU": 16, "memory": 9 * GIB}, "auto", [("cpu", 8)] * 2),
        ({"CPU": 16, "GPU": 2}, "auto", [("cuda", 4)] * 2),
        ({"CPU": 2, "GPU": 4}, "cuda", [("cuda", 0)] * 4),
        ({"CPU": 16, "GPU": 2}, "cpu", [("cpu", 4)] * 4),
        ({"CPU": 16}, "cuda", []),
        ({}, "auto", []),
    ],
)
def test_one_seat_per_gpu_or_per_four_cores_with_memory(
    resources: dict[str, float], device: str, expected: list[tuple[str, int]]
) -> None:
    seats = seats_of([_node("a", resources)], device)
    assert [(seat.device, seat.cores) for seat in seats] == expected
    assert len(set(seats)) == len(seats)


def test_a_dead_machine_has_no_seat() -> None:
    nodes = [_node("a", {"CPU": 4}, alive=False), _node("b", {"CPU": 4})]
    assert seats_of(nodes, "auto") == [Seat("b", 0, "cpu", 4)]


def _studies(tmp_path: Path, kind: str) -> tuple[Study, ...]:
    if kind == "nifti":
        write_studies(tmp_path / "in", 1)
        return open_input(tmp_path / "in").studies
    write_study(tmp_path / "in", "one")
    if kind == "dicom":
        return open_input(tmp_path / "in").studies
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for path in (tmp_path / "in").iterdir():
            archive.write(path, path.name)
    return open_input(tmp_path / "in.zip").studies


@pytest.mark.parametrize("kind", ["dicom", "zip", "nifti"])
def test_a_study_is_read_the_same_where_its_files_lie_elsewhere(tmp_path: Path, kind: str) -> None:
    (study,) = _studies(tmp_path, kind)
    parcel = Parcel.of(study)
    (tmp_path / "elsewhere").mkdir()
    places = [tmp_path / "elsewhere" / f"{n}{path.suffix}" for n, path in enumerate(parcel.files)]
    for path, place in zip(parcel.files, places, strict=True):
        shutil.copy(path, place)
    here = study.volumes[0].read()
    for path in parcel.files:
        path.unlink()
    there = parcel.opened(places).volumes[0].read()
    assert np.array_equal(there.array, here.array)
    assert there.geometry.is_close(here.geometry, tolerance_voxel=0)
    assert (there.id, there.path, there.flags) == (here.id, here.path, here.flags)
    assert parcel.opened().case_id == study.case_id


def test_a_parcel_shows_nothing_of_what_is_in_it(tmp_path: Path) -> None:
    (study,) = _studies(tmp_path / "Planted", "dicom")
    assert "lanted" not in repr(Parcel.of(study))


def _worker(analyser: ThresholdAnalyser | None = None) -> CaseWorker:
    worker = CaseWorker(lambda: analyser or ThresholdAnalyser(), is_alone=False)
    assert isinstance(worker.start(Probe(None, None)), Facts)
    return worker


def _order(study: Study, folder: Path | None) -> Order:
    return Order(study.case_id, Parcel.of(study), {"source": "x"}, ("json", "nifti"), folder)


def test_a_worker_sends_back_what_it_would_have_written(tmp_path: Path) -> None:
    write_studies(tmp_path / "in", 1)
    (study,) = list_studies(tmp_path / "in").studies
    order = _order(study, tmp_path / "there")
    by_path = _worker().work(order)
    sent = _worker().work(_order(study, None), [bytes_of(path) for path in order.parcel.files])
    assert isinstance(by_path, Worked)
    assert by_path.files is None
    assert isinstance(sent, Worked)
    assert sent.files is not None
    written = {p.relative_to(tmp_path / "there").as_posix(): p.read_bytes()
               for p in (tmp_path / "there").rglob("*") if p.is_file()}  # fmt: skip
    assert set(sent.files) == set(written)
    for name in set(written) - {"case.json"}:  # which holds seconds
        assert sent.files[name].tobytes() == written[name]


def test_what_goes_wrong_in_a_worker_is_a_line_without_its_text(tmp_path: Path) -> None:
    write_studies(tmp_path / "in", 1)
    (study,) = list_studies(tmp_path / "in").studies
    broken = ThresholdAnalyser(broken={study.case_id: ValueError("Planted^Person")})
    failure = _worker(broken).work(_order(study, None))
    assert isinstance(failure, Failure)
    assert failure.code == "unexpected-error"
    assert "Planted" not in str(failure)


def test_a_model_that_cannot_be_loaded_is_said_and_not_raised() -> None:
    def load() -> ThresholdAnalyser:
        raise BundleError("altered")

    said = CaseWorker(load, is_alone=False).start(Probe(None, None))
    assert isinstance(said, MedmtlError)
    assert str(said) == "altered"


def test_a_worker_knows_the_drivers_folders_by_a_file_in_each(tmp_path: Path) -> None:
    here = tmp_path / "file"
    here.write_bytes(b"1")
    status = here.stat()
    probe = Probe((here, status.st_size, status.st_mtime_ns), here)
    assert (probe.sees_source(), probe.sees_token()) == (True, True)
    other = Probe((here, status.st_size, status.st_mtime_ns + 1), tmp_path / "none")
    assert (other.sees_source(), other.sees_token()) == (False, False)


def test_a_sent_bundle_is_the_same_model(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny", torso_settings())
    parcel = BundleParcel.of(tmp_path / "tiny", backend="torch")
    here = parcel.load("cpu").identity
    shutil.rmtree(tmp_path / "tiny")
    assert parcel.load("cpu").identity == here
