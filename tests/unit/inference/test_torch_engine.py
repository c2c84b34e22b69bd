"""Half precision, channels last and compilation change how a network runs, not what it says."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from medmtl.core.errors import InputRefusedError
from medmtl.inference import tiled_pass as module
from medmtl.inference.backend import give_engine
from medmtl.inference.bundle import find_bundle, load_bundle
from medmtl.inference.tiled_pass import tiles_that_fit
from medmtl.inference.torch_engine import Compiler, Precision, TorchEngine
from tests.unit.inference.test_joint_pass import network
from tests.unit.inference.test_tiled_pass import answer, body, favour


@pytest.mark.parametrize("compiler", ["none", "eager"])
def test_in_single_precision_it_is_the_same_network(compiler: Compiler) -> None:
    net = network()
    image = body()
    expected_maps, expected = net.encode_and_decode(image)
    net.engine = TorchEngine(net, compiler=compiler)
    maps, logits = net.encode_and_decode(image)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(maps, expected_maps, atol=1e-5, rtol=1e-5)
    weights = [weight for weight in net.backbone.parameters() if weight.dim() == 5]
    assert all(w.is_contiguous(memory_format=torch.channels_last_3d) for w in weights)


@pytest.mark.parametrize(("precision", "bits"), [("bfloat16", 8), ("float16", 11)])
def test_half_precision_is_off_by_its_rounding_and_leaves_in_single(
    precision: Precision, bits: int
) -> None:
    net = network()
    _, expected = net.encode_and_decode(body())
    net.engine = TorchEngine(net, precision=precision)
    _, sums = answer(net, body())
    maps, logits = net.encode_and_decode(body())
    spread = expected.amax() - expected.amin()
    assert 0 < (logits - expected).abs().max() < 8 * spread * 2.0**-bits
    assert {x.dtype for x in (*maps, logits, *(s.numerator for s in sums))} == {torch.float32}


@pytest.mark.parametrize(
    ("device", "compiler", "expected"),
    [("cuda", "cudagraphs", ["cudagraphs"]), ("cuda", "none", []), ("cpu", "inductor", [])],
)
def test_a_network_is_compiled_on_a_gpu_alone_and_where_the_operating_point_says_so(
    device: str, compiler: Compiler, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice; no GPU compiles here."""
    asked: list[str] = []

    def compiled(run: object, *, backend: str, **_: object) -> object:
        asked.append(backend)
        return run

    monkeypatch.setattr(torch, "compile", compiled)
    bundle = load_bundle(find_bundle("torso-ct-phantom"))
    give_engine(
        bundle.net, bundle.settings, backend="torch", device=torch.device(device), cache=None,
        compiler=compiler,
    )  # fmt: skip
    assert asked == expected


def test_an_answer_beyond_half_precision_is_refused() -> None:
    net = network()
    with torch.no_grad():
        net.get_parameter("backbone.net.output_block.conv.conv.bias")[1] = 1e6
    net.engine = TorchEngine(net, precision="float16")
    with pytest.raises(InputRefusedError, match="beyond half precision"):
        net.encode_and_decode(body())


@pytest.mark.parametrize("fits", [1, 2, 3])
def test_a_network_that_runs_out_of_memory_gets_half_as_many_tiles(
    fits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes from within the network, as an allocator raises it."""
    net = favour(network(), 0)
    expected, expected_sums = answer(deepcopy(net), body())
    sizes: list[int] = []

    def allocate(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > fits:
            raise torch.OutOfMemoryError("made up")

    first = next(part for part in net.backbone.modules() if isinstance(part, torch.nn.Conv3d))
    first.register_forward_pre_hook(allocate)
    net.engine = TorchEngine(net)
    monkeypatch.setattr(module, "_tiles_at_once", lambda *_: 4)
    found, sums = answer(net, body())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sums[0].numerator, expected_sums[0].numerator, atol=1e-2, rtol=1e-4)
    assert {4, 2} <= set(sizes)
    assert (1 in sizes) == (fits == 1)


def test_what_does_not_fit_even_alone_is_an_error() -> None:
    net = network()

    def allocate(*_: object) -> None:
        raise torch.OutOfMemoryError("made up")

    first = next(part for part in net.backbone.modules() if isinstance(part, torch.nn.Conv3d))
    first.register_forward_pre_hook(allocate)
    with pytest.raises(torch.OutOfMemoryError):
        answer(net, body())


def test_free_memory_says_how_many_tiles_go_at_a_time() -> None:
    net = network()
    one = next(n for n in range(10**9) if tiles_that_fit(net, 1000, free_bytes=n * 1000) > 1) * 1000
    assert tiles_that_fit(net, 1000, free_bytes=0) == 1
    assert tiles_that_fit(net, 1000, free_bytes=2 * one) == 4
    assert tiles_that_fit(net, 1000, free_bytes=2**50) == module.MAX_BATCH
