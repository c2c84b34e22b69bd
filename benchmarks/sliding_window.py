"""Masks of one prepared image: medmtl's pass against MONAI's `SlidingWindowInferer`.

The same network and (random) weights, Gaussian importance on both sides. MONAI has tiles of 96 with
its default overlap of a quarter; medmtl takes a grid of this size in one piece. Tiles see
less around them, so labels near their borders may differ.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from monai.inferers.inferer import SlidingWindowInferer

from benchmarks.alternate import take_turns
from benchmarks.memory import body_hu
from benchmarks.random_bundle import SPACING_MM, write_random
from benchmarks.record import Row, finish, options
from medmtl.core.geometry import Geometry
from medmtl.core.prediction import Covariates
from medmtl.core.volume import Volume
from medmtl.inference.backend import give_engine
from medmtl.inference.bundle import load_bundle
from medmtl.inference.joint_pass import joint_pass
from medmtl.transforms.preprocessing import NetworkInput, Preprocessing

if TYPE_CHECKING:
    from medmtl.inference.bundle import Bundle
    from medmtl.transforms.settings import PreprocessingConfig

SHAPE, QUICK_SHAPE = (136, 136, 96), (48, 48, 32)
ROI, QUICK_ROI = 96, 32
ROUNDS = 2
NETWORK = "SegResNet of 16 filters"
CPU = torch.device("cpu")


def prepare(bundle: Bundle, shape: tuple[int, int, int]) -> NetworkInput:
    """A CT that preprocessing leaves at this size."""
    array = np.stack([body_hu(shape, k).T for k in range(shape[2])], axis=2)
    grid = Geometry.from_parts(shape=shape, spacing_mm=(SPACING_MM,) * 3)
    settings = cast("PreprocessingConfig", bundle.settings.preprocessing)
    return Preprocessing(settings).apply(Volume(array, grid, modality="CT"))


def main() -> None:
    """The same image for all, in turns."""
    arguments = options(__doc__ or "")
    shape, roi = (QUICK_SHAPE, QUICK_ROI) if arguments.quick else (SHAPE, ROI)
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside) / "bundle"
        write_random(folder, NETWORK)
        plain, by_openvino = load_bundle(folder), load_bundle(folder)
        for bundle in (plain, by_openvino):
            bundle.net.requires_grad_(requires_grad=False)
        give_engine(
            by_openvino.net, by_openvino.settings, backend="openvino", device=CPU, cache=None
        )
    prepared = prepare(plain, shape)
    cam = plain.settings.cam
    window = SlidingWindowInferer(roi, overlap=0.25, mode="gaussian", progress=False)

    @torch.inference_mode()
    def by_monai() -> torch.Tensor:
        image = torch.from_numpy(prepared.array_kji)[None, None]
        logits = window(image, lambda tile: plain.net.encode_and_decode(tile)[1])
        return cast("torch.Tensor", logits)[0].argmax(dim=0)

    def by_medmtl(bundle: Bundle) -> torch.Tensor:
        answer = joint_pass(bundle.net, [prepared], covariates=Covariates(), cam=cam, device=CPU)
        return answer.logits[0].argmax(dim=0)

    k, j, i = by_medmtl(plain).shape
    equal = float((by_monai()[:k, :j, :i] == by_medmtl(plain)).double().mean())
    times = take_turns(
        {
            "MONAI, SlidingWindowInferer": by_monai,
            "medmtl, torch, diagnosis included": lambda: by_medmtl(plain),
            "medmtl, openvino, diagnosis included": lambda: by_medmtl(by_openvino),
        },
        rounds=ROUNDS,
    )
    size = "x".join(map(str, prepared.array_kji.shape))
    rows = [Row(f"{name}: {size} voxels", str(taken)) for name, taken in times.items()]
    monai = times["MONAI, SlidingWindowInferer"].median
    rows += [
        Row(f"times as fast as MONAI, {name}", f"{monai / taken.median:.1f}")
        for name, taken in times.items()
        if name.startswith("medmtl")
    ]
    rows.append(Row("labels equal to MONAI's, torch", f"{equal:.4f}"))
    finish("sliding_window", rows, arguments)


if __name__ == "__main__":
    main()
