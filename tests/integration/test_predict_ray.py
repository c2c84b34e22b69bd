"""`predict --engine ray` on a real two-node cluster: the same folder, also when a node dies."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.planted_study import write_study
from tests.threshold_batch import write_studies

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

_REPOSITORY = Path(__file__).resolve().parents[2]
_STUDIES = 12
_PLANTED = (b"Planted", b"PLANTED", b"19700131")

_STORE = """
import sys
from pathlib import Path
from medmtl.data.intake import open_input
from medmtl.inference.batch import BatchOptions
from medmtl.inference.bundle_parcel import BundleParcel
from medmtl.inference.cluster import run_on_ray
source, out, model = map(Path, sys.argv[2:])
outcomes = run_on_ray(
    open_input(source), BundleParcel.of(model, backend="torch").load, address=sys.argv[1],
    device="auto", out=out, input_path=source, transfer="store",
    options=BatchOptions(formats=("nifti", "json", "png", "seg")),
)
for outcome in outcomes:
    print("case", outcome.case_id, outcome.status)
"""

_DEADLY = """
import sys
from pathlib import Path
from medmtl.inference.cluster import run_on_ray
from tests.ray_cluster import deadly
from tests.threshold_batch import list_studies
source, out = map(Path, sys.argv[2:])
for outcome in run_on_ray(list_studies(source), deadly, address=sys.argv[1], device="auto", out=out,
                          input_path=source):
    print("case", outcome.case_id, outcome.status, outcome.failure and outcome.failure.code)
"""

_JOBS = """
import json, sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print("jobs", json.dumps([job["Entrypoint"] for job in ray._private.state.state.job_table()]))
"""


@dataclass(frozen=True)
class _Cluster:
    process: subprocess.Popen[str]
    address: str
    logs: Path

    def do(self, what: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == what


@pytest.fixture(scope="module")
def cluster() -> Iterator[_Cluster]:
    command = [sys.executable, "-m", "tests.ray_cluster"]
    with subprocess.Popen(
        command, cwd=_REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address, logs = process.stdout.readline().split()
        yield _Cluster(process, address, Path(logs))
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies of a person whose name is in the headers and in the folder's name; one is damaged."""
    folder = tmp_path_factory.mktemp("Planted^Person")
    for number in range(_STUDIES):
        write_study(folder / f"s{number:02d}", f"study{number}", seed=number)
    damaged = folder / "s03" / "study3_0004"
    damaged.write_bytes(damaged.read_bytes()[:-300])
    return folder


def _predict(source: Path, out: Path, bundle: Path, *options: str) -> list[str]:
    return [
        sys.executable, "-m", "medmtl", "predict", str(source), "-o", str(out),
        "--model", str(bundle), "--backend", "torch", "--formats", "nifti,json,png,seg", *options,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def local(source: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("local") / "out"
    done = subprocess.run(
        _predict(source, out, bundle), cwd=_REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr  # one study is damaged
    return _content(out)


def _content(out: Path) -> dict[str, Any]:
    """Every visible file, without what must differ: seconds, and what this run did."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_dir() or name.startswith(".medmtl"):
            continue
        found[name] = path.read_bytes()
        if path.suffix == ".json":
            record = json.loads(found[name])
            found[name] = {k: v for k, v in record.items() if k not in ("timings_s", "this_run")}
    return found


_ATTEMPTS = 6
"""A fast machine may have done everything before the second worker has begun."""


def test_a_node_that_is_killed_loses_nothing(
    cluster: _Cluster, source: Path, bundle: Path, local: dict[str, Any], tmp_path: Path
) -> None:
    for attempt in range(_ATTEMPTS):
        out = tmp_path / f"out{attempt}"
        said = _said_while_a_node_dies(cluster, _predict(source, out, bundle, "--engine", "ray",
                                                         "--address", cluster.address))  # fmt: skip
        decided = Counter(line.split()[1] for line in said if line.rstrip().endswith(" s"))
        assert len(decided) == _STUDIES - 1
        assert set(decided.values()) == {1}
        assert _content(out) == local
        areas = (out / ".medmtl" / area for area in ("partial", "locks"))
        assert [path for area in areas for path in area.iterdir()] == []
        if any("was lost" in line for line in said):
            assert any("goes to another worker" in line for line in said), said
            return
    pytest.fail(f"in {_ATTEMPTS} runs no node died at work")


def _said_while_a_node_dies(cluster: _Cluster, command: list[str]) -> list[str]:
    """The lines of a run; its second node is killed as soon as both have a worker."""
    cluster.do("add")
    said: list[str] = []
    with subprocess.Popen(command, cwd=_REPOSITORY, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            said.append(line)
            if sum("is ready" in one for one in said) == 2:
                break
        cluster.do("kill")
        said += run.stderr.readlines()
    assert run.returncode == 1, said
    return said


def test_machines_that_share_no_folder_get_the_files_and_send_theirs_back(
    cluster: _Cluster, source: Path, bundle: Path, local: dict[str, Any], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _STORE, cluster.address, str(source), str(tmp_path / "out"),
               str(bundle)]  # fmt: skip
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cases = [line.split() for line in done.stdout.splitlines() if line.startswith("case ")]
    assert Counter(status for _, _, status in cases) == {"done": _STUDIES - 1}
    assert _content(tmp_path / "out") == local


def test_a_case_that_kills_its_workers_fails_alone(cluster: _Cluster, tmp_path: Path) -> None:
    write_studies(tmp_path / "in", 5)
    command = [sys.executable, "-c", _DEADLY, cluster.address, str(tmp_path / "in"),
               str(tmp_path / "out")]  # fmt: skip
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cases = {line for line in done.stdout.splitlines() if line.startswith("case ")}
    good = {f"case case{number:02d} done None" for number in (0, 1, 3, 4)}
    assert cases == good | {"case case02 failed worker-died"}
    assert "worker-died" in (tmp_path / "out" / "failures.csv").read_text()


def test_the_job_table_has_no_command_line_of_ours(cluster: _Cluster, tmp_path: Path) -> None:
    """Ray notes that of every program, also of the one that looks: ours would name the input."""
    write_studies(tmp_path / "Planted^Job", 1)
    command = [sys.executable, "-c", _DEADLY, cluster.address, str(tmp_path / "Planted^Job"),
               str(tmp_path / "out")]  # fmt: skip
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False)
    assert "case case00 done None" in done.stdout.splitlines(), done.stderr
    look = [sys.executable, "-c", _JOBS, cluster.address, "Planted^Witness"]
    said = subprocess.run(look, cwd=_REPOSITORY, capture_output=True, text=True, check=True).stdout
    (jobs,) = (json.loads(line[5:]) for line in said.splitlines() if line.startswith("jobs "))
    assert [job for job in jobs if "Planted" in job] == [job for job in jobs if "Witness" in job]
    assert sum("Witness" in job for job in jobs) == 1
    assert "medmtl" in jobs


def test_rays_logs_know_no_patient(cluster: _Cluster, local: dict[str, Any]) -> None:
    files = [path for path in cluster.logs.rglob("*") if path.is_file()]
    assert any(path.name.startswith("raylet") for path in files)
    for path in files:
        assert not any(word in path.read_bytes() for word in _PLANTED), path
