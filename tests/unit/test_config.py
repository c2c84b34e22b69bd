"""Settings: defaults, files and `--set`; all problems at once, with the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from medmtl.config import TrainConfig, load_config
from medmtl.core.errors import ConfigError
from pipelines.train import find_config
from tests.tiny_run import configuration, settings, write_configuration

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "pipelines" / "configs").glob("*.toml"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_configuration(tmp_path, tmp_path / "bad.toml")


def problems_of(file: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_whole_and_opens_with_its_command(path: Path) -> None:
    config = load_config(path)
    program = "compare" if path.stem.endswith("_compare") else "train"
    assert f"medmtl {program} {path.stem} " in path.read_text(encoding="utf-8").split("\n\n")[0]
    assert config.network_of_tasks() is not None


def test_the_named_configurations_are_there() -> None:
    wanted = {"acdc_joint", "acdc_segmentation", "acdc_diagnosis", "acdc_compare"}
    assert wanted | {"torso_phantom", "hippocampus"} <= {path.stem for path in SHIPPED}


def test_a_name_is_the_shipped_file_and_a_folder_of_that_name_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = find_config("hippocampus")
    assert load_config(shipped).name == "hippocampus"
    (tmp_path / "hippocampus").mkdir()  # such as a manifest
    assert find_config("hippocampus") == shipped
    (tmp_path / "mine.toml").touch()
    assert find_config("mine.toml") == Path("mine.toml")
    for missing in ("nosuch", "folder/hippocampus"):
        with pytest.raises(ConfigError, match=r"no such file.*acdc_joint.*hippocampus"):
            find_config(missing)


def test_a_balancer_says_nothing_of_tasks_that_are_not_learned(tmp_path: Path) -> None:
    weighed = "balancer={name='fixed', weights={diagnosis=2.0, segmentation=3.0}}"
    joint, alone = (
        configuration(tmp_path, weighed, *more) for more in ((), ("tasks=['diagnosis']",))
    )
    assert joint.balancer_of_tasks() == joint.balancer
    assert alone.balancer_of_tasks().model_dump()["weights"] == {"diagnosis": 2.0}
    typo = configuration(tmp_path, "balancer={name='fixed', weights={diagnoses=2.0}}")
    assert typo.balancer_of_tasks() == typo.balancer, "which `build_balancer` refuses"


def test_all_problems_are_named_at_once_with_the_nearest_key(file: Path) -> None:
    first, *others = problems_of(
        file, "trainer.max_epoch=5", "trainer.lr=-1", "network.backbone.filter=[3]"
    )
    assert first == "bad.toml: 3 problem(s)"
    assert "  trainer.max_epoch: unknown key; did you mean 'max_epochs'?" in others
    assert "  network.backbone.filter: unknown key; did you mean 'filters'?" in others
    assert any(line.startswith("  trainer.lr: ") and "found -1" in line for line in others)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trainer", "expected key=value"),
        ("bundle.name=foo", "text needs quotes"),
        ("data.manifests.3.folder='x'", "data.manifests is a list of 1"),
        ("name.x=1", "name is a value, not a table"),
        ("balancer={name='nonesuch'}", "balancer"),
        ("balancer={name='dwa', temprature=2.0}", "did you mean 'temperature'?"),
        ("tasks=[]", "tasks"),
        ("network.segments=[]", "tasks has segmentation, but network.segments is empty"),
        ("network.head.pooling=['mask']", "must start with 'global'"),
        ("trainer.max_steps='many'", "trainer.max_steps"),
        ("bundle.components.keep_largest=['heart']", "bundle names segments ['heart']"),
        ("bundle.input={kind='single'}", "bundle.input.modality is missing"),
    ],
)
def test_a_wrong_override_is_one_problem_that_says_what(
    file: Path, override: str, said: str
) -> None:
    first, *lines = problems_of(file, override)
    assert first == "bad.toml: 1 problem(s)"
    assert said in "\n".join(lines)


def test_a_missing_value_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("name = 'x'\n", encoding="utf-8")
    text = "\n".join(problems_of(path))
    for name in ("data", "preprocessing", "network", "trainer", "bundle"):
        assert f"  {name}: missing" in text


def test_overrides_are_stronger_than_the_file_and_the_last_one_wins(file: Path) -> None:
    config = load_config(
        file,
        ["trainer.lr=0.5", "trainer.lr=0.25", "data.manifests.0.data_root='x'", "seed=7"],
    )
    assert config.trainer.lr == 0.25
    assert config.data.manifests[0].data_root == "x"
    assert config.seed == 7
    assert config.trainer.max_steps == load_config(file).trainer.max_steps


def test_the_balancer_chooses_its_own_parameters(tmp_path: Path) -> None:
    config = configuration(tmp_path, "balancer={name='dwa', temperature=3.0}")
    assert config.balancer.model_dump()["temperature"] == 3.0


def test_no_toml_is_said(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("a = ", encoding="utf-8")
    assert "no TOML" in problems_of(path)[0]
    assert "cannot be read" in problems_of(tmp_path / "absent.toml")[0]


def test_tasks_switch_parts_of_the_network_off(tmp_path: Path) -> None:
    both = configuration(tmp_path, "network.head.measurements='torso'")
    masks = both.model_copy(update={"tasks": ("segmentation",)}).network_of_tasks()
    findings = both.model_copy(update={"tasks": ("diagnosis",)}).network_of_tasks()
    assert both.network_of_tasks() == both.network
    assert (masks.findings, masks.head, masks.has_segmentation) == ((), None, True)
    assert (findings.segments, findings.has_segmentation) == ((), False)
    assert findings.head is not None
    assert findings.head.measurements is None
    assert findings.head.pooling == ("global", "attention")
    assert findings.backbone == masks.backbone == both.network.backbone


def test_every_field_is_described() -> None:
    def check(model: type[BaseModel]) -> None:
        text = model.__doc__ or ""
        assert all(f"{name}:" in text for name in model.model_fields), model.__name__

    import medmtl.config

    for name in medmtl.config.__all__:
        found = getattr(medmtl.config, name)
        if isinstance(found, type):
            check(found)


def test_a_resolved_configuration_reads_back_the_same(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    again = TrainConfig.model_validate(config.model_dump(mode="json", exclude_none=True))
    assert again == config
    assert settings(tmp_path)["name"] == again.name
