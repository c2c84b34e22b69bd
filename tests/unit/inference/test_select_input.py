"""Which volumes a model reads: the written rule, case by case."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from medmtl.core.errors import InputRefusedError
from medmtl.core.geometry import Geometry
from medmtl.inference.select_input import other_series_flags, select_volumes
from tests.tiny_bundle import heart_settings, image, reference, study, torso_settings

if TYPE_CHECKING:
    from medmtl.core.study import VolumeRef

TORSO, HEART = torso_settings(), heart_settings()


def ct(name: str, *, slices: int = 8, modality: str = "CT", phase: int | None = None) -> VolumeRef:
    volume = image(name, modality=modality, shape=(20, 16, slices))
    return reference(volume, phase=phase)


def cine(
    key: str, *, phases: int, slices: int, modality: str = "MR", stack: str = ""
) -> list[VolumeRef]:
    return [
        reference(
            image(f"{key}{stack}-t{n:02d}", modality=modality, shape=(20, 16, slices)),
            phase=n, series_key=key,
        )
        for n in range(phases)
    ]  # fmt: skip


def ids(refs: tuple[VolumeRef, ...]) -> list[str]:
    return [ref.id for ref in refs]


def test_single_takes_the_most_voxels_of_the_modality() -> None:
    refs = [ct("a"), ct("b", slices=12), ct("c", slices=30, modality="MR"), ct("d", slices=11)]
    assert ids(select_volumes(study(refs), TORSO)) == ["b"]


def test_a_tie_goes_to_the_first_id_whatever_the_order() -> None:
    refs = [ct("b"), ct("a"), ct("c")]
    for order in (refs, refs[::-1]):
        assert ids(select_volumes(study(order), TORSO)) == ["a"]


def test_a_still_image_is_preferred_to_a_phase() -> None:
    refs = [ct("t00", slices=20, phase=0), ct("t01", slices=20, phase=1), ct("still", slices=6)]
    assert ids(select_volumes(study(refs), TORSO)) == ["still"]


def test_an_original_is_preferred_to_a_derived_image_of_the_same_size() -> None:
    derived = replace(ct("a"), metadata={"image_type": "DERIVED/PRIMARY/MPR"})
    original = replace(ct("b"), metadata={"image_type": "ORIGINAL/PRIMARY/AXIAL"})
    assert ids(select_volumes(study([derived, original]), TORSO)) == ["b"]


def test_a_cine_of_original_images_is_preferred_to_a_derived_one() -> None:
    derived = [
        replace(ref, metadata={"image_type": "DERIVED/PRIMARY"})
        for ref in cine("s", phases=6, slices=9, stack="-m1")
    ]
    chosen = select_volumes(study([*derived, *cine("s", phases=6, slices=9, stack="-m2")]), HEART)
    assert ids(chosen)[0] == "s-m2-t00"


def unread(refs: list[VolumeRef], read: list[str]) -> list[tuple[str, str]]:
    volumes = [ref.read() for ref in refs if ref.id in read]
    flags = other_series_flags(study(refs), volumes)
    return [(flag.code, flag.message.split(";")[0].split(" of the study")[0]) for flag in flags]


def test_volumes_of_the_same_series_that_were_not_read_are_counted() -> None:
    assert unread([ct("a-m1"), ct("a-m2"), ct("a-m3")], ["a-m2"]) == [
        ("one-of-several-volumes", "1 of 3 volumes were analysed")
    ]


def test_volumes_of_other_series_are_counted_apart() -> None:
    other = reference(image("c", seed=5))
    assert unread([ct("a"), other], ["a"]) == [("other-series-not-analysed", "1 other series")]


def test_all_phases_of_a_cine_were_read() -> None:
    refs = cine("s", phases=6, slices=9)
    assert unread(refs, ids(tuple(refs))) == []


def test_nifti_says_no_modality_and_is_taken_to_be_the_models_own() -> None:
    assert ids(select_volumes(study([ct("n", modality="")]), TORSO)) == ["n"]


def test_phases_named_ed_and_es_come_in_that_order() -> None:
    refs = [
        *cine("s", phases=10, slices=9),
        ct("patient001_ES", modality="MR"),
        ct("patient001_ED", modality="MR"),
    ]
    assert ids(select_volumes(study(refs), HEART)) == ["patient001_ED", "patient001_ES"]


def test_of_several_cines_the_one_with_the_most_slices_in_time_order() -> None:
    short, long = cine("x", phases=30, slices=5), cine("y", phases=6, slices=9)
    chosen = select_volumes(study([*short, *long[::-1]]), HEART)
    assert ids(chosen) == [f"y-t{n:02d}" for n in range(6)]


def test_of_as_many_slices_the_one_with_the_most_phases() -> None:
    few, many = cine("x", phases=6, slices=9), cine("y", phases=8, slices=9)
    mixed = [ref for pair in zip(few, many, strict=False) for ref in pair] + many[6:]
    assert ids(select_volumes(study(mixed), HEART)) == ids(tuple(many))


def test_two_volumes_on_one_grid_are_taken_for_the_two_phases() -> None:
    refs = [ct("one", modality="MR"), ct("two", modality="MR")]
    assert ids(select_volumes(study(refs), HEART)) == ["one", "two"]


@pytest.mark.parametrize(
    "refs",
    [
        [ct("one", modality="MR"), ct("two", modality="MR", slices=9)],
        [ct("one", modality="MR")],
        [ct(name, modality="MR") for name in "abc"],
        cine("s", phases=3, slices=9),
        cine("s", phases=20, slices=3),
        cine("s", phases=20, slices=9, modality="CT"),
        [],
    ],
    ids=["two-grids", "one", "three", "three-phases", "too-few-slices", "ct", "nothing"],
)
def test_what_is_no_pair_of_phases_is_refused(refs: list[VolumeRef]) -> None:
    with pytest.raises(InputRefusedError, match="no-fitting-volume"):
        select_volumes(study(refs), HEART)


@pytest.mark.parametrize("slices", [8, 3], ids=["still-enough", "too-few-for-the-model"])
def test_a_phase_without_its_end_slices_refuses_the_cine_and_is_named(slices: int) -> None:
    whole = cine("s", phases=6, slices=9)
    refs = [*whole[:5], cine("s", phases=6, slices=slices)[5]]
    with pytest.raises(InputRefusedError, match="phases-on-several-grids") as caught:
        select_volumes(study(refs), HEART)
    expected = f"5 x 9 slices (s-t00, s-t01, s-t02, ...), 1 x {slices} slices (s-t05)"
    assert caught.value.found == expected


def test_a_phase_that_lies_one_slice_higher_refuses_the_cine() -> None:
    refs = cine("s", phases=6, slices=9)
    higher = refs[2].geometry.affine_lps.copy()
    higher[:3, 3] += higher[:3, 2]
    refs[2] = replace(refs[2], geometry=Geometry(refs[2].geometry.shape, higher))
    with pytest.raises(InputRefusedError, match="phases-on-several-grids"):
        select_volumes(study(refs), HEART)


def test_named_phases_of_different_slices_are_refused() -> None:
    refs = [ct("ed", modality="", slices=9), ct("es", modality="", slices=8)]
    with pytest.raises(InputRefusedError, match="phases-on-several-grids"):
        select_volumes(study(refs), HEART)


def test_phases_may_jitter_by_a_part_of_a_voxel() -> None:
    refs = cine("s", phases=6, slices=9)
    moved = refs[2].geometry.affine_lps.copy()
    moved[:3, 3] += 0.3 * moved[:3, 0]
    refs[2] = replace(refs[2], geometry=Geometry(refs[2].geometry.shape, moved))
    assert len(select_volumes(study(refs), HEART)) == 6


def test_another_stack_of_the_series_has_its_own_grid() -> None:
    long_axis = cine("s", phases=6, slices=5, stack="-s2")
    chosen = select_volumes(study([*cine("s", phases=6, slices=9), *long_axis]), HEART)
    assert len(chosen) == 6


def test_a_refusal_names_what_was_found_expected_and_can_be_done() -> None:
    refs = [ct("a", modality="MR", slices=9), ct("b", modality="MR", slices=9), ct("c", slices=2)]
    with pytest.raises(InputRefusedError) as caught:
        select_volumes(study(refs), TORSO)
    error = caught.value
    assert (error.source, error.stage) == ("case case", "select")
    assert error.found == "1 x CT of 2 slices, 2 x MR of 9 slices"
    assert error.expected == "one CT volume with at least 4 slices for model tiny-torso"
    assert "--model" in error.advice
    with pytest.raises(InputRefusedError, match="no readable volume, expected a MR cine"):
        select_volumes(study([]), HEART)
