"""How a volume is labelled and windowed before anybody touches it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from app.scene_of_case import grey_values

if TYPE_CHECKING:
    from app.open_case import OpenCase


def _case(modality: str, *flags: str) -> OpenCase:
    answer = SimpleNamespace(flags=[SimpleNamespace(code=code) for code in flags])
    row = SimpleNamespace(modality=modality)
    return cast("OpenCase", SimpleNamespace(row=row, answer=answer, model=None))


def test_a_ct_is_shown_in_hounsfield_units_with_their_windows() -> None:
    values = grey_values(_case("CT", "lossy-compression"))
    assert values["unit"] == "HU"
    assert (values["presets"][0].low, values["presets"][0].high) == values["window"]


@pytest.mark.parametrize(
    ("modality", "flag"), [("CT", "rescale-missing"), ("CT", "not-hounsfield"), ("MR", "any")]
)
def test_other_values_have_no_unit_and_no_window_of_hounsfield_units(
    modality: str, flag: str
) -> None:
    values = grey_values(_case(modality, flag))
    assert (values["unit"], values["presets"], values["window"]) == ("", (), None)
