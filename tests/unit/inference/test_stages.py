"""Stages: what a batch does at the same time, and that stages change no answer."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from medmtl.inference.batch import run_batch
from medmtl.inference.bundle import load_bundle
from medmtl.inference.predictor import Predictor
from medmtl.inference.stages import Staged, finish, stages_of
from tests.threshold_batch import ThresholdAnalyser, list_studies, write_studies
from tests.tiny_bundle import image, reference, study, torso_settings, write_tiny

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.study import Study
    from medmtl.core.volume import Volume
    from medmtl.inference.stages import Stages

_WAIT_S = 20


class _Meeting(Staged, ThresholdAnalyser):
    """Its network waits until the next study is prepared and the one before is being reported."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.prepared = [threading.Event() for _ in range(count)]
        self.reported = [threading.Event() for _ in range(count)]
        self.at_work = [threading.Event() for _ in range(count)]

    def stages(self, study: Study, volumes: Sequence[Volume]) -> Stages:
        number = int(study.case_id[-2:])
        self.prepared[number].set()
        yield
        self.at_work[number].set()
        for event in (*self.prepared[number + 1 : number + 2], *self.reported[:number][-1:]):
            assert event.wait(_WAIT_S)
        yield
        self.reported[number].set()
        for event in self.at_work[number + 1 : number + 2]:
            assert event.wait(_WAIT_S)  # the network has begun with the next one
        return ThresholdAnalyser.analyse(self, study, volumes)


def test_preparing_and_reporting_go_on_while_the_network_works(tmp_path: Path) -> None:
    write_studies(tmp_path / "in", 4)
    analyser = _Meeting(4)
    outcomes = run_batch(
        list_studies(tmp_path / "in"), analyser, out=tmp_path / "out", input_path=tmp_path / "in"
    )
    assert [outcome.status for outcome in outcomes] == ["done"] * 4


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_an_error_in_any_stage_is_that_case_alone(tmp_path: Path, stage: int) -> None:
    class Broken(Staged, ThresholdAnalyser):
        def stages(self, study: Study, volumes: Sequence[Volume]) -> Stages:
            for number in range(3):
                if number == stage and study.case_id == "case01":
                    raise ValueError("Planted^Person")
                if number < 2:
                    yield
            return ThresholdAnalyser.analyse(self, study, volumes)

    write_studies(tmp_path / "in", 3)
    outcomes = list(
        run_batch(
            list_studies(tmp_path / "in"), Broken(), out=tmp_path / "out",
            input_path=tmp_path / "in",
        )
    )  # fmt: skip
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done"]
    failure = outcomes[1].failure
    assert failure is not None
    assert (failure.stage, failure.code) == ("analyse", "unexpected-error")
    assert "Planted" not in (tmp_path / "out" / "failures.csv").read_text()


def test_a_model_stops_before_and_after_its_network(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny", torso_settings())
    bundle = load_bundle(tmp_path / "tiny")
    predictor = Predictor(bundle, device=torch.device("cpu"), cam=())
    calls: list[str] = []
    predictor.net.register_forward_pre_hook(lambda *_: calls.append("forward"))
    encode = predictor.net.encode_and_decode

    def counted(*arguments: object) -> object:
        calls.append("network")
        return encode(*arguments)  # type: ignore[arg-type]  # passed on as they come

    predictor.net.encode_and_decode = counted  # type: ignore[assignment,method-assign]  # watched
    volume = image("ct")
    case = study([reference(volume)])
    stages = stages_of(predictor, case, [volume])
    next(stages)
    assert calls == []
    next(stages)
    seen = list(calls)
    assert seen
    prediction = finish(stages)
    assert calls == seen
    whole = predictor.analyse(case, [volume])
    assert json.dumps(str(prediction.findings)) == json.dumps(str(whole.findings))
    assert (prediction.volumes[0].label_map == whole.volumes[0].label_map).all()
    assert set(prediction.timings_s) == {"preprocess", "network", "postprocess"}
