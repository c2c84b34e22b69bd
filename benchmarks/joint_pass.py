"""What the diagnosis costs on top of the segmentation: one joint pass, and two models.

The network of `torso-ct-phantom`, without activation maps, on noise of the size of a body at 4 mm.
Two models are the segmentation pass and a diagnosis pass of an encoder and head of its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from benchmarks.alternate import take_turns
from benchmarks.record import Row, finish, options
from medmtl.core.geometry import Geometry
from medmtl.core.prediction import Covariates
from medmtl.core.volume import Volume
from medmtl.inference.backend import give_engine
from medmtl.inference.bundle import Bundle, find_bundle, load_bundle
from medmtl.inference.joint_pass import joint_pass
from medmtl.transforms.preprocessing import NetworkInput, Preprocessing

if TYPE_CHECKING:
    from medmtl.transforms.settings import PreprocessingConfig

SHAPE, QUICK_SHAPE = (112, 96, 96), (32, 32, 32)
ROUNDS, QUICK_ROUNDS = 3, 2
OVER_SEGMENTATION, OVER_TWO = 1.1, 0.6
CPU = torch.device("cpu")


def prepare(bundle: Bundle, shape: tuple[int, int, int]) -> NetworkInput:
    """A CT that preprocessing leaves at this size."""
    array = np.random.default_rng(0).uniform(-300, 300, shape).astype(np.int16)
    settings = cast("PreprocessingConfig", bundle.settings.preprocessing)
    spacing = [mm or 1.0 for mm in settings.spacing_mm]
    volume = Volume(array, Geometry.from_parts(shape=shape, spacing_mm=spacing), modality="CT")
    return Preprocessing(settings).apply(volume)


@torch.no_grad()
def segment(bundle: Bundle, prepared: NetworkInput) -> None:
    """Masks alone."""
    image = torch.from_numpy(prepared.array_kji)[None, None]
    bundle.net.encode_and_decode(bundle.net.context(image))


@torch.no_grad()
def diagnose(bundle: Bundle, prepared: NetworkInput) -> None:
    """A classifier alone: an encoder and pooled features, no decoder, no masks."""
    net = bundle.net
    image = torch.from_numpy(prepared.array_kji)[None, None]
    features = net.encode(image)
    blank = image.new_zeros(1, len(net.config.segments) + 1, *image.shape[2:])
    net.diagnose(
        [net.pool(features, blank)],
        [blank],
        spacing_mm=torch.tensor([[prepared.geometry.spacing_mm[::-1]]]),
        covariates={},
    )


def both(bundle: Bundle, prepared: NetworkInput) -> None:
    """Masks and diagnosis."""
    joint_pass(bundle.net, [prepared], covariates=Covariates(), cam=bundle.settings.cam, device=CPU)


def measure(backend: str, shape: tuple[int, int, int], rounds: int) -> list[Row]:
    """Rows for one backend; the classifier alone always runs in torch."""
    bundle = load_bundle(find_bundle("torso-ct-phantom"))
    bundle.net.requires_grad_(requires_grad=False)
    give_engine(bundle.net, bundle.settings, backend=backend, device=CPU, cache=None)
    prepared = prepare(bundle, shape)
    works = {"segmentation alone": segment, "joint pass": both}
    if backend == "torch":
        works["diagnosis alone"] = diagnose
    times = take_turns(
        {name: partial(work, bundle, prepared) for name, work in works.items()}, rounds=rounds
    )
    rows = [Row(f"{backend}: {name}", str(taken)) for name, taken in times.items()]
    joint, alone = times["joint pass"].median, times["segmentation alone"].median
    over = joint / alone
    rows.append(Row(f"{backend}: joint pass over segmentation alone", f"{over:.2f}",
                    f"<= {OVER_SEGMENTATION:g}", over <= OVER_SEGMENTATION))  # fmt: skip
    if backend == "torch":
        over = joint / (alone + times["diagnosis alone"].median)
        rows.append(Row("torch: joint pass over two models", f"{over:.2f}", f"<= {OVER_TWO:g}",
                        over <= OVER_TWO))  # fmt: skip
    return rows


def main() -> None:
    """Both backends, on the same noise."""
    arguments = options(__doc__ or "")
    shape = QUICK_SHAPE if arguments.quick else SHAPE
    rounds = QUICK_ROUNDS if arguments.quick else ROUNDS
    rows = [row for name in ("torch", "openvino") for row in measure(name, shape, rounds)]
    finish("joint_pass", rows, arguments)


if __name__ == "__main__":
    main()
