"""One pass: tiles and the whole agree, studies do not touch each other, maps lie in 0..1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from medmtl.core.geometry import Geometry
from medmtl.core.prediction import Covariates
from medmtl.core.volume import Volume
from medmtl.inference import joint_pass as module
from medmtl.inference import tiled_pass
from medmtl.inference.bundle_settings import CamSettings
from medmtl.inference.joint_pass import JointPass, covariate_tensors, joint_pass
from medmtl.inference.tiles import plan_tiles
from medmtl.networks import mask_reading
from medmtl.networks.backbones import DynUNetConfig
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import JointNet, NetworkConfig
from medmtl.transforms.preprocessing import NetworkInput, Preprocessing
from medmtl.transforms.settings import PreprocessingConfig, WindowHU

if TYPE_CHECKING:
    from collections.abc import Sequence

Kernel = tuple[int, int, int]
POINT: Kernel = (1, 1, 1)
ONES: tuple[Kernel, ...] = (POINT, POINT, POINT)
STRIDED: tuple[Kernel, ...] = (POINT, (1, 2, 2), (2, 2, 2))
CPU = torch.device("cpu")
ROUNDED = 8 * 2.0**-11
"""Of a number: sums in half precision over the eight tiles that meet at most."""
HEAD = HeadConfig(
    levels=(-2, -1), measurements="torso", covariates=("age_years",), embedding=8, hidden=8
)


def network(
    *,
    kernels: tuple[Kernel, ...] = ONES,
    strides: tuple[Kernel, ...] = ONES,
    context: int = 0,
    head: HeadConfig = HEAD,
    volumes: tuple[str, ...] = ("image",),
) -> JointNet:
    torch.manual_seed(0)
    return JointNet(
        NetworkConfig(
            backbone=DynUNetConfig(filters=(4, 6, 8), kernels=kernels, strides=strides),
            slice_context=context,
            volumes=volumes,
            segments=("lung", "heart"),
            findings=("one", "two"),
            head=head,
        )
    ).eval()


def prepared(seed: int = 0, shape: tuple[int, int, int] = (32, 24, 16)) -> NetworkInput:
    """Smooth noise in 0..1 with a dark corner; (i, j, k)."""
    rng = np.random.default_rng(seed)
    array = rng.random(shape, dtype=np.float32) * 0.6 + 0.2
    array[:3, :3, :3] = 0.0
    geometry = Geometry.from_parts(shape=shape, spacing_mm=(2.0, 2.0, 3.0))
    config = PreprocessingConfig(intensity=WindowHU(low_hu=0, high_hu=1), divisor=(4, 4, 2))
    return Preprocessing(config).apply(Volume(array, geometry))


def run(
    net: JointNet,
    inputs: Sequence[NetworkInput],
    *,
    maps: Sequence[int] = (),
    cam: CamSettings | None = None,
) -> JointPass:
    return joint_pass(
        net, inputs, covariates=Covariates(), cam_findings=maps, cam=cam or CamSettings(),
        device=CPU,
    )  # fmt: skip


@pytest.fixture
def tiny_tiles(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "MAX_WHOLE_VOXELS", 1)
    monkeypatch.setattr(module, "CAM_MAX_VOXELS", 1)
    monkeypatch.setattr(module, "TILE_VOXELS", 1500)
    return 1500


def led(logits: torch.Tensor) -> torch.Tensor:
    """How far each class of (C, K, J, I) lies below the largest: what labels depend on."""
    return logits.float() - logits.float().amax(dim=0, keepdim=True)


def assert_same(one: JointPass, other: JointPass, *, atol: float) -> None:
    for found, expected in zip(one.logits, other.logits, strict=True):
        torch.testing.assert_close(led(found), led(expected), atol=atol, rtol=ROUNDED)
    torch.testing.assert_close(one.finding_logits, other.finding_logits, atol=atol, rtol=ROUNDED)
    torch.testing.assert_close(
        one.measurements, other.measurements, atol=1e-3, rtol=ROUNDED, equal_nan=True
    )
    assert torch.equal(one.is_empty, other.is_empty)


@pytest.fixture
def whole() -> dict[str, JointPass]:
    """Answers without tiles; made before `tiny_tiles` changes the limits."""
    return {
        "pointwise": run(network(), [prepared()]),
        "strided": run(network(strides=STRIDED), [prepared()]),
        "context": run(network(context=1), [prepared()]),
    }


def test_tiles_of_a_pointwise_network_give_the_whole_answer(
    whole: dict[str, JointPass], tiny_tiles: int
) -> None:
    assert len(plan_tiles((16, 24, 32), (1, 1, 1), tiny_tiles)[0]) > 8
    assert_same(run(network(), [prepared()]), whole["pointwise"], atol=1e-4)


def test_tiles_of_a_strided_network_lie_where_its_strides_lie(
    whole: dict[str, JointPass], tiny_tiles: int
) -> None:
    assert_same(run(network(strides=STRIDED), [prepared()]), whole["strided"], atol=1e-4)


def test_neighbouring_slices_are_those_of_the_volume_also_at_the_edge_of_a_tile(
    whole: dict[str, JointPass], tiny_tiles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TILE_VOXELS", tiny_tiles // 3)
    tiles, _ = plan_tiles((16, 24, 32), (1, 1, 1), tiny_tiles // 3)
    assert len({tile.where[2].start for tile in tiles}) > 1
    assert_same(run(network(context=1), [prepared()]), whole["context"], atol=1e-4)


def test_in_the_interior_of_tiles_a_small_neighbourhood_gives_the_whole_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernels: tuple[Kernel, ...] = ((1, 3, 3), POINT, POINT)
    reach = 4  # two convolutions on the way in, two on the way out
    net, volume = network(kernels=kernels), prepared(shape=(64, 64, 2))
    expected = run(net, [volume])
    monkeypatch.setattr(module, "MAX_WHOLE_VOXELS", 1)
    monkeypatch.setattr(module, "CAM_MAX_VOXELS", 1)
    monkeypatch.setattr(module, "TILE_VOXELS", 2 * 32 * 32)
    found = run(net, [volume])
    inside = torch.ones(64, 64, dtype=torch.bool)
    for tile in plan_tiles((2, 64, 64), (1, 1, 1), 2 * 32 * 32)[0]:
        for axis, part in enumerate(tile.where[3:]):
            for edge in {part.start, part.stop} - {0, 64}:
                inside.narrow(axis, edge - reach, 2 * reach)[:] = False
    assert 0.1 < inside.float().mean() < 0.9
    difference = (led(found.logits[0]) - led(expected.logits[0])).abs().amax(dim=(0, 1))
    assert difference[inside].max() < ROUNDED * led(expected.logits[0]).abs().max()
    assert difference.max() < led(expected.logits[0]).abs().max()
    torch.testing.assert_close(found.finding_logits, expected.finding_logits, atol=0.02, rtol=0)


def test_the_order_of_tiles_does_not_matter(
    tiny_tiles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network(kernels=((3, 3, 3), POINT, POINT))
    forwards = run(net, [prepared()])

    def backwards(*arguments: object, overlap: float) -> tuple[object, object]:
        tiles, coverage = plan_tiles(*arguments, overlap=overlap)  # type: ignore[arg-type]
        return tiles[::-1], coverage

    monkeypatch.setattr(tiled_pass, "plan_tiles", backwards)
    assert_same(run(net, [prepared()]), forwards, atol=1e-4)


def test_a_study_does_not_depend_on_those_before_it() -> None:
    net = network(kernels=((3, 3, 3),) * 3, strides=STRIDED)
    first = run(net, [prepared(0)], maps=[0, 1])
    run(net, [prepared(1)], maps=[0, 1])
    again = run(net, [prepared(0)], maps=[0, 1])
    assert torch.equal(first.logits[0], again.logits[0])
    assert first.finding_logits is not None
    assert again.finding_logits is not None
    assert torch.equal(first.finding_logits, again.finding_logits)
    assert torch.equal(first.cams[1][0], again.cams[1][0])


def test_the_pass_is_the_networks_own_forward() -> None:
    net = network(kernels=((3, 3, 3),) * 3, strides=STRIDED, context=1, volumes=("ed", "es"))
    inputs = [prepared(0), prepared(1)]
    found = run(net, inputs, maps=[0])
    with torch.no_grad():
        output = net(
            [torch.from_numpy(one.array_kji)[None, None] for one in inputs],
            spacing_mm=torch.tensor([[[3.0, 2.0, 2.0]] * 2]),
            covariates=covariate_tensors(Covariates(), CPU),
        )
    torch.testing.assert_close(found.finding_logits, output.finding_logits[0])
    for logits, expected in zip(found.logits, output.segmentation_logits, strict=True):
        torch.testing.assert_close(logits, expected[0])
    assert not found.logits[0].requires_grad


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "layercam"])
def test_maps_lie_in_0_to_1_and_the_strongest_is_one_of_the_two_volumes(method: str) -> None:
    net = network(kernels=((3, 3, 3),) * 3, strides=STRIDED, volumes=("ed", "es"))
    cam = CamSettings.model_validate({"method": method, "levels": (-2, -1)})
    found = run(net, [prepared(0), prepared(1)], maps=[0, 1], cam=cam)
    assert set(found.cams) == {0, 1}
    for maps in found.cams.values():
        assert [tuple(one.shape) for one in maps] == [(16, 6, 8)] * 2
        assert all(one.min() >= 0 and one.max() <= 1 for one in maps)
        assert max(float(one.max()) for one in maps) > 0


def test_no_maps_where_none_are_wanted_or_the_volume_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run(network(), [prepared()]).cams == {}
    monkeypatch.setattr(module, "CAM_MAX_VOXELS", 100)
    whole = network(head=HEAD.model_copy(update={"measurements": "volumes"}))
    assert run(whole, [prepared()], maps=[0]).cams == {}
    assert set(run(network(), [prepared()], maps=[0]).cams) == {0}  # masks are read in slabs


@pytest.mark.parametrize("method", ["gradcam", "layercam"])
@pytest.mark.parametrize("measurements", ["torso", None])
def test_maps_of_slabs_are_those_of_the_whole_masks(
    method: str, measurements: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cam = CamSettings.model_validate({"method": method, "levels": (-2, 0)})
    head = HEAD.model_copy(update={"measurements": measurements})
    net = network(kernels=((3, 3, 3),) * 3, strides=STRIDED, head=head, volumes=("ed", "es"))
    inputs = [prepared(0), prepared(1)]
    monkeypatch.setattr(mask_reading, "_SLAB_VALUES", {"cpu": 1})  # slabs as thin as they may be
    found = run(net, inputs, maps=[0, 1], cam=cam)
    monkeypatch.setattr(module, "_draws_in_slabs", lambda *_: False)
    expected = run(net, inputs, maps=[0, 1], cam=cam)
    for index in (0, 1):
        torch.testing.assert_close(found.cams[index], expected.cams[index], atol=1e-4, rtol=0)
        assert max(float(one.max()) for one in found.cams[index]) > 0


@pytest.mark.parametrize("measurements", ["torso", "volumes"])
def test_maps_of_tiles_are_those_of_the_whole_where_a_voxel_sees_itself_only(
    measurements: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = HEAD.model_copy(update={"measurements": measurements})
    net = network(strides=STRIDED, head=head)
    cam = CamSettings(levels=(-2, -1))
    expected = run(net, [prepared()], maps=[0, 1], cam=cam)
    monkeypatch.setattr(module, "MAX_PASS_VALUES", 4 * 1500)
    monkeypatch.setattr(module, "TILE_VALUES", 4 * 1500)
    found = run(net, [prepared()], maps=[0, 1], cam=cam)
    for index in (0, 1):
        torch.testing.assert_close(found.cams[index], expected.cams[index], atol=1e-3, rtol=0)


def test_maps_do_not_change_the_answer() -> None:
    net = network(kernels=((3, 3, 3),) * 3, strides=STRIDED)
    assert_same(run(net, [prepared()], maps=[0]), run(net, [prepared()]), atol=1e-6)


def test_a_head_that_looks_at_nothing_has_an_empty_map() -> None:
    blind = HeadConfig(covariates=("age_years",), embedding=0)
    found = run(network(head=blind), [prepared()], maps=[0])
    assert not found.cams[0][0].any()


def test_unknown_covariates_are_nan_and_sex_is_a_number() -> None:
    known = covariate_tensors(Covariates(age_years=61, sex="M", height_cm=180), CPU)
    assert [float(known[name]) for name in ("age_years", "sex_male", "height_cm")] == [61, 1, 180]
    assert known["weight_kg"].isnan().all()
    assert covariate_tensors(Covariates(sex="O"), CPU)["sex_male"].isnan().all()


MEASURED = HeadConfig(measurements="torso", covariates=("age_years",), embedding=0, hidden=8)


def test_a_head_of_measurements_is_explained_by_them_and_drawn_in_their_segments() -> None:
    net = network(head=MEASURED)
    cam = CamSettings(method="attribution", levels=())
    found = run(net, [prepared()], maps=[1, 0], cam=cam)
    assert found.contributions is not None
    facts = len(net.measurement_names) + 1
    assert found.contributions.shape == (2, facts)
    assert found.contributions[:, -1].tolist() == [0, 0]  # the age is unknown: it moves nothing
    assert set(found.cams) == {0, 1}
    for index, (one,) in found.cams.items():
        speaks_for = found.contributions[index, : len(found.measurements)] > 0
        assert one.min() >= 0
        assert one.max() == pytest.approx(1.0 if bool(speaks_for.any()) else 0.0)


def test_contributions_come_without_maps_too_and_not_with_other_methods() -> None:
    cam = CamSettings(method="attribution", levels=())
    assert run(network(head=MEASURED), [prepared()], cam=cam).contributions is not None
    assert run(network(head=MEASURED), [prepared()], maps=[0]).contributions is None
