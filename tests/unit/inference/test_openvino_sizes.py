"""Large inputs get a network of their size: the same answers, and one network at a time."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from medmtl.inference import openvino_sizes as module
from medmtl.inference.openvino_engine import convert, openvino_quietly
from medmtl.inference.openvino_sizes import SizedNetwork
from tests.unit.inference.test_joint_pass import STRIDED, network

pytest.importorskip("openvino")
SIZES = ((4, 8, 8), (8, 16, 16), (4, 16, 24))


_TOGETHER = """
import sys, threading
from medmtl.inference.openvino_engine import openvino_quietly
openvino, begin = openvino_quietly(), threading.Barrier(4)
sys.setswitchinterval(1e-6)
def ask():
    begin.wait()
    openvino.Type.f32.to_dtype()  # of every input
threads = [threading.Thread(target=ask) for _ in range(4)]
for one in threads:
    one.start()
for one in threads:
    one.join()
"""


def sized() -> SizedNetwork:
    net = network(kernels=((3, 3, 3),) * 3, strides=STRIDED).requires_grad_(False)
    core = openvino_quietly().Core()
    model = convert(net, (0, 1), is_rewritten=True)
    joined = [op for op in model.get_ops() if op.get_type_name() == "Concat"]
    assert all(op.get_output_partial_shape(0).rank.get_length() < 5 for op in joined)  # of sizes
    return SizedNetwork(core, model, {"INFERENCE_PRECISION_HINT": "f32"})


def answers(network: SizedNetwork) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    stems = [generator.normal(size=(1, 1, *size)).astype(np.float32) for size in SIZES]
    return [network(stem, lends=False)[2] for stem in (*stems, stems[0])]


def test_sizes_are_answered_alike_and_as_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    free = answers(sized())
    monkeypatch.setattr(module, "LARGE_VOXELS", 1000)
    for one, other in zip(answers(sized()), free, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    net = network(kernels=((3, 3, 3),) * 3, strides=STRIDED)
    stem = np.random.default_rng(0).normal(size=(1, 1, *SIZES[0])).astype(np.float32)
    with torch.no_grad():
        expected = net.torch_pass(torch.from_numpy(stem))[1].numpy()
    np.testing.assert_allclose(free[0], expected, atol=1e-4)


def test_a_network_is_compiled_once_for_small_inputs_and_for_each_new_large_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = sized()
    monkeypatch.setattr(module, "LARGE_VOXELS", 1000)
    compiled: list[Any] = []
    inner = network._compile

    def compile_and_note(model: Any) -> Any:
        compiled.append(model)
        return inner(model)

    monkeypatch.setattr(network, "_compile", compile_and_note)
    for _ in range(2):
        answers(network)
    assert len(compiled) == 1 + 4  # small; two large ones, the last of which is kept, twice
    assert network._model.input(0).partial_shape.is_dynamic


@pytest.mark.parametrize("_trial", range(2))  # three of four hung
def test_threads_whose_first_inputs_come_at_the_same_time_do_not_wait_for_each_other(
    _trial: int,
) -> None:
    subprocess.run([sys.executable, "-c", _TOGETHER], timeout=60, check=True)
