"""The network on a CUDA device: full precision, half precision and channels last, tiles at a time.

The network of `torso-ct-phantom` on noise of the size of a CT at 1.5 mm, tiled as `predict` tiles
it. Without a CUDA device it says so and measures nothing.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import torch

from benchmarks.alternate import take_turns
from benchmarks.record import Row, finish, options
from medmtl.inference.bundle import find_bundle, load_bundle
from medmtl.inference.joint_pass import TILE_VOXELS
from medmtl.inference.tiled_pass import tiled_pass
from medmtl.inference.tiles import OVERLAP

if TYPE_CHECKING:
    from torch import Tensor

    from medmtl.networks.joint import JointNet

SHAPE, QUICK_SHAPE = (256, 272, 272), (64, 64, 64)
ROUNDS, QUICK_ROUNDS = 5, 2
SHARE_EQUAL = 0.9999


def answer(net: JointNet, image: Tensor, *, is_half: bool, tile_voxels: int) -> Tensor:
    """Labels on the device, finished."""
    device = torch.device("cuda")
    half = torch.autocast("cuda", dtype=torch.float16) if is_half else nullcontext()
    with torch.no_grad(), half:
        logits, *_ = tiled_pass(net, image, device, tile_voxels=tile_voxels, overlap=OVERLAP)
    labels = logits.argmax(dim=1)
    torch.cuda.synchronize()
    return labels


def main() -> None:
    """All ways on the same noise."""
    arguments = options(__doc__ or "")
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device was found: nothing was measured, and nothing is written")
    shape = QUICK_SHAPE if arguments.quick else SHAPE
    torch.manual_seed(0)
    image = torch.rand(1, 1, *shape) * 2 - 1
    net = load_bundle(find_bundle("torso-ct-phantom")).net.requires_grad_(False).cuda()
    last = load_bundle(find_bundle("torso-ct-phantom")).net.requires_grad_(False).cuda()
    last.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # not in the stubs
    small = TILE_VOXELS // 8
    ways = {
        "full precision": partial(answer, net, image, is_half=False, tile_voxels=TILE_VOXELS),
        "full precision, small tiles, several at a time": partial(
            answer, net, image, is_half=False, tile_voxels=small
        ),
        "half precision": partial(answer, net, image, is_half=True, tile_voxels=TILE_VOXELS),
        "half precision, channels last": partial(
            answer, last, image, is_half=True, tile_voxels=TILE_VOXELS
        ),
    }
    peaks, labels = {}, {}
    for name, way in ways.items():  # the first call of each also chooses its kernels
        torch.cuda.reset_peak_memory_stats()
        labels[name] = way()
        peaks[name] = torch.cuda.max_memory_allocated() / 2**30
    times = take_turns(ways, rounds=QUICK_ROUNDS if arguments.quick else ROUNDS)
    rows = [Row("device", torch.cuda.get_device_name())]
    for name, taken in times.items():
        rows.append(Row(name, f"{taken}, {peaks[name]:.2f} GiB"))
    for name in ("half precision", "half precision, channels last"):
        equal = float((labels[name] == labels["full precision"]).float().mean())
        rows.append(Row(f"labels equal, {name}", f"{equal:.6f}", f">= {SHARE_EQUAL:g}",
                        equal >= SHARE_EQUAL))  # fmt: skip
    finish("gpu", rows, arguments)


if __name__ == "__main__":
    main()
