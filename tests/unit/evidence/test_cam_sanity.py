"""A planted lesion is found, and random weights destroy the map (Adebayo et al. 2018).

Adebayo et al., Sanity Checks for Saliency Maps, https://arxiv.org/abs/1810.03292.
Every image holds four equally conspicuous striped discs. The lesion is the one whose stripes run
the other way, so a network that only sees what stands out is right in one of four cases.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medmtl.core.geometry import Geometry
from medmtl.evidence.cam import CamMethod, activation_map, cam_volume, join_levels
from medmtl.metrics.localisation import is_peak_inside
from medmtl.networks.backbones import DynUNetConfig
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import JointNet, NetworkConfig

SHAPE_KJI = (4, 24, 24)
GRID = Geometry.from_parts(shape=SHAPE_KJI[::-1], spacing_mm=(1, 1, 1))
RADIUS = 3.5
CONFIG = NetworkConfig(
    backbone=DynUNetConfig(
        filters=(8, 8, 16),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        strides=((1, 2, 2), (1, 1, 1), (1, 2, 2)),
    ),
    findings=("lesion",),
    has_segmentation=False,
    head=HeadConfig(levels=(1, 2), pooling=("global",), embedding=16, hidden=16, dropout=0.0),
)
METHODS: tuple[CamMethod, ...] = ("gradcam", "gradcam++", "layercam")


@dataclass(frozen=True)
class Case:
    """Image and lesion mask, (K, J, I)."""

    image: NDArray[np.float32]
    lesion: NDArray[np.bool_]


def make_case(rng: np.random.Generator, *, is_present: bool) -> Case:
    _, j, i = np.indices(SHAPE_KJI)
    stripes = {True: (i // 2) % 2 * 2.0 - 1, False: (j // 2) % 2 * 2.0 - 1}
    image = rng.normal(0, 0.3, SHAPE_KJI)
    lesion = np.zeros(SHAPE_KJI, dtype=bool)
    lesion_quadrant = rng.integers(4) if is_present else -1
    for quadrant in range(4):
        centre_j, centre_i = 5.5 + 12 * np.array(divmod(quadrant, 2)) + rng.integers(-1, 2, 2)
        disc = np.hypot(j - centre_j, i - centre_i) <= RADIUS
        image[disc] += stripes[quadrant == lesion_quadrant][disc]
        lesion |= disc & (quadrant == lesion_quadrant)
    return Case(image.astype(np.float32), lesion)


def make_cases(seed: int, count: int) -> list[Case]:
    rng = np.random.default_rng(seed)
    return [make_case(rng, is_present=True) for _ in range(count)]


def random_net(seed: int) -> JointNet:
    torch.manual_seed(seed)
    return JointNet(CONFIG)


@pytest.fixture(scope="module")
def trained() -> JointNet:
    net, rng = random_net(101), np.random.default_rng(0)
    optimiser = torch.optim.AdamW(net.parameters(), lr=5e-3)
    for _ in range(70):
        present = rng.random(16) < 0.5
        images = np.stack([make_case(rng, is_present=p).image for p in present.tolist()])
        output = net(
            [torch.from_numpy(images)[:, None]], spacing_mm=torch.ones(16, 1, 3), covariates={}
        )
        targets = torch.from_numpy(present).float()
        loss = nn.functional.binary_cross_entropy_with_logits(output.finding_logits[:, 0], targets)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return net.eval()


def cam_of(net: JointNet, case: Case, method: CamMethod) -> Tensor:
    """As the predictor does it: gradients of the logit by the shared features."""
    image = torch.from_numpy(case.image)[None, None]
    features = [feature.detach().requires_grad_() for feature in net.encode(image)]
    background = torch.ones(1, 1, *SHAPE_KJI)
    logits, _, _ = net.diagnose(
        [net.pool(features, background)],
        [background],
        spacing_mm=torch.ones(1, 1, 3),
        covariates={},
    )
    assert logits is not None
    gradients = torch.autograd.grad(logits[0, 0], features[1:])
    maps = [
        activation_map(feature[0], gradient[0], method=method)
        for feature, gradient in zip(features[1:], gradients, strict=True)
    ]
    k, j, i = maps[0].shape
    return join_levels([maps], [(k, j, i)])[0]


def hit_rate(cams: list[Tensor], cases: list[Case]) -> float:
    hits = [
        is_peak_inside(cam_volume(cam, GRID, volume_id="image"), case.lesion.T, geometry=GRID)
        for cam, case in zip(cams, cases, strict=True)
    ]
    return float(np.mean([bool(hit) for hit in hits]))


def correlation(first: Tensor, second: Tensor) -> float:
    if not first.any() or not second.any():
        return 0.0
    return float(np.corrcoef(first.flatten(), second.flatten())[0, 1])


@pytest.mark.parametrize("method", METHODS)
def test_the_peak_lies_in_the_planted_lesion(trained: JointNet, method: CamMethod) -> None:
    cases = make_cases(seed=1, count=40)
    assert hit_rate([cam_of(trained, case, method) for case in cases], cases) >= 0.9


@pytest.mark.parametrize("method", METHODS)
def test_random_weights_destroy_the_map(trained: JointNet, method: CamMethod) -> None:
    cases = make_cases(seed=2, count=10)
    learned = [cam_of(trained, case, method) for case in cases]
    rates, correlations = [], []
    for seed in range(1, 6):
        net = random_net(seed).eval()
        cams = [cam_of(net, case, method) for case in cases]
        rates.append(hit_rate(cams, cases))
        correlations += [correlation(a, b) for a, b in zip(learned, cams, strict=True)]
    assert np.mean(rates) < 0.5
    assert np.mean(correlations) < 0.5
