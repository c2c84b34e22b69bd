"""Measurements of bodies whose volume and thickness are known on paper."""

import math

import pytest
import torch
from torch import Tensor

from medmtl.networks.measurements import (
    CardiacMeasurements,
    TorsoMeasurements,
    body_surface_m2,
    divide,
    firm_sum,
    soft_width,
)

SPACING_MM = (8.0, 1.0, 1.0)  # K, J, I
SLICES, SIZE = 10, 128
UNKNOWN = {name: torch.tensor([math.nan]) for name in ("height_cm", "weight_kg")}
MEASURE = CardiacMeasurements()


def disc(radius_mm: float, *, offset_mm: float = 0.0, centre_i: float = 63.5) -> Tensor:
    """A soft-edged disc (J, I) of 1 mm pixels."""
    j, i = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    distance = torch.hypot(j - 63.5, i - centre_i - offset_mm)
    return (radius_mm + 0.5 - distance).clamp(0, 1)


def heart(
    *, cavity_mm: float, wall_mm: float, rv_mm: float = 15.0, shift_mm: float = 0.0, slices: int = 6
) -> Tensor:
    """Cylinders (1, 4, K, J, I): left cavity inside its wall, right ventricle beside it.

    `shift_mm` moves the cavity inside the wall, so that the wall is thin on one side.
    """
    cavity = disc(cavity_mm, offset_mm=shift_mm)
    wall = (disc(cavity_mm + wall_mm) - cavity).clamp_min(0)
    right = disc(rv_mm, centre_i=15.5)
    planes = torch.stack([1 - cavity - wall - right, right, wall, cavity])
    volume = torch.zeros(4, SLICES, SIZE, SIZE)
    volume[0] = 1.0
    volume[:, 2 : 2 + slices] = planes[:, None]
    return volume[None]


def measure(
    ed: Tensor, es: Tensor, covariates: dict[str, Tensor] | None = None
) -> dict[str, float]:
    spacing = torch.tensor([[SPACING_MM, SPACING_MM]])
    values = MEASURE([ed, es], spacing, covariates or UNKNOWN)
    return dict(zip(MEASURE.names, values[0].tolist(), strict=True))


ED = heart(cavity_mm=25, wall_mm=10)
ES = heart(cavity_mm=15, wall_mm=15, rv_mm=10)


def cylinder_ml(radius_mm: float, slices: int = 6) -> float:
    return math.pi * radius_mm**2 * slices * SPACING_MM[0] / 1000


def test_volumes_are_those_of_cylinders() -> None:
    values = measure(ED, ES)
    assert values["lv_ed_volume"] == pytest.approx(cylinder_ml(25), rel=0.01)
    assert values["lv_es_volume"] == pytest.approx(cylinder_ml(15), rel=0.01)
    assert values["rv_ed_volume"] == pytest.approx(cylinder_ml(15), rel=0.01)
    wall_ml = cylinder_ml(35) - cylinder_ml(25)
    assert values["lv_ed_mass"] == pytest.approx(1.05 * wall_ml, rel=0.01)
    assert values["lv_mass_volume_ratio"] == pytest.approx(1.05 * (35**2 / 25**2 - 1), rel=0.01)


def test_ejection_fractions_and_ratios_follow_from_the_radii() -> None:
    values = measure(ED, ES)
    assert values["lv_ejection_fraction"] == pytest.approx(1 - 15**2 / 25**2, abs=0.01)
    assert values["rv_ejection_fraction"] == pytest.approx(1 - 10**2 / 15**2, abs=0.01)
    assert values["rv_lv_ed_volume_ratio"] == pytest.approx(15**2 / 25**2, rel=0.01)
    assert values["rv_lv_es_volume_ratio"] == pytest.approx(10**2 / 15**2, rel=0.02)


def test_wall_thickness_and_motion_of_concentric_cylinders() -> None:
    values = measure(ED, ES)
    assert values["wall_thickness_ed_mean"] == pytest.approx(10, abs=0.3)
    assert values["wall_thickness_es_mean"] == pytest.approx(15, abs=0.3)
    assert values["wall_thickness_ed_max"] == pytest.approx(10, abs=0.3)
    assert values["wall_thickness_ed_spread"] < 0.3
    assert values["wall_thickening_mean"] == pytest.approx(0.5, abs=0.05)
    assert values["radial_shortening_mean"] == pytest.approx(1 - 15 / 25, abs=0.02)


def test_the_thickest_sector_of_an_eccentric_wall_is_on_the_far_side() -> None:
    values = measure(heart(cavity_mm=20, wall_mm=10, shift_mm=5), ES)
    # Along the shift the wall is 10 - 5 mm thick, against it 10 + 5 mm.
    assert values["wall_thickness_ed_max"] == pytest.approx(15, abs=0.7)
    assert values["wall_thickness_ed_mean"] == pytest.approx(10, abs=0.5)
    assert values["wall_thickness_ed_spread"] > 2.0


def test_thickness_is_in_millimetres_whatever_the_pixel() -> None:
    half = [image[:, :, :, ::2, ::2] for image in (ED, ES)]
    spacing = torch.tensor([[(8.0, 2.0, 2.0)] * 2])
    values = dict(zip(MEASURE.names, MEASURE(half, spacing, UNKNOWN)[0].tolist(), strict=True))
    assert values["wall_thickness_ed_mean"] == pytest.approx(10, abs=0.5)
    assert values["lv_ed_volume"] == pytest.approx(cylinder_ml(25), rel=0.02)
    # Rays that start half a pixel beside the centre would see a lopsided motion (0.011).
    assert values["radial_shortening_spread"] < 0.005


def test_body_surface_by_mosteller() -> None:
    body = {"height_cm": torch.tensor([180.0]), "weight_kg": torch.tensor([72.0])}
    assert body_surface_m2(body).item() == pytest.approx(1.897, abs=5e-4)
    values = measure(ED, ES, body)
    assert values["lv_ed_volume_index"] == pytest.approx(values["lv_ed_volume"] / 1.8974, rel=1e-4)


def test_without_height_or_weight_only_the_indexed_values_are_unknown() -> None:
    values = measure(
        ED, ES, {"height_cm": torch.tensor([180.0]), "weight_kg": UNKNOWN["weight_kg"]}
    )
    unknown = {name for name, value in values.items() if math.isnan(value)}
    assert unknown == {name for name in MEASURE.names if name.endswith("_index")}


def test_an_empty_ventricle_makes_ratios_unknown_not_zero() -> None:
    empty = torch.zeros_like(ED)
    empty[:, 0] = 1.0
    values = measure(empty, empty)
    assert values["lv_ed_volume"] == 0.0
    assert math.isnan(values["lv_ejection_fraction"])
    assert math.isnan(values["wall_thickness_ed_mean"])


def test_motion_between_grids_of_unequal_depth_is_unknown() -> None:
    values = measure(ED, ES[:, :, 1:])
    unknown = {name for name, value in values.items() if math.isnan(value)}
    motion = {name for name in MEASURE.names if name.startswith(("wall_thickening", "radial_"))}
    assert unknown == motion | {name for name in MEASURE.names if name.endswith("_index")}
    assert values["wall_thickness_es_mean"] == pytest.approx(15, abs=0.3)


def test_the_gradient_into_the_masks_is_finite_and_not_zero() -> None:
    ed, es = (image.clone().requires_grad_() for image in (ED, ES))
    values = MEASURE([ed, es], torch.tensor([[SPACING_MM, SPACING_MM]]), UNKNOWN)
    total = values[torch.isfinite(values)].sum()
    for gradient in torch.autograd.grad(total, [ed, es]):
        assert torch.isfinite(gradient).all()
        assert gradient[:, 1:].abs().sum() > 0


def test_the_gradient_stays_finite_where_everything_is_empty() -> None:
    image = torch.zeros_like(ED).requires_grad_()
    values = MEASURE([image, image], torch.tensor([[SPACING_MM, SPACING_MM]]), UNKNOWN)
    (gradient,) = torch.autograd.grad(torch.nan_to_num(values).sum(), image)
    assert torch.isfinite(gradient).all()


def test_names_and_units_match_the_values() -> None:
    assert len(MEASURE.names) == len(MEASURE.units) == len(set(MEASURE.names))
    assert MEASURE([ED, ES], torch.tensor([[SPACING_MM] * 2]), UNKNOWN).shape == (
        1,
        len(MEASURE.names),
    )


def test_division_by_too_little_is_unknown_with_a_finite_gradient() -> None:
    denominator = torch.tensor([0.0, 2.0], requires_grad=True)
    quotient = divide(torch.ones(2), denominator, at_least=1.0)
    assert math.isnan(quotient[0].item())
    assert quotient[1].item() == 0.5
    (gradient,) = torch.autograd.grad(quotient[1], denominator)
    assert gradient.tolist() == [0.0, -0.25]


def test_soft_width_counts_columns() -> None:
    columns = torch.zeros(2, 100)
    columns[0, 30:70] = 1.0
    assert soft_width(columns)[0].item() == pytest.approx(40, abs=0.5)
    assert soft_width(columns)[1].item() < 1.0


def test_firm_keeps_both_ends_and_the_middle_and_silences_small_probabilities() -> None:
    values = firm_sum(torch.tensor([0.0, 0.05, 0.5, 1.0]).reshape(1, 4, 1, 1, 1))[0]
    assert values[[0, 2, 3]].tolist() == pytest.approx([0.0, 0.5, 1.0], abs=1e-6)
    assert values[1] < 0.003


def test_what_a_torso_is_measured_by_adds_up_over_slabs_of_slices() -> None:
    torch.manual_seed(0)
    names = ("lung", "pleural_effusion", "heart")
    probabilities = torch.randn(2, 4, 6, 5, 90).mul(4).softmax(dim=1)
    spacing = torch.tensor([[(2.0, 3.0, 1.5)], [(4.0, 2.0, 1.0)]])
    measure_torso = TorsoMeasurements(names)
    slabs = torch.split(probabilities, [1, 2, 3], dim=2)
    first, *others = (measure_torso.sums(slab) for slab in slabs)
    joined = measure_torso.finish(first + others[0] + others[1], spacing)
    whole = measure_torso([probabilities], spacing, {})
    torch.testing.assert_close(joined, whole, rtol=1e-5, atol=1e-5)


def test_cardiothoracic_ratio_of_boxes() -> None:
    names = ("lung_left", "lung_right", "heart")
    probabilities = torch.zeros(1, 4, 2, 4, 200)
    probabilities[0, 0] = 1.0
    for label, columns in ((1, slice(20, 80)), (2, slice(120, 180)), (3, slice(80, 120))):
        probabilities[0, label, :, :, columns] = 1.0
        probabilities[0, 0, :, :, columns] = 0.0
    measure_torso = TorsoMeasurements(names)
    values = measure_torso([probabilities], torch.tensor([[(2.0, 3.0, 1.5)]]), {})
    named = dict(zip(measure_torso.names, values[0].tolist(), strict=True))
    # Heart over the lungs' columns (not their hull): 40 / 120.
    assert named["cardiothoracic_ratio"] == pytest.approx(40 / 120, abs=0.01)
    assert named["lung_left_volume"] == pytest.approx(2 * 4 * 60 * 9.0 / 1000)


def test_the_cardiothoracic_ratio_without_lungs_is_unknown() -> None:
    measure_torso = TorsoMeasurements(("lung", "heart"))
    values = measure_torso([torch.zeros(1, 3, 2, 4, 50)], torch.tensor([[(2.0, 3.0, 1.5)]]), {})
    assert math.isnan(values[0, -1].item())
