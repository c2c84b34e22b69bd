"""A case.json as the case page reads it."""

from __future__ import annotations

from app.services.case_view import view_of_case
from app.services.models import ModelFacts
from tests.app.results import case_record, finding

MEASURED = [
    {"name": name, "value": value, "unit": "mL", "from": "network input"}
    for name, value in (("network_small", 1.0), ("network_large", 2.0), ("network_silent", 3.0))
]


def _read(**evidence: object) -> list[tuple[str, float | None]]:
    names = [one["name"] for one in MEASURED]
    told = {"cam_energy_in_segments": {}, "measurements": names, **evidence}
    record = case_record("one", finding("nodule", 0.9, evidence=told), measurements=MEASURED)
    (view,) = view_of_case(record, None).findings
    return [(one.name, one.contribution) for one in view.measurements]


def test_the_measurement_that_moved_the_answer_most_comes_first_for_or_against() -> None:
    read = _read(contributions={"network_small": 0.2, "network_large": -1.5, "age_years": 3.0})
    assert read == [("network_large", -1.5), ("network_small", 0.2), ("network_silent", None)]


def test_without_contributions_the_order_is_that_of_the_model() -> None:
    assert _read() == [(one["name"], None) for one in MEASURED]


def test_a_measurement_stands_beside_its_training_cases_or_beside_nothing() -> None:
    facts = ModelFacts("torso", "1", "0", measured=((5.0, 1.0), (0.5, 0.125)))
    names = ("network_heart_volume", "network_ratio", "ratio")
    measured = [{"name": name, "value": 1.0, "unit": "1", "from": "masks"} for name in names]
    record = case_record("one", finding("nodule", 0.9), measurements=measured)
    (ratio,) = view_of_case(record, facts).measurements
    assert (ratio.name, ratio.typical_text) == ("ratio", "0.5 ± 0.125")
    (alone,) = view_of_case(
        record, ModelFacts("torso", "1", "0", measured=((5.0, 1.0),))
    ).measurements
    assert alone.typical_text == ""  # the bundle reads other measurements than the case holds
