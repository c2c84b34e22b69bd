"""From a manifest to a bundle that answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from medmtl.build import build, train_run
from medmtl.config import DataConfig
from medmtl.core.errors import ConfigError
from medmtl.data.cases import VolumeRow
from medmtl.data.manifest import read_manifest, write_manifest
from medmtl.inference.bundle import verify_bundle
from medmtl.tracking.tracker import NoTracker
from medmtl.training.memory import OutOfMemoryError
from medmtl.training.step import TrainingDivergedError
from tests.tiny_run import configuration, write_data

if TYPE_CHECKING:
    from collections.abc import Mapping


class Notes(NoTracker):
    """A tracker that remembers the names of what it was told."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.told: list[str] = []

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        self.metrics |= metrics

    def log_dataset(self, name: str, sha256: str, context: str) -> None:
        self.told.append(f"{context} {name} {len(sha256)}")

    def log_file(self, path: Path, folder: str = "") -> None:
        self.told.append(f"{folder}/{path.name}")

    def log_figure(self, figure: Any, name: str) -> None:
        self.told.append(name)

    def log_bundle(self, folder: Path) -> None:
        self.told.append(f"bundle {folder.name}")


def test_a_joint_run_ends_in_a_bundle_and_tells_the_tracker(tmp_path: Path) -> None:
    data, notes = write_data(tmp_path / "data"), Notes()
    config = configuration(
        data,
        "head_refit={steps = 3, views = 1}",
        "calibration.min_each=1",
        deep_supervision=1,
        log_every=2,
    )
    result = train_run(config, tmp_path / "run", data_root=data, tracker=notes)
    settings = verify_bundle(result.bundle)
    assert settings.network == config.network
    assert [segment.label for segment in settings.segments] == [1, 2]
    assert settings.findings[0].calibrated
    assert len(result.scores) == result.metrics["n_cases"] == 3
    assert result.run["parameters"] > 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["name"] == "tiny"
    wanted = {"train, validation tiny 64", "bundle bundle", "/cases.csv"}
    assert wanted <= set(notes.told)
    assert {"figures/roc.png", "figures/reliability.png"} <= set(notes.told)
    assert any(name.startswith("overlays/") for name in notes.told)
    for name in (
        "train/loss/segmentation",
        "train/weight/diagnosis",
        "val/dice/liver",
        "val/loss/diagnosis",
        "step/lr",
        "step/gradient_norm",
        "step/wait_share",
        "step/norm/diagnosis",
        "step/cosine/segmentation_and_diagnosis",
        "final/mean_dice",
        "final/macro_auroc",
    ):
        assert name in notes.metrics, name


@pytest.mark.parametrize("task", ["segmentation", "diagnosis"])
def test_one_task_alone_ends_in_a_bundle_of_that_task(tmp_path: Path, task: str) -> None:
    data = write_data(tmp_path / "data")
    config = configuration(data, f"tasks=['{task}']", max_steps=2)
    result = train_run(config, tmp_path / "run", data_root=data)
    settings = verify_bundle(result.bundle)
    assert bool(settings.segments) == (task == "segmentation")
    assert bool(settings.findings) == (task == "diagnosis")
    weights = load_file(result.bundle / "weights.safetensors")
    sizes = {name: w.numel() for name, w in weights.items() if name.endswith((".weight", ".bias"))}
    decoder = sum(size for name, size in sizes.items() if "upsamples" in name)
    assert decoder > 1000
    unused = sum(sizes.values()) - result.run["parameters"]
    assert (unused >= decoder) == (task == "diagnosis"), "weights that are never learned"
    score = result.scores[0]
    assert bool(score.segments) == (task == "segmentation")
    assert bool(score.findings) == (task == "diagnosis")


@pytest.mark.parametrize(
    "changes",
    [
        ["balancer={name = 'pcgrad'}", "trainer.accumulate=2"],
        ["balancer={name = 'famo'}", "trainer.sam_rho=0.05", "network.sharing='cross_stitch'"],
        ["network.sharing='soft'", "trainer.precision='bfloat16'"],
        [
            "patch={size = [8, 8, 8]}",
            "trainer.channels_last=true",
            "trainer.batch_size=2",
            "sampling={schedule={name='dynamic_task_priority'}}",
        ],
        ["trainer.ema_decay=0.0", "trainer.deliver='last'", "data.label_fraction=0.5"],
        [
            "network.backbone={name='planar_dynunet', filters=[4, 4, 4], mixed_levels=1}",
            "trainer.channels_last=true",
        ],
    ],
)
def test_switches_work_together(tmp_path: Path, changes: list[str]) -> None:
    data = write_data(tmp_path / "data")
    config = configuration(data, *changes, "trainer.max_steps=2", "trainer.steps_per_epoch=2")
    result = train_run(config, tmp_path / "run", data_root=data)
    assert verify_bundle(result.bundle).network == config.network
    assert all(torch.isfinite(torch.tensor(value)) for value in result.history[0].values())


@pytest.mark.slow
# Both from inside torch's own compiler.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_run_learns_what_a_plain_one_learns(tmp_path: Path) -> None:
    """With a balancer on the features, which have to be met where the compiled parts meet."""
    data = write_data(tmp_path / "data")
    short = ["trainer.max_steps=2", "trainer.steps_per_epoch=2", "network.head.dropout=0.0"]
    more = [*short, "balancer={name='mgda'}", "trainer.deep_supervision=1"]
    plain, compiled = (
        train_run(
            configuration(data, *more, f"trainer.compile={setting}"),
            tmp_path / setting,
            data_root=data,
        )
        for setting in ("false", "true")
    )
    for name, value in plain.history[0].items():
        if not any(word in name for word in ("seconds", "wait", "cosine")):
            assert compiled.history[0][name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    learned = [load_file(result.bundle / "weights.safetensors") for result in (plain, compiled)]
    for name, weight in learned[0].items():
        torch.testing.assert_close(learned[1][name], weight, rtol=1e-2, atol=1e-3)


def test_divergence_names_task_and_step(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    config = configuration(data, lr=1e30, warmup_steps=0, clip_norm=1e30)
    with pytest.raises(TrainingDivergedError, match=r"step \d.*not finite.*(segm|diag|first in)"):
        train_run(config, tmp_path / "run", data_root=data)


def test_out_of_memory_in_the_delivery_is_said_as_such(tmp_path: Path) -> None:
    class Full(Notes):
        def log_bundle(self, folder: Path) -> None:
            raise MemoryError(folder)

    data = write_data(tmp_path / "data")
    with pytest.raises(OutOfMemoryError, match="Out of memory on the machine"):
        train_run(
            configuration(data, "trainer.max_steps=1"),
            tmp_path / "run",
            data_root=data,
            tracker=Full(),
        )


@pytest.mark.parametrize(
    "place",
    ["medmtl.networks.joint.JointNet.to", "medmtl.data.dataset.StudyDataset.__getitem__"],
)
def test_out_of_memory_before_the_first_step_is_said_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    data = write_data(tmp_path / "data")
    monkeypatch.setattr(place, full)
    with pytest.raises(OutOfMemoryError, match="Out of memory on the machine"):
        train_run(configuration(data), tmp_path / "run", data_root=data)


def test_an_output_that_no_case_teaches_is_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", truths=[{"big": True, "old": None}] * 8)
    config = configuration(data, "network.segments=['liver', 'speen']")
    with pytest.raises(ConfigError, match=r"segments: no .* speen; .*findings: no .* for old"):
        train_run(config, tmp_path / "run", data_root=data)


def test_edited_manifests_do_not_resume(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    config = configuration(data, max_steps=1)
    train_run(config, tmp_path / "run", data_root=data)
    train_run(config, tmp_path / "run", data_root=data, resume=True)
    manifest = read_manifest(data)
    write_manifest(replace(manifest, cases=manifest.cases[1:]), data)
    with pytest.raises(ConfigError, match=r"--resume with other manifests .* changed since"):
        train_run(config, tmp_path / "run", data_root=data, resume=True)
    write_manifest(manifest, data)
    train_run(config, tmp_path / "run", data_root=data, resume=True)


def test_a_rule_for_exclusive_findings_is_refused_before_the_training(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    config = configuration(data, "calibration.threshold={name='exclusive_accuracy'}")
    with pytest.raises(ConfigError, match="exclusive_accuracy: found findings that may occur"):
        build(config, tmp_path / "run", data_root=data)


def test_a_balancer_that_never_sees_two_tasks_is_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    manifest = read_manifest(data)
    cases = tuple(
        replace(case, findings=dict.fromkeys(case.findings))
        if number % 2
        else replace(case, volumes=(VolumeRow("image", case.volumes[0].image),))
        for number, case in enumerate(manifest.cases)
    )
    write_manifest(replace(manifest, cases=cases), data)
    config = configuration(data, "balancer={name='upgrad'}", "network.findings=['big']")
    with pytest.raises(ConfigError, match=r"never anything to balance. Set trainer.batch_size=2"):
        build(config, tmp_path / "run", data_root=data)
    config = configuration(
        data, "balancer={name='upgrad'}", "network.findings=['big']", batch_size=2
    )
    assert build(config, tmp_path / "run", data_root=data).trainer.data.sampler.tasks


def test_a_balancer_of_cases_that_teach_one_task_each_needs_two_of_them(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    apart = ["balancer={name='upgrad'}", "sampling={one_task_per_case=true}"]
    with pytest.raises(ConfigError, match=r"no training case teaches both tasks"):
        build(configuration(data, *apart), tmp_path / "run", data_root=data)
    build(configuration(data, *apart, batch_size=2), tmp_path / "run", data_root=data)
    build(configuration(data, apart[0]), tmp_path / "run", data_root=data)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([], "every case teaches both tasks"),
        (["trainer.batch_size=2"], "every batch holds each task once"),
        (["trainer.batch_size=3"], "every case teaches both tasks"),
        (["sampling.one_task_per_case=true"], ""),
        (["sampling.schedule.name='constant'"], ""),
        (["tasks=['diagnosis']"], ""),
    ],
)
def test_a_schedule_that_decides_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: list[str], said: str
) -> None:
    data = write_data(tmp_path / "data", truths=[{"big": n % 2 == 0} for n in range(8)])
    config = configuration(
        data,
        "sampling.schedule.name='dynamic_task_priority'",
        "network.findings=['big']",
        *changes,
    )
    build(config, tmp_path / "run", data_root=data)
    found = [message for message in caplog.messages if message.startswith("sampling.schedule")]
    assert len(found) == bool(said)
    assert all(said in message for message in found)


def test_cases_of_two_manifests_stay_apart_under_equal_names(tmp_path: Path) -> None:
    data = write_data(tmp_path / "a")
    write_data(tmp_path / "b")
    header = tmp_path / "b" / "manifest.toml"
    header.write_text(header.read_text().replace('"tiny"', '"other"'))
    manifests = [{"folder": str(tmp_path / x), "data_root": x} for x in ("a", "b")]
    config = configuration(data, "trainer.max_steps=1")
    config = config.model_copy(update={"data": DataConfig.model_validate({"manifests": manifests})})
    result = train_run(config, tmp_path / "run", data_root=tmp_path)
    assert len({score.case_id for score in result.scores}) == len(result.scores) == 6
    assert len({score.patient_id for score in result.scores}) == 6
    assert list((tmp_path / "run" / "overlays").glob("other.tiny*.png"))


def test_each_manifest_is_measured_on_the_findings_that_it_knows(tmp_path: Path) -> None:
    known = {"all": ("big", "old"), "some": ("big",), "masks": ()}
    for name, findings in known.items():
        manifest = read_manifest(write_data(tmp_path / name))
        schema = replace(
            manifest.schema,
            findings=tuple(spec for spec in manifest.schema.findings if spec.name in findings),
        )
        cases = tuple(
            replace(case, findings={name: case.findings[name] for name in findings})
            for case in manifest.cases
        )
        write_manifest(replace(manifest, name=name, schema=schema, cases=cases), tmp_path / name)
    manifests = [{"folder": str(tmp_path / name), "data_root": name} for name in known]
    config = configuration(tmp_path / "all", "trainer.max_steps=1")
    config = config.model_copy(update={"data": DataConfig.model_validate({"manifests": manifests})})
    result = train_run(config, tmp_path / "run", data_root=tmp_path)
    answered = {
        (score.case_id.split(".")[0], *(finding.name for finding in score.findings))
        for score in result.scores
    }
    assert answered == {(name, *findings) for name, findings in known.items()}
    assert len(result.scores) == 9


def test_every_bad_case_is_named_before_the_first_step(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    for number in (1, 6):  # one learns, one validates
        (data / f"tiny{number}_image.nii.gz").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"2 problem\(s\).*tiny1.*tiny6"):
        train_run(configuration(data), tmp_path / "run", data_root=data)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_missing_data_root_is_one_problem(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    with pytest.raises(ConfigError, match=r"data root nowhere: found no such folder.*--data-root"):
        build(configuration(data), tmp_path / "run", data_root=tmp_path / "nowhere")
