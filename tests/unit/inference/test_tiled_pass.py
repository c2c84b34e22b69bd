"""Air is skipped without a change of labels, memory decides how many tiles go at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
import torch

from medmtl.inference import tiled_pass as module
from medmtl.inference.bundle import find_bundle, load_bundle
from medmtl.inference.tiled_pass import content_box, tiled_pass
from medmtl.networks.backbones import DynUNetConfig
from medmtl.networks.joint import JointNet, NetworkConfig
from medmtl.phantom import generate_torso
from medmtl.transforms.preprocessing import Preprocessing, PreprocessingConfig
from tests.unit.inference.test_joint_pass import CPU, HEAD, ROUNDED, led, network

if TYPE_CHECKING:
    from medmtl.networks.pooling import PooledSums

AIR = -1.0


def body(shape: tuple[int, int, int] = (48, 64, 48)) -> torch.Tensor:
    """Smooth noise in a block surrounded by air."""
    torch.manual_seed(0)
    image = torch.full((1, 1, *shape), AIR)
    image[..., 16:32, 20:44, 20:32] = torch.rand(16, 24, 12)
    return image


def answer(
    net: JointNet, image: torch.Tensor, *, tile_voxels: int = 8000
) -> tuple[torch.Tensor, list[PooledSums]]:
    return tiled_pass(net, image, CPU, tile_voxels=tile_voxels, overlap=0.25)[:2]


def counted(net: JointNet) -> list[int]:
    """Voxels of every call of the network from now on."""
    calls: list[int] = []
    inner = net.encode_stem

    def encode_stem(stem: torch.Tensor) -> list[torch.Tensor]:
        calls.append(stem[:, 0].numel())
        return inner(stem)

    net.encode_stem = encode_stem  # type: ignore[method-assign, assignment]  # counts, calls it
    return calls


def favour(net: JointNet, class_index: int) -> JointNet:
    """A network of random weights that calls air, and more, this class."""
    with torch.no_grad():
        net.get_parameter("backbone.net.output_block.conv.conv.bias")[class_index] += 50
    return net


def no_air(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_answer_to_air", lambda *_: None)


def test_the_box_holds_the_body_and_its_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MARGIN_VOXELS", 3)
    box = content_box(body(), (2, 8, 4))
    assert [(part.start, part.stop) for part in box] == [(12, 36), (16, 48), (16, 36)]
    flat = content_box(torch.full((1, 1, 4, 8, 8), AIR), (2, 8, 4))
    assert [(part.start, part.stop) for part in flat] == [(0, 4), (0, 8), (0, 8)]


def test_a_network_of_single_voxels_answers_as_without_skipping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MARGIN_VOXELS", 2)
    net = favour(network(), 0)
    logits, sums = answer(net, body())
    calls = counted(net)
    answer(net, body())
    with_air = sum(calls)
    no_air(monkeypatch)
    calls.clear()
    expected, expected_sums = answer(net, body())
    assert with_air < sum(calls) / 2
    torch.testing.assert_close(led(logits[0]), led(expected[0]), atol=1e-4, rtol=ROUNDED)
    for one, other in zip(sums, expected_sums, strict=True):
        torch.testing.assert_close(one.numerator, other.numerator, atol=1e-2, rtol=1e-4)
        torch.testing.assert_close(one.denominator, other.denominator, atol=1e-2, rtol=1e-4)


@pytest.mark.slow
def test_the_shipped_network_gives_the_labels_of_one_pass_with_air_skipped() -> None:
    """The proof: a body in as much air as a large field of view has around it."""
    bundle = load_bundle(find_bundle("torso-ct-phantom"))
    settings = bundle.settings.preprocessing
    assert isinstance(settings, PreprocessingConfig)
    prepared = Preprocessing(settings).apply(generate_torso(1, spacing_mm=(8, 8, 8)).volume)
    image = torch.from_numpy(prepared.array_kji)[None, None, 24:56]
    image = torch.nn.functional.pad(image, (96, 96, 96, 96), value=float(image.min()))
    net = bundle.net.requires_grad_(False)
    features, logits = net.encode_and_decode(image)
    expected = net.pool(features, logits.softmax(dim=1))
    calls = counted(net)
    skipped, sums = answer(net, image, tile_voxels=1_000_000)
    assert sum(calls) < 0.5 * image.numel()
    differ = (skipped.argmax(dim=1) != logits.argmax(dim=1)).sum()
    assert differ <= 1e-5 * image.numel()
    for one, other in zip(sums, expected, strict=True):
        torch.testing.assert_close(one.denominator, other.denominator, atol=20, rtol=0.05)


@pytest.mark.parametrize("reason", ["norm", "label"])
def test_air_is_not_skipped_where_its_answer_proves_nothing(
    reason: Literal["norm", "label"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MARGIN_VOXELS", 2)
    torch.manual_seed(0)
    point = ((1, 1, 1),) * 3
    config = NetworkConfig(
        backbone=DynUNetConfig(
            filters=(4, 6, 8), kernels=point, strides=point,
            norm="instance" if reason == "norm" else "batch",
        ),
        segments=("lung", "heart"), findings=("one",), head=HEAD,
    )  # fmt: skip
    net = JointNet(config).eval()
    favour(net, 1 if reason == "label" else 0)
    found, _ = answer(net, body())
    no_air(monkeypatch)
    expected, _ = answer(net, body())
    assert torch.equal(found, expected)


def test_several_tiles_at_once_answer_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(kernels=((3, 3, 3),) * 3)
    expected, sums = answer(net, body())
    monkeypatch.setattr(module, "_tiles_at_once", lambda *_: 3)
    found, found_sums = answer(net, body())
    torch.testing.assert_close(led(found[0]), led(expected[0]), atol=1e-4, rtol=ROUNDED)
    for one, other in zip(found_sums, sums, strict=True):
        torch.testing.assert_close(one.numerator, other.numerator, atol=1e-2, rtol=1e-4)
