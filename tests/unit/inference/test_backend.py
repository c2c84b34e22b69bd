"""OpenVINO gives torch's answers, from a checked cache, and is refused where it cannot run."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from medmtl.core.errors import ConfigError
from medmtl.core.prediction import Prediction
from medmtl.data.intake import open_input
from medmtl.imports.nnunet import import_nnunet
from medmtl.inference.backend import check_backend, give_engine, map_levels, verify_quantised
from medmtl.inference.bundle import load_bundle, shipped_bundles
from medmtl.inference.openvino_cache import ConvertedCache
from medmtl.inference.openvino_engine import (
    OpenVinoEngine,
    convert,
    is_installed,
    lent_outputs,
    openvino_quietly,
    own_floats,
    read_levels,
)
from medmtl.inference.openvino_sizes import SizedNetwork
from medmtl.inference.operating_point import OperatingPoint
from medmtl.inference.parity import Measured, Pair, ParityReport
from medmtl.inference.plans_predictor import PlansPredictor
from medmtl.inference.predictor import Predictor, load_predictor
from medmtl.inference.quantise import trials
from medmtl.networks.fast_layers import FastConv
from medmtl.networks.inference_form import InferenceForm
from medmtl.networks.joint import JointNet, NetworkConfig
from medmtl.networks.planar import PlanarDynUNetConfig
from medmtl.networks.soft_sharing import Sharing
from medmtl.phantom import generate_cine, generate_torso, write_cine_study, write_torso_study
from pipelines.__main__ import app
from pipelines.recipes.torso_manifest import main as write_torsos
from tests.nnunet_folder import dataset, plans, write_folder
from tests.tiny_bundle import image, reference, study, torso_settings, write_tiny

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs openvino")

CPU = torch.device("cpu")


@pytest.fixture
def torso(tmp_path: Path) -> Path:
    write_tiny(tmp_path / "torso", torso_settings())
    return tmp_path / "torso"


def predict(folder: Path, backend: str, cache: Path | None = None) -> Prediction:
    predictor = load_predictor(folder, device="cpu", backend=backend, cache=cache)
    assert isinstance(predictor, Predictor)
    assert predictor.settings["backend"] == backend
    volume = image()
    case = study([reference(volume)])
    return predictor.analyse(case, [volume])


def check_parity(found: Prediction, expected: Prediction) -> None:
    for ours, theirs in zip(found.volumes, expected.volumes, strict=True):
        assert (ours.label_map == theirs.label_map).mean() >= 0.9999
    for mine, other in zip(found.findings, expected.findings, strict=True):
        assert mine.probability == pytest.approx(other.probability, abs=1e-3)
        assert mine.decision == other.decision
        assert mine.cams.keys() == other.cams.keys()
        for name, cam in mine.cams.items():
            difference = np.abs(cam.array - other.cams[name].array)
            assert (difference <= 5e-3).mean() >= 0.9999


def test_the_answers_of_random_networks_are_those_of_torch(torso: Path, tmp_path: Path) -> None:
    check_parity(predict(torso, "openvino", tmp_path / "cache"), predict(torso, "torch"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(shipped_bundles()))
def test_the_answers_of_every_shipped_bundle_are_those_of_torch(name: str, tmp_path: Path) -> None:
    if name == "cardiac-mr":
        write_cine_study(tmp_path, generate_cine(7, phases=2), seed=7)
    else:
        write_torso_study(tmp_path, generate_torso(7, spacing_mm=(4, 4, 4)), seed=7)
    (case,) = open_input(tmp_path).studies
    answers = []
    for backend in ("openvino", "torch"):
        predictor = load_predictor(name, device="cpu", backend=backend)
        volumes = [ref.read() for ref in predictor.select(case)]
        answers.append(predictor.analyse(case, volumes))
    check_parity(*answers)


@pytest.mark.parametrize("sharing", ["hard", "soft"])
def test_features_are_in_their_places_and_of_any_size(sharing: Sharing) -> None:
    """Converted at one size, run at others; of two encoders the diagnosis reads the second."""
    torch.manual_seed(0)
    config = NetworkConfig(
        backbone=PlanarDynUNetConfig(filters=(4, 8, 8)), slice_context=1, segments=("a",),
        sharing=sharing,
    )  # fmt: skip
    net = JointNet(config).eval().requires_grad_(False)
    engine = OpenVinoEngine(net, maps=(-2, -1), cache=None)
    for shape in ((1, 1, 3, 16, 24), (1, 1, 5, 8, 8)):
        stem = net.context(torch.randn(shape))
        features, logits = engine(stem)
        expected, expected_logits = net.encode_and_decode(stem)
        torch.testing.assert_close(logits, expected_logits, atol=1e-4, rtol=1e-4)
        found = net.diagnosis_features(features)
        for level in (-2, -1):
            wanted = net.diagnosis_features(expected)[level]
            torch.testing.assert_close(found[level], wanted, atol=1e-4, rtol=1e-4)


def test_threads_run_one_engine_side_by_side_each_with_memory_of_its_own() -> None:
    """What an engine lends in one thread is not written by another, on other inputs."""
    torch.manual_seed(0)
    config = NetworkConfig(
        backbone=PlanarDynUNetConfig(filters=(4, 8, 8)), slice_context=1, segments=("a",)
    )
    net = JointNet(config).eval().requires_grad_(False)
    engine = OpenVinoEngine(net, maps=(-1,), cache=None)
    stems = [net.context(torch.randn((1, 1, 4, 16, 24))) for _ in range(2)]
    expected = [net.encode_and_decode(stem)[1] for stem in stems]
    meeting = threading.Barrier(2, timeout=20)

    def run(number: int) -> None:
        for _ in range(20):
            with lent_outputs(engine):
                logits = engine(stems[number])[1]
                meeting.wait()  # both are lent now
                torch.testing.assert_close(logits, expected[number], atol=1e-4, rtol=1e-4)
                meeting.wait()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, range(2))) == [None, None]


def test_a_compiled_network_outlives_the_thread_that_ran_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lanes of a batch come and go: what one leaves the next one takes, on as many cores."""
    config = NetworkConfig(
        backbone=PlanarDynUNetConfig(filters=(4, 8, 8)), slice_context=1, segments=("a",)
    )
    net = JointNet(config).eval().requires_grad_(False)
    engine = OpenVinoEngine(net, maps=(-1,), cache=None)
    stem = net.context(torch.randn((1, 1, 4, 16, 24)))
    expected = net.encode_and_decode(stem)[1]
    compiled: list[object] = []
    inner = SizedNetwork._compile

    def compile_and_note(self: SizedNetwork, model: Any) -> Any:
        compiled.append(self._settings)
        return inner(self, model)

    monkeypatch.setattr(SizedNetwork, "_compile", compile_and_note)

    def run(cores: int) -> None:
        torch.set_num_threads(cores)
        with lent_outputs(engine):
            torch.testing.assert_close(engine(stem)[1], expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(engine(stem)[1], expected, atol=1e-4, rtol=1e-4)

    before = torch.get_num_threads()
    for cores, count in ((1, 1), (1, 1), (2, 2), (2, 2), (1, 3)):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(run, cores).result()
        assert len(compiled) == count
    torch.set_num_threads(before)


def test_a_network_is_converted_once_and_again_where_the_cache_is_damaged(
    torso: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    net = load_bundle(torso).net.requires_grad_(False)
    OpenVinoEngine(net, maps=(-1,), cache=cache)
    (place,) = cache.iterdir()
    written = (place / "model.bin").stat().st_mtime_ns
    OpenVinoEngine(net, maps=(-1,), cache=cache)
    assert (place / "model.bin").stat().st_mtime_ns == written
    content = (place / "model.bin").read_bytes()
    (place / "model.bin").write_bytes(content[:-1] + b"\x00")
    OpenVinoEngine(net, maps=(-1,), cache=cache)
    assert (place / "model.bin").read_bytes() == content
    with torch.no_grad():
        next(net.parameters()).add_(1)
    OpenVinoEngine(net, maps=(-1,), cache=cache)
    assert len(list(cache.iterdir())) == 2


def test_nothing_is_reported_to_anybody(torso: Path) -> None:
    """OpenVINO would send statistics of use to a server, and note it under the home folder."""
    code = (
        "import sys, socket\n"
        "socket.socket.connect = socket.getaddrinfo = lambda *a, **k: sys.exit('network')\n"
        "from medmtl.inference.predictor import load_predictor\n"
        "load_predictor(sys.argv[1], device='cpu', backend='openvino')\n"
    )
    home = torso.parent / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home)}
    subprocess.run([sys.executable, "-c", code, str(torso)], env=environment, check=True)
    assert not (home / "intel").exists()


def test_a_cache_that_cannot_be_written_is_only_slower(torso: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    assert predict(torso, "openvino", tmp_path / "file" / "cache").findings


def test_what_openvino_cannot_convert_goes_to_torch_unless_it_was_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Strange(JointNet):
        def encode_and_decode(
            self, stem_bckji: torch.Tensor
        ) -> tuple[list[torch.Tensor], torch.Tensor]:
            raise RuntimeError("no graph can be made of this")

    settings = torso_settings()
    net = Strange(settings.network).eval()
    with caplog.at_level(logging.WARNING):
        assert give_engine(net, settings, backend="auto", device=CPU, cache=None) == "torch"
    assert isinstance(net.engine, InferenceForm)
    assert "torch is used instead" in caplog.text
    with pytest.raises(ConfigError, match="cannot convert"):
        give_engine(net, settings, backend="openvino", device=CPU, cache=None)


def test_a_network_whose_inference_form_answers_otherwise_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = torso_settings()
    net = JointNet(settings.network).eval()
    monkeypatch.setattr(FastConv, "forward", lambda _, x, **__: x * 0)
    with caplog.at_level(logging.WARNING):
        assert give_engine(net, settings, backend="torch", device=CPU, cache=None) == "torch"
    assert net.engine is None
    assert "gives other answers" in caplog.text


def test_a_backend_that_cannot_run_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match="auto, torch, openvino, int8"):
        check_backend("onnx", CPU)
    with pytest.raises(ConfigError, match="--device cpu"):
        check_backend("openvino", torch.device("cuda"))


def report(**fields: Any) -> ParityReport:
    """Of a network that answers the same."""
    same = Pair(full=0.9, int8=0.9)
    measured = Measured(
        n_cases=1, mean_dice=same, dice={"lung": same}, macro_auroc=same, auroc={"large": same},
        decisions=100, decisions_equal=1.0,
    ).model_copy(update=fields)  # fmt: skip
    return ParityReport(
        model="tiny 0", cases="made:val", n_calibration=1, kept_layers=(), network_s=same,
        measured=measured,
    )  # fmt: skip


def keep_quantised(folder: Path, cache: Path, parity: ParityReport) -> Path:
    """What `quantise` keeps, with a report of our own; the network is in full precision."""
    bundle = load_bundle(folder)
    levels = read_levels(bundle.net, map_levels(bundle.settings))
    kept = ConvertedCache(cache)
    place = kept.place(bundle.net, levels, precision="int8")
    model = convert(bundle.net.requires_grad_(False), levels)
    assert kept.keep(model, place, save=openvino_quietly().save_model, report=parity)
    return place


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mean_dice": Pair(full=0.9, int8=0.8949)}, "mean Dice differs by 0.0051"),
        ({"macro_auroc": Pair(full=0.9, int8=0.9051)}, "macro AUROC differs by 0.0051"),
        ({"macro_auroc": Pair(full=None, int8=None)}, "macro AUROC is not defined"),
        ({"decisions_equal": 0.98}, "decisions equal in 98.00%"),
        ({"dice": {}, "decisions": 0}, "nothing was compared"),
    ],
)
def test_int8_without_parity_is_refused(
    torso: Path, tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    keep_quantised(torso, tmp_path / "cache", report(**fields))
    for use in (
        lambda: predict(torso, "int8", tmp_path / "cache"),
        lambda: verify_quantised(load_bundle(torso), cache=tmp_path / "cache"),
    ):
        with pytest.raises(ConfigError, match=reason):
            use()


def test_int8_with_parity_is_used_until_it_is_touched(torso: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(ConfigError, match="models quantise"):
        predict(torso, "int8", cache)
    assert verify_quantised(load_bundle(torso), cache=cache) is None
    place = keep_quantised(torso, cache, report())
    check_parity(predict(torso, "int8", cache), predict(torso, "torch"))
    assert verify_quantised(load_bundle(torso), cache=cache) == report()
    text = (place / "parity.json").read_text(encoding="utf-8")
    (place / "parity.json").write_text(text.replace("0.9", "0.8"), encoding="utf-8")
    with pytest.raises(ConfigError, match="altered or damaged"):
        predict(torso, "int8", cache)
    (place / "parity.json").unlink()
    with pytest.raises(ConfigError, match="altered or damaged"):
        verify_quantised(load_bundle(torso), cache=cache)


def test_int8_runs_in_what_its_report_was_measured_in(torso: Path, tmp_path: Path) -> None:
    """Weights are in full precision here, so what changes the logits are the other layers."""
    torch.manual_seed(0)
    bundle = load_bundle(torso)
    net = bundle.net.eval().requires_grad_(False)
    stem = net.context(torch.randn(1, 1, 16, 16, 16))
    with torch.no_grad():
        _, expected = net.encode_and_decode(stem)
    errors = {}
    for floats in ("f32", own_floats()):
        cache = tmp_path / floats
        keep_quantised(torso, cache, report().model_copy(update={"floats": floats}))
        engine = OpenVinoEngine(
            net, maps=map_levels(bundle.settings), cache=cache, precision="int8"
        )
        assert engine.floats == floats
        _, logits = engine(stem)
        assert logits.dtype == torch.float32
        errors[floats] = float((logits - expected).abs().max() / expected.std())
    assert errors["f32"] < 1e-4
    assert all(1e-4 < error < 0.1 for floats, error in errors.items() if floats == "bf16")


def test_a_report_of_bfloat16_is_refused_where_the_processor_has_none(
    torso: Path, tmp_path: Path
) -> None:
    in_bfloat16 = report().model_copy(update={"floats": "bf16"})
    place = keep_quantised(torso, tmp_path, in_bfloat16)
    bundle, kept = load_bundle(torso), ConvertedCache(tmp_path)
    levels = read_levels(bundle.net, map_levels(bundle.settings))
    with pytest.raises(
        ConfigError, match=r"bfloat16, which this processor does not have.*quantise"
    ):
        kept.quantised(bundle.net, levels, processor="f32")
    assert kept.quantised(bundle.net, levels, processor="bf16") == (place, in_bfloat16)


def test_a_report_that_does_not_say_it_was_measured_in_single_precision() -> None:
    """Those of before bfloat16 was used: they hold, for single precision."""
    fields = report().model_dump(mode="json", exclude={"floats"})
    assert ParityReport.model_validate(fields).floats == "f32"


def test_full_precision_stays_out_of_bfloat16(torso: Path) -> None:
    net = load_bundle(torso).net.eval().requires_grad_(False)
    assert OpenVinoEngine(net, maps=(-1,), cache=None).floats == "f32"


def test_an_imported_network_on_openvino_leaves_its_weights_to_it(tmp_path: Path) -> None:
    """Its engine answers on, and another one takes its place, as where it is quantised."""
    folder = tmp_path / "bundle"
    import_nnunet(write_folder(tmp_path / "model", plans=plans(), dataset=dataset()), folder)
    loaded = {
        backend: load_predictor(folder, device="cpu", backend=backend, speed="fast", cache=tmp_path)
        for backend in ("torch", "openvino")
    }
    for backend, one in loaded.items():
        assert isinstance(one, PlansPredictor)
        net, converted = one.bundle.net, one.nets[0]
        assert {weight.is_meta for weight in net.parameters()} == {backend == "openvino"}
    whole = load_bundle(folder).net.eval().requires_grad_(False)
    patch = torch.randn(1, 1, 8, 8, 8)
    expected = whole.torch_pass(patch)[1]
    answer: Any = converted
    for _ in range(2):
        found = answer.decode(answer.encode(patch))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
        net.engine = OpenVinoEngine(net, maps=(), cache=None, model=convert(whole, ()))


def test_an_imported_network_in_int8_is_used_where_another_answer_is_allowed(
    tmp_path: Path,
) -> None:
    cache, folder = tmp_path / "cache", tmp_path / "bundle"
    import_nnunet(write_folder(tmp_path / "model", plans=plans(), dataset=dataset()), folder)
    assert map_levels(load_bundle(folder).settings) == ()
    with pytest.raises(ConfigError, match="models quantise"):
        load_predictor(folder, device="cpu", backend="int8", cache=cache, speed="fast")
    keep_quantised(folder, cache, report())
    assert verify_quantised(load_bundle(folder), cache=cache) == report()
    for speed in ("balanced", "fast"):
        loaded = load_predictor(folder, device="cpu", backend="int8", cache=cache, speed=speed)
        assert loaded.settings["backend"] == "int8"
    with pytest.raises(ConfigError, match="authors' answer on torch only"):
        load_predictor(folder, device="cpu", backend="int8", cache=cache)


def test_a_speed_that_wants_int8_does_without_where_it_was_not_made(tmp_path: Path) -> None:
    folder, cache = tmp_path / "torso", tmp_path / "cache"
    write_tiny(folder, torso_settings(speeds={"fast": OperatingPoint(backend="int8")}))

    def fast() -> str:
        loaded = load_predictor(folder, device="cpu", backend="auto", cache=cache, speed="fast")
        return str(loaded.settings["backend"])

    assert fast() == "openvino"
    keep_quantised(folder, cache, report())
    assert fast() == "int8"


def test_bfloat16_is_tried_first_where_the_processor_has_it_and_single_precision_then() -> None:
    alone, both = trials("f32"), trials("bf16")
    assert {floats for floats, _ in alone} == {"f32"}
    assert both == [*(("bf16", trial) for _, trial in alone), *alone]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without converted networks."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def kept_report(home: Path) -> tuple[Path, ParityReport]:
    """The only one."""
    (written,) = (home / ".cache" / "medmtl" / "converted").glob("*/parity.json")
    return written, ParityReport.model_validate_json(written.read_bytes())


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nncf") is None, reason="needs nncf")
def test_a_shipped_network_is_quantised_and_what_is_kept_is_what_was_measured(
    tmp_path: Path, home: Path
) -> None:
    """On a few phantoms: the sides of the ranges and of the proof are different cases."""
    data = tmp_path / "data"
    write_torsos(data, cases=10, seed=70, spacing_mm=6.0)
    result = CliRunner().invoke(
        app, ["models", "quantise", "torso-ct-phantom", "--manifest", str(data)]
    )
    assert result.exit_code in (0, 1), result.output
    written, parity = kept_report(home)
    assert parity.measured.n_cases == 2
    assert parity.n_calibration == 8
    assert parity.kept_layers
    assert parity.floats in (own_floats(), "f32")
    assert (result.exit_code == 0) == (not parity.problems())
    assert "FakeQuantize" in (written.parent / "model.xml").read_text(encoding="utf-8")
    assert not (home / "intel").exists()
    verified = CliRunner().invoke(app, ["models", "verify", "torso-ct-phantom"])
    assert (verified.exit_code == 0) == (not parity.problems())


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nncf") is None, reason="needs nncf")
def test_an_imported_network_is_quantised_like_any_other(tmp_path: Path, home: Path) -> None:
    """Random weights: whether parity holds is not the point, but that it is measured and said."""
    data, folder = tmp_path / "data", tmp_path / "bundle"
    write_torsos(data, cases=10, seed=70, spacing_mm=16.0)
    labels = {"background": 0, "liver": 1, "spleen": 2}
    source = write_folder(
        tmp_path / "model",
        plans=plans(spacing=[16.0] * 3, patch_size=[16] * 3),
        dataset=dataset(labels=labels),
    )
    import_nnunet(source, folder)
    asked = ["models", "quantise", str(folder), "--manifest", str(data)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code in (0, 1), result.output
    _, parity = kept_report(home)
    assert set(parity.measured.dice) <= {"liver", "spleen"}
    assert (result.exit_code == 0) == (not parity.problems())


def test_a_model_of_several_networks_is_not_quantised(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "model", plans=plans(), dataset=dataset(), folds=("0", "1"))
    import_nnunet(source, tmp_path / "bundle")
    data = tmp_path / "data"
    write_torsos(data, cases=10, seed=70, spacing_mm=16.0)
    asked = ["models", "quantise", str(tmp_path / "bundle"), "--manifest", str(data)]
    result = CliRunner().invoke(app, asked)
    assert isinstance(result.exception, ConfigError)
    assert "one network at a time" in str(result.exception)
