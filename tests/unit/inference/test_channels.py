"""Which series is which channel: by what is written, never by guess."""

from __future__ import annotations

from typing import Any

import pytest

from medmtl.core.errors import ConfigError, InputRefusedError
from medmtl.core.geometry import Geometry
from medmtl.core.study import Study, VolumeRef
from medmtl.inference.bundle_settings import ChannelSettings
from medmtl.inference.channels import match_channels, parse_channels

GRID = Geometry.from_parts(shape=(4, 4, 4), spacing_mm=(1, 1, 1))
BRATS = [ChannelSettings(name=name, modality="MR") for name in ("T1", "T1ce", "T2", "FLAIR")]
HYBRID = [ChannelSettings(name="CT", modality="CT"), ChannelSettings(name="PET", modality="PT")]


def series(id: str, description: str = "", *, modality: str = "MR", **more: Any) -> VolumeRef:
    described = (description,) if description else ()
    return VolumeRef(
        id=id, decode=lambda _: None, geometry=GRID, modality=modality,  # type: ignore[arg-type,return-value]  # never read
        described=described, **more,
    )  # fmt: skip


def study(*refs: VolumeRef, kind: str = "dicom") -> Study:
    return Study(case_id="case", kind=kind, study_uid="1.2", volumes=refs)


def matched(case: Study, channels: list[ChannelSettings], **chosen: str) -> list[tuple[str, str]]:
    return [(one.ref.id, one.matched_by) for one in match_channels(case, channels, chosen=chosen)]


def refusal(case: Study, channels: list[ChannelSettings], **chosen: str) -> InputRefusedError:
    with pytest.raises(InputRefusedError) as refused:
        match_channels(case, channels, chosen=chosen)
    return refused.value


def test_sequences_are_told_by_the_words_of_their_names() -> None:
    case = study(
        series("a", "AX FLAIR"), series("b", "t2_tse_tra"), series("c", "T1w SE post Gd"),
        series("d", "t1_mprage_sag"), series("e", "ADC"),
    )  # fmt: skip
    assert matched(case, BRATS) == [(id, "name") for id in ("d", "c", "b", "a")]


def test_contrast_agent_is_never_taken_for_the_image_without() -> None:
    case = study(series("a", "T1 +C"), series("b", "T2"), series("c", "flair"))
    error = refusal(case, BRATS)
    assert error.code == "channel-missing"
    assert error.found == "none by name among a (MR), b (MR), c (MR)"


def test_two_series_that_fit_are_ambiguous_until_one_is_named() -> None:
    refs = [series("a", "T1"), series("b", "T1 repeat"), series("c", "T1ce"), series("d", "T2")]
    case = study(*refs, series("e", "FLAIR"))
    error = refusal(case, BRATS)
    assert error.code == "channel-ambiguous"
    assert "a, b" in error.found
    assert "--channel T1=SERIES" in error.advice
    assert matched(case, BRATS, T1="t1  REPEAT")[0] == ("b", "option")
    assert matched(case, BRATS, T1="a")[0] == ("a", "option")
    assert refusal(case, BRATS, T1="T1 other").code == "channel-missing"
    assert "both T1 and T1ce" in refusal(case, BRATS, T1="c").found


def test_the_only_series_of_a_modality_needs_no_name() -> None:
    case = study(series("p", "WB", modality="PT"), series("c", "Legs", modality="CT"))
    assert matched(case, HYBRID) == [("c", "modality"), ("p", "modality")]
    two = study(*case.volumes, series("d", "CT thin", modality="CT"))
    assert refusal(two, HYBRID).code == "channel-ambiguous"  # "CT" in a description says nothing
    assert matched(two, HYBRID, CT="CT thin")[0] == ("d", "option")
    assert refusal(study(case.volumes[0]), HYBRID).code == "channel-missing"


def test_nifti_goes_by_number_or_by_the_name_of_the_file() -> None:
    numbered = study(*(series(f"000{n}", modality="") for n in range(4)), kind="nifti")
    assert matched(numbered, BRATS) == [(f"000{n}", "number") for n in range(4)]
    named = study(*(series(id, modality="") for id in ("flair", "t1", "t1ce", "t2")), kind="nifti")
    assert [id for id, _ in matched(named, BRATS)] == ["t1", "t1ce", "t2", "flair"]
    told = study(*(series(id) for id in ("flair", "t1", "t1ce", "t2")), kind="nifti")
    assert matched(told, BRATS) == matched(named, BRATS)  # a manifest says the modality as well
    twins = study(*named.volumes, series("t1", modality=""), kind="nifti")
    assert refusal(twins, BRATS).code == "channel-ambiguous"


def test_a_description_is_in_no_refusal() -> None:
    case = study(series("a", "DOE JANE T1"), series("b", "T1 Doe"))
    assert "doe" not in str(refusal(case, BRATS)).lower()


def test_options_name_channels_of_the_model() -> None:
    assert parse_channels(["t1=ax t1"], ["T1", "T2"]) == {"T1": "ax t1"}
    for wrong in (["T3=x"], ["T1"], ["T1="], ["T1=a", "t1=b"]):
        with pytest.raises(ConfigError, match="expected NAME=SERIES"):
            parse_channels(wrong, ["T1", "T2"])
    with pytest.raises(ConfigError, match="the model has one channel"):
        parse_channels(["T1=x"], [])
