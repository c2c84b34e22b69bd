"""Spread is zero where no other answer was possible, and known on paper where one was."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from medmtl.core.errors import BundleError, ConfigError
from medmtl.core.geometry import Geometry
from medmtl.inference.bundle import load_bundle, load_members, verify_bundle, write_bundle
from medmtl.inference.joint_pass import JointPass
from medmtl.inference.predictor import load_predictor
from medmtl.inference.uncertainty import Member, member_of, view_members
from medmtl.inference.uncertainty_report import finding_uncertainty, segment_uncertainty
from medmtl.inference.uncertainty_views import VIEWS, View, apply_view, undo_view
from medmtl.transforms.preprocessing import NetworkInput, Preprocessing, PreprocessingConfig
from tests.tiny_bundle import (
    answer,
    heart_settings,
    image,
    load,
    random_net,
    torso_settings,
    write_tiny,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medmtl.core.prediction import Prediction
    from medmtl.networks.joint import JointNet

SPACING = (1.0, 1.0)


def disc(radius: float = 10.0, size: int = 48, spacing_mm: tuple[float, float] = SPACING) -> Tensor:
    """A smooth disc of 1 on 0 in the middle of the plane, (1, J, I)."""
    shape = [round(size / mm) for mm in spacing_mm]
    j, i = ((torch.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True))
    distance = (j[:, None] ** 2 + i[None, :] ** 2).sqrt()
    return torch.sigmoid(radius - distance)[None]


def smooth_blob(size: int = 64, *, spacing_mm: tuple[float, float]) -> Tensor:
    """A Gaussian of 7 mm, 14 mm off the centre: wide enough to survive interpolation."""
    j, i = ((torch.arange(round(size / mm)) - (round(size / mm) - 1) / 2) * mm for mm in spacing_mm)
    return torch.exp(-(((j + 9)[:, None] ** 2 + (i - 11)[None, :] ** 2) / (2 * 7.0**2)))[None]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (1.0, 2.0)])
def test_undoing_a_view_brings_the_image_back(view: View, spacing_mm: tuple[float, float]) -> None:
    blob = smooth_blob(spacing_mm=spacing_mm)
    plain = replace(view, gain=1.0, offset=0.0)
    seen = apply_view(blob, plain, spacing_mm=spacing_mm)
    back = undo_view(seen[None], plain, spacing_mm=spacing_mm)[0]
    wrong = undo_view(seen[None], replace(plain, turn_deg=-view.turn_deg), spacing_mm=spacing_mm)[0]
    assert (back - blob).abs().mean() < 0.5 * (seen - blob).abs().mean()
    assert view.turn_deg == 0 or (back - blob).abs().mean() < 0.3 * (wrong - blob).abs().mean()


def test_a_turn_is_one_in_millimetres() -> None:
    """A disc stays a disc on anisotropic pixels, and a point goes where geometry says."""
    blob = disc(spacing_mm=(1.0, 3.0))
    turned = apply_view(blob, View("turn", turn_deg=40), spacing_mm=(1.0, 3.0))
    assert (turned - blob).abs().mean() < 0.02
    point = torch.zeros(1, 41, 41)
    point[0, 20, 30] = 1.0  # 10 mm along I
    quarter = apply_view(point, View("turn", turn_deg=90), spacing_mm=SPACING)
    j, i = (int(n) for n in np.unravel_index(int(quarter[0].argmax()), (41, 41)))
    assert (j, i) in {(10, 20), (30, 20)}


def test_a_shift_moves_whole_voxels_and_repeats_the_edge() -> None:
    values = torch.arange(12.0).reshape(1, 3, 4)
    seen = apply_view(values, View("shift", shift_voxels=(1, -2)), spacing_mm=SPACING)
    assert seen[0].tolist() == [[2, 3, 3, 3], [2, 3, 3, 3], [6, 7, 7, 7]]


def test_intensities_stay_in_the_range_of_the_image() -> None:
    values = torch.tensor([[[-1.0, 0.0, 0.5, 1.0]]])
    seen = apply_view(values, View("x", gain=2.0, offset=0.1), spacing_mm=SPACING)
    torch.testing.assert_close(seen, torch.tensor([[[-1.0, 0.1, 1.0, 1.0]]]))


def test_no_view_mirrors() -> None:
    """An L stays an L: the handedness of what a view shows is that of the image."""
    letter = torch.zeros(1, 64, 64)
    letter[0, 16:48, 24:28] = 1.0
    letter[0, 44:48, 24:44] = 1.0
    for view in VIEWS:
        plain = replace(view, gain=1.0, offset=0.0)
        seen = apply_view(letter, plain, spacing_mm=SPACING)
        back = undo_view(seen[None], plain, spacing_mm=SPACING)[0]
        from_letter = (back - letter).abs().mean()
        assert from_letter < (back - letter.flip(2)).abs().mean() / 4
        assert from_letter < (back - letter.flip(1)).abs().mean() / 4


# Networks whose answer is known: brightness above 0.5 is the segment, its mean the logit.


def equivariant(_: JointNet | None, inputs: Sequence[NetworkInput]) -> JointPass:
    images = [torch.from_numpy(one.array_kji) for one in inputs]
    logits = [torch.stack([torch.zeros_like(x), x - 0.5]) for x in images]
    bright = torch.stack([(x > 0.5).float().mean() for x in images])
    return JointPass(logits, torch.stack([bright.mean()] * 2), bright, torch.zeros(1, 1))


def positional(_: JointNet | None, inputs: Sequence[NetworkInput]) -> JointPass:
    """Says a segment in a fixed half of the grid, wherever the anatomy is."""
    found = equivariant(None, inputs)
    half = torch.zeros_like(found.logits[0])
    half[1] = torch.linspace(-1, 1, half.shape[2])[None, :, None]
    return replace(found, logits=[half])


def disc_input() -> NetworkInput:
    blob = disc().repeat(4, 1, 1)
    config = torso_settings().preprocessing
    assert isinstance(config, PreprocessingConfig)
    prepared = Preprocessing(config).apply(image())
    grid = Geometry.from_parts(shape=(48, 48, 4), spacing_mm=(1.0, 1.0, 5.0))
    return replace(prepared, array_kji=blob.numpy(), geometry=grid, content_geometry=grid)


def members(run: object, views: Sequence[View]) -> list[Member]:
    prepared = [disc_input()]
    own = member_of("answer", run(None, prepared), prepared)  # type: ignore[operator]
    return [own, *view_members(None, prepared, run=run, views=views)]  # type: ignore[arg-type]


def test_an_equivariant_network_has_no_spread_over_shifts() -> None:
    shifts = [View("a", shift_voxels=(3, -2)), View("b", shift_voxels=(-5, 4))]
    found = members(equivariant, shifts)
    agreement = segment_uncertainty(found, volume=0, class_index=1, voxel_ml=0.005)
    assert agreement.pairwise_dice == 1.0
    assert agreement.min_pairwise_dice == 1.0
    assert agreement.volume_ml_std == 0.0
    for spread in finding_uncertainty(found, torso_settings()).values():
        assert spread.std == 0.0
        assert spread.low == spread.mean == spread.high
        assert spread.agreement == 1.0


def test_turns_cost_an_equivariant_network_only_their_interpolation() -> None:
    found = members(equivariant, [replace(v, gain=1.0, offset=0.0) for v in VIEWS])
    agreement = segment_uncertainty(found, volume=0, class_index=1, voxel_ml=0.005)
    assert agreement.min_pairwise_dice is not None
    assert agreement.min_pairwise_dice > 0.98


def test_a_network_that_answers_by_position_spreads() -> None:
    found = members(positional, [View("a", shift_voxels=(6, 0))])
    agreement = segment_uncertainty(found, volume=0, class_index=1, voxel_ml=0.005)
    # 24 of 48 rows, and 6 more or fewer: Dice 2 * 24 / (24 + 30)
    assert agreement.pairwise_dice == pytest.approx(2 * 24 / 54, abs=1e-6)


def toy(*shifts: int) -> list[Member]:
    """A mask of 10 voxels in a row, moved by this much, and a logit of the same number."""
    made = []
    for shift in shifts:
        labels = np.zeros((1, 1, 40), dtype=np.int16)
        labels[0, 0, 10 + shift : 20 + shift] = 1
        made.append(Member(str(shift), (labels,), (float(shift), 0.0)))
    return made


def test_pairwise_dice_on_paper() -> None:
    found = segment_uncertainty(toy(0, 5, 10), volume=0, class_index=1, voxel_ml=1.0)
    assert found.pairwise_dice == pytest.approx((0.5 + 0.0 + 0.5) / 3)
    assert found.min_pairwise_dice == 0.0
    assert found.volume_ml_std == 0.0
    empty = segment_uncertainty(toy(0, 5), volume=0, class_index=2, voxel_ml=1.0)
    assert empty.pairwise_dice is None
    assert empty.min_pairwise_dice is None


def test_a_mask_that_only_some_members_see_has_no_overlap() -> None:
    nothing = replace(toy(0)[0], labels=(np.zeros((1, 1, 40), dtype=np.int16),))
    found = segment_uncertainty([*toy(0), nothing], volume=0, class_index=1, voxel_ml=0.5)
    assert found.pairwise_dice == 0.0
    assert found.volume_ml_std == pytest.approx(2.5)  # of 0 and 10 voxels of half a millilitre


def test_probabilities_spread_through_the_calibration() -> None:
    settings = torso_settings()
    spread = finding_uncertainty(toy(0, 2, -2), settings)["large_heart"]
    p = 1 / (1 + math.exp(-2))
    assert spread.mean == pytest.approx(0.5)
    assert (spread.low, spread.high) == pytest.approx((1 - p, p))
    assert spread.std == pytest.approx((p - 0.5) * math.sqrt(2 / 3))
    assert spread.agreement == pytest.approx(2 / 3)  # 0.5 reaches the threshold, 1 - p does not
    flat = settings.findings[0].model_copy(update={"knots": ((-9.0, 0.7), (9.0, 0.7))})
    settled = settings.model_copy(update={"findings": (flat, settings.findings[1])})
    assert finding_uncertainty(toy(0, 2, -2), settled)["large_heart"].std == 0.0


# Real bundles of random weights.


def ensemble(folder: Path, *, seeds: Sequence[int]) -> Path:
    settings = torso_settings()
    write_bundle(
        folder,
        settings,
        random_net(settings).state_dict(),
        card="",
        metrics_json="{}",
        members={
            f"fold{n}": random_net(settings, seed).state_dict() for n, seed in enumerate(seeds)
        },
    )
    return folder


def answer_of(folder: Path, uncertainty: str) -> Prediction:
    return answer(load(folder, cam="none", uncertainty=uncertainty), image())


def test_members_of_equal_weights_agree_in_everything(tmp_path: Path) -> None:
    found = answer_of(ensemble(tmp_path / "b", seeds=(0, 0)), "ensemble")
    assert found.uncertainty is not None
    assert found.uncertainty.method == "ensemble"
    assert found.uncertainty.members == (
        "answer", "weights_fold0.safetensors", "weights_fold1.safetensors",
    )  # fmt: skip
    for finding in found.findings:
        assert finding.uncertainty is not None
        assert finding.uncertainty.std == 0.0
        assert finding.uncertainty.mean == pytest.approx(finding.probability)
    for segment in found.segments:
        assert segment.uncertainty is not None
        assert segment.uncertainty.pairwise_dice in (None, 1.0)


@pytest.mark.parametrize("method", ["tta", "ensemble"])
def test_asking_for_uncertainty_changes_no_answer(method: str, tmp_path: Path) -> None:
    folder = ensemble(tmp_path / "b", seeds=(1, 2))
    plain, asked = answer_of(folder, "none"), answer_of(folder, method)
    assert plain.uncertainty is None
    assert [replace(s, uncertainty=None) for s in asked.segments] == list(plain.segments)
    for one, other in zip(plain.findings, asked.findings, strict=True):
        assert (one.probability, one.decision) == (other.probability, other.decision)
        assert one.uncertainty is None
        assert other.uncertainty is not None
        assert other.uncertainty.low <= one.probability <= other.uncertainty.high
        assert other.uncertainty.std > 0
    assert asked.timings_s["uncertainty"] > 0
    assert answer_of(folder, method).findings[0].uncertainty == asked.findings[0].uncertainty


def test_two_volumes_and_their_segments(tmp_path: Path) -> None:
    write_tiny(tmp_path, heart_settings())
    volumes = [image(name, modality="MR", seed=n) for n, name in enumerate(("ed", "es"))]
    found = answer(load(tmp_path, cam="none", uncertainty="tta"), *volumes)
    assert {segment.volume for segment in found.segments} == {"ed", "es"}
    assert all(segment.uncertainty is not None for segment in found.segments)


def test_an_ensemble_is_part_of_the_bundle(tmp_path: Path) -> None:
    folder = ensemble(tmp_path / "b", seeds=(1, 2))
    verify_bundle(folder)
    nets = load_members(load_bundle(folder))
    assert len(nets) == 2
    first = [next(iter(net.parameters())) for net in nets]
    assert not torch.equal(*first)
    (folder / "weights_fold1.safetensors").write_bytes(b"altered")
    with pytest.raises(BundleError, match=r"weights_fold1\.safetensors"):
        verify_bundle(folder)
    with pytest.raises(BundleError, match=r"weights_fold1\.safetensors"):
        load_predictor(folder, device="cpu", uncertainty="ensemble")
    load_predictor(folder, device="cpu")  # which does not read it


def test_a_bundle_without_an_ensemble_says_so(tmp_path: Path) -> None:
    write_tiny(tmp_path, torso_settings())
    with pytest.raises(BundleError, match=r"Use test-time augmentation"):
        load_predictor(tmp_path, device="cpu", uncertainty="ensemble")
    with pytest.raises(ConfigError, match="--uncertainty"):
        load_predictor(tmp_path, device="cpu", uncertainty="mc-dropout")


def test_only_a_run_with_uncertainty_has_another_setting(tmp_path: Path) -> None:
    """Finished cases of before are not computed again."""
    write_tiny(tmp_path, torso_settings())
    assert "uncertainty" not in load_predictor(tmp_path, device="cpu").settings
    asked = load_predictor(tmp_path, device="cpu", uncertainty="tta").settings
    assert asked["uncertainty"] == "tta"
