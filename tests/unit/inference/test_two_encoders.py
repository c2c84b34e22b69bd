"""A network with two encoders goes through the same pass: whole, in tiles, and with maps."""

import numpy as np
import pytest
import torch

from medmtl.core.geometry import Geometry
from medmtl.core.prediction import Covariates
from medmtl.core.volume import Volume
from medmtl.inference import joint_pass as module
from medmtl.inference.bundle_settings import CamSettings
from medmtl.inference.joint_pass import JointPass, joint_pass
from medmtl.networks.backbones import DynUNetConfig
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import JointNet, NetworkConfig
from medmtl.networks.soft_sharing import Sharing
from medmtl.transforms.preprocessing import NetworkInput, Preprocessing
from medmtl.transforms.settings import PreprocessingConfig, WindowHU
from tests.unit.inference.test_joint_pass import ROUNDED, led


def network(sharing: Sharing) -> JointNet:
    torch.manual_seed(0)
    config = NetworkConfig(
        backbone=DynUNetConfig(  # points only, so that a tile knows nothing of its neighbours
            filters=(4, 6, 8), kernels=((1, 1, 1),) * 3, strides=((1, 1, 1),) * 3
        ),
        segments=("lung", "heart"),
        findings=("one", "two"),
        head=HeadConfig(levels=(0, -1), embedding=8, hidden=8),
        sharing=sharing,
    )
    net = JointNet(config).eval()
    if net.partner is not None:
        with torch.no_grad():  # a copy until trained: make it another encoder
            for weight in net.partner.encoder.parameters():
                weight.mul_(1.5)
    return net


def prepared() -> NetworkInput:
    array = np.random.default_rng(0).random((32, 24, 16), dtype=np.float32)
    geometry = Geometry.from_parts(shape=array.shape, spacing_mm=(2.0, 2.0, 3.0))
    config = PreprocessingConfig(intensity=WindowHU(low_hu=0, high_hu=1), divisor=(4, 4, 2))
    return Preprocessing(config).apply(Volume(array, geometry))


def run(net: JointNet, maps: tuple[int, ...] = ()) -> JointPass:
    return joint_pass(
        net,
        [prepared()],
        covariates=Covariates(),
        cam_findings=maps,
        cam=CamSettings(levels=(0, -1)),
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize("sharing", ["soft", "cross_stitch"])
def test_tiles_and_the_whole_agree(sharing: Sharing, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(sharing)
    whole = run(net)
    monkeypatch.setattr(module, "MAX_WHOLE_VOXELS", 1000)
    monkeypatch.setattr(module, "TILE_VOXELS", 4000)
    tiled = run(net)
    assert whole.finding_logits is not None
    assert tiled.finding_logits is not None
    torch.testing.assert_close(led(tiled.logits[0]), led(whole.logits[0]), rtol=ROUNDED, atol=1e-4)
    torch.testing.assert_close(tiled.finding_logits, whole.finding_logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sharing", ["hard", "soft", "cross_stitch"])
def test_maps_come_from_what_the_diagnosis_reads(sharing: Sharing) -> None:
    found = run(network(sharing), maps=(1,))
    (cam,) = found.cams[1]
    assert float(cam.min()) >= 0.0
    assert 0.0 < float(cam.max()) <= 1.0
