"""Operating points: balanced is what is done without asking, the others do what they say."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medmtl.core.errors import ConfigError
from medmtl.core.prediction import Covariates
from medmtl.inference.bundle_settings import BundleSettings, CamSettings, FindingSettings
from medmtl.inference.joint_pass import joint_pass
from medmtl.inference.operating_point import Mirror, OperatingPoint
from medmtl.inference.routes import OwnRoute
from medmtl.inference.view_mean import mean_over_views
from tests.tiny_bundle import (
    TORSO,
    TORSO_FINDINGS,
    answer,
    image,
    load,
    torso_settings,
    write_tiny,
)
from tests.unit.inference.test_joint_pass import CPU, network, prepared

if TYPE_CHECKING:
    from pathlib import Path


FINDINGS = tuple(
    FindingSettings(name=name, segments=TORSO, calibrated=True) for name in TORSO_FINDINGS
)


def settings(**speeds: OperatingPoint) -> BundleSettings:
    return torso_settings(speeds=speeds, findings=FINDINGS)


def test_balanced_is_what_is_done_without_being_asked(tmp_path: Path) -> None:
    write_tiny(tmp_path, settings(fast=OperatingPoint(spacing_factor=2)))
    plain, balanced = load(tmp_path), load(tmp_path, speed="balanced")
    assert plain.settings == balanced.settings
    assert "speed" not in plain.settings
    assert BundleSettings.operating_point(settings(), "balanced") == OperatingPoint()
    assert all(finding.calibrated for finding in answer(balanced, image()).findings)


def test_fast_works_on_a_coarser_grid_and_says_that_it_is_not_calibrated(tmp_path: Path) -> None:
    write_tiny(tmp_path, settings(fast=OperatingPoint(spacing_factor=2)))
    balanced, fast = load(tmp_path), load(tmp_path, speed="fast")
    assert isinstance(fast.route, OwnRoute)
    assert isinstance(balanced.route, OwnRoute)
    coarse = fast.route.prepare(image()).geometry.spacing_mm
    fine = balanced.route.prepare(image()).geometry.spacing_mm
    np.testing.assert_allclose(coarse, np.multiply(fine, 2), rtol=0.3)  # whole voxels of the extent
    assert fast.settings["speed"] == "fast"
    found = answer(fast, image())
    assert found.volumes[0].label_map.shape == image().array.shape
    assert not any(finding.calibrated for finding in found.findings)


@pytest.mark.parametrize("axis", ["i", "j", "k"])
def test_a_network_that_knows_no_direction_says_the_same_of_a_mirror_image(axis: Any) -> None:
    net, inputs = network(), [prepared(1)]
    run = partial(joint_pass, net, covariates=Covariates(), cam=CamSettings(), device=CPU)
    first = run(inputs)
    mean = mean_over_views(first, inputs, [Mirror(axis)], run=run)
    torch.testing.assert_close(mean.logits[0], first.logits[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mean.measurements, first.measurements, atol=1e-4, rtol=1e-4)
    assert mean.finding_logits is not None
    assert first.finding_logits is not None
    torch.testing.assert_close(mean.finding_logits, first.finding_logits, atol=1e-4, rtol=1e-4)


def test_the_mean_is_that_of_all_views() -> None:
    net, inputs = network(kernels=((3, 3, 3),) * 3), [prepared(1)]
    run = partial(joint_pass, net, covariates=Covariates(), cam=CamSettings(), device=CPU)
    first = run(inputs)
    views = OperatingPoint(flips=("i",), shifts=2).further_views()
    assert len(views) == 3
    each = [mean_over_views(first, inputs, [view], run=run).logits[0] for view in views]
    # A mean with the first: its other half is twice the mean less the first.
    others = [2 * one - first.logits[0] for one in each]
    expected = torch.stack([first.logits[0], *others]).mean(dim=0)
    together = mean_over_views(first, inputs, views, run=run).logits[0]
    torch.testing.assert_close(together, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together, first.logits[0], atol=1e-3)


def test_what_a_bundle_does_not_have_is_said(tmp_path: Path) -> None:
    write_tiny(tmp_path, settings())
    with pytest.raises(ConfigError, match="no such operating point"):
        load(tmp_path, speed="best")
    with pytest.raises(ConfigError, match="fast, balanced, best"):
        load(tmp_path, speed="quick")
    with pytest.raises(ValidationError, match="spacing_factor"):
        OperatingPoint(spacing_factor=0.5)
