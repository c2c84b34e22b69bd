"""What the diagnosis costs on top of the segmentation: one joint pass, and two models.

The networks of both shipped bundles, whole passes without activation maps, on noise: a body at 4 mm
and two phases of a heart. The second of two models is measured twice: a classifier with an encoder
of its own and no masks, and the same diagnosis as that of the joint pass, which reads masks.
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
from medmtl.inference.bundle_settings import CamSettings
from medmtl.inference.joint_pass import joint_pass
from medmtl.networks.joint import JointNet
from medmtl.transforms.preprocessing import NetworkInput, Preprocessing

if TYPE_CHECKING:
    from medmtl.transforms.settings import PreprocessingConfig

SHAPES = {"torso-ct-phantom": (112, 96, 96), "cardiac-mr": (256, 256, 12)}
QUICK_SHAPES = {"torso-ct-phantom": (32, 32, 32), "cardiac-mr": (64, 64, 3)}
ROUNDS, QUICK_ROUNDS = 5, 2
OVER_SEGMENTATION, OVER_TWO = 1.1, 0.6
CPU = torch.device("cpu")


def prepare(bundle: Bundle, shape: tuple[int, int, int]) -> list[NetworkInput]:
    """One noise image for each volume of a study, which preprocessing leaves at this size."""
    settings = cast("PreprocessingConfig", bundle.settings.preprocessing)
    spacing = [mm or 8.0 for mm in settings.spacing_mm]
    prepared = []
    for seed, _ in enumerate(bundle.settings.network.volumes):
        array = np.random.default_rng(seed).uniform(-300, 300, shape).astype(np.int16)
        geometry = Geometry.from_parts(shape=shape, spacing_mm=spacing)
        volume = Volume(array, geometry, modality=bundle.settings.input.modality)
        prepared.append(Preprocessing(settings).apply(volume))
    return prepared


def classifier(bundle: Bundle) -> JointNet:
    """The encoder and a head of pooled features alone, with random weights in the head."""
    network = bundle.settings.network
    if network.head is None:
        raise SystemExit(f"{bundle.settings.name} has no diagnosis")
    head = network.head.model_copy(
        update={"measurements": None, "embedding": 4, "pooling": ("global", "attention")}
    )
    config = network.model_copy(update={"has_segmentation": False, "head": head})
    net = JointNet(config).eval().requires_grad_(requires_grad=False)
    net.backbone.load_state_dict(bundle.net.backbone.state_dict())
    return net


@torch.no_grad()
def segment(net: JointNet, prepared: list[NetworkInput]) -> None:
    """Masks alone."""
    for one in prepared:
        net.encode_and_decode(net.context(torch.from_numpy(one.array_kji)[None, None]))


def diagnose(net: JointNet, prepared: list[NetworkInput], cam: CamSettings) -> None:
    """Whatever the network gives: masks and diagnosis, or the diagnosis of a classifier."""
    joint_pass(net, prepared, covariates=Covariates(), cam=cam, device=CPU)


def measure(model: str, backend: str, shape: tuple[int, int, int], rounds: int) -> list[Row]:
    """Rows for one bundle and backend."""
    bundle = load_bundle(find_bundle(model))
    joint, alone = bundle.net.requires_grad_(requires_grad=False), classifier(bundle)
    for net in (joint, alone):
        settings = bundle.settings.model_copy(update={"network": net.config})
        give_engine(net, settings, backend=backend, device=CPU, cache=None)
    prepared, cam = prepare(bundle, shape), bundle.settings.cam
    times = take_turns(
        {
            "segmentation alone": partial(segment, joint, prepared),
            "joint pass": partial(diagnose, joint, prepared, cam),
            "classifier without masks": partial(diagnose, alone, prepared, CamSettings()),
        },
        rounds=rounds,
    )
    what = f"`{model}`, {backend}"
    rows = [Row(f"{what}: {name}", str(taken)) for name, taken in times.items()]
    masks_s, joint_s, classes_s = (taken.median for taken in times.values())
    for name, other_s, most in (
        ("segmentation alone", masks_s, OVER_SEGMENTATION),
        ("segmentation and the same diagnosis by two models", masks_s + joint_s, OVER_TWO),
        ("segmentation and a classifier without masks", masks_s + classes_s, OVER_TWO),
    ):
        ratio = joint_s / other_s
        rows.append(Row(f"{what}: joint pass over {name}", f"{ratio:.2f}", f"<= {most:g}",
                        round(ratio, 2) <= most))  # fmt: skip
    return rows


def main() -> None:
    """Both bundles with both backends, on the same noise."""
    arguments = options(__doc__ or "")
    shapes = QUICK_SHAPES if arguments.quick else SHAPES
    rounds = QUICK_ROUNDS if arguments.quick else ROUNDS
    rows = [
        row
        for model, shape in shapes.items()
        for backend in ("torch", "openvino")
        for row in measure(model, backend, shape, rounds)
    ]
    finish("joint_pass", rows, arguments)


if __name__ == "__main__":
    main()
