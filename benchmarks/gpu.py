"""The network on a CUDA device: full and half precision, compiled, tiles at a time; and the CPU.

The network of `torso-ct-phantom` on noise of the size of a CT at 1.5 mm, tiled as `predict` tiles
it, from the image in the machine's memory to labels on the device. Without a CUDA device nothing
is measured; `--quick` then goes through the same steps on the CPU, to see that they run.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from benchmarks.alternate import take_turns
from benchmarks.record import Row, finish, options
from medmtl.inference.bundle import find_bundle, load_bundle
from medmtl.inference.joint_pass import TILE_VOXELS
from medmtl.inference.tiled_pass import tiled_pass
from medmtl.inference.tiles import OVERLAP
from medmtl.inference.torch_engine import TorchEngine

if TYPE_CHECKING:
    from torch import Tensor

    from medmtl.inference.torch_engine import Compiler, Precision
    from medmtl.networks.joint import JointNet

SHAPE, QUICK_SHAPE = (256, 272, 272), (32, 32, 32)
ROUNDS, QUICK_ROUNDS = 5, 1
SHARE_EQUAL = 0.9999
PLAIN = "full precision"
ENGINES: dict[str, tuple[Precision, Compiler]] = {
    "full precision, channels last": ("float32", "none"),
    "float16, channels last": ("float16", "none"),
    "bfloat16, channels last": ("bfloat16", "none"),
    "float16, channels last, compiled": ("float16", "inductor"),
    "float16, channels last, CUDA graphs": ("float16", "cudagraphs"),
}


def network(device: torch.device) -> JointNet:
    """The shipped network, on the device."""
    return load_bundle(find_bundle("torso-ct-phantom")).net.requires_grad_(False).to(device)


def engined(device: torch.device, precision: Precision, compiler: Compiler) -> JointNet:
    """The same with an engine; where there are no CUDA graphs, the compiler only reads the code."""
    net = network(device)
    if compiler != "none" and device.type != "cuda":
        compiler = "eager"
    net.engine = TorchEngine(net, precision=precision, compiler=compiler)
    return net


def answer(net: JointNet, image: Tensor, device: torch.device, *, tile_voxels: int) -> Tensor:
    """Labels on the device, finished."""
    logits, *_ = tiled_pass(net, image, device, tile_voxels=tile_voxels, overlap=OVERLAP)
    labels = logits.argmax(dim=1)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return labels


def peak_gib(device: torch.device) -> float:
    """The most that was allocated on a GPU since it was asked for last; NaN elsewhere."""
    if device.type != "cuda":
        return float("nan")
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return peak


def main() -> None:
    """All ways on the same noise."""
    arguments = options(__doc__ or "")
    if not torch.cuda.is_available() and not arguments.quick:
        print("no CUDA device was found: nothing was measured, and nothing is written")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = QUICK_SHAPE if arguments.quick else SHAPE
    large, small = (size // (64 if arguments.quick else 1) for size in (TILE_VOXELS, 500_000))
    torch.manual_seed(0)
    image = torch.rand(1, 1, *shape) * 2 - 1
    net = network(device)
    ways = {
        PLAIN: partial(answer, net, image, device, tile_voxels=large),
        f"{PLAIN}, small tiles, several at a time": partial(
            answer, net, image, device, tile_voxels=small
        ),
    } | {
        name: partial(answer, engined(device, *how), image, device, tile_voxels=large)
        for name, how in ENGINES.items()
    }
    peaks, labels = {}, {}
    for name, way in ways.items():  # the first call of each also chooses its kernels
        peak_gib(device)
        labels[name] = way()
        peaks[name] = peak_gib(device)
    times = take_turns(ways, rounds=QUICK_ROUNDS if arguments.quick else ROUNDS)
    rows = [Row("device", torch.cuda.get_device_name() if device.type == "cuda" else "CPU")]
    rows += [Row(name, f"{taken}, {peaks[name]:.2f} GiB") for name, taken in times.items()]
    for name in ENGINES:
        equal = float((labels[name] == labels[PLAIN]).float().mean())
        rows.append(Row(f"labels equal, {name}", f"{equal:.6f}", f">= {SHARE_EQUAL:g}",
                        equal >= SHARE_EQUAL))  # fmt: skip
    finish("gpu", rows, arguments)


if __name__ == "__main__":
    main()
