"""The worklist of the viewer over ten thousand finished cases, in a real browser.

A generated result folder, `medmtl view`, and a headless Chromium whose cache is empty. Seconds are
from the request until the table and its count are on the page, and from the Enter key or click of a
filter until the new count is.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.record import Row, finish, options
from tests.app.results import case_record, finding, write_results
from tests.browser.driver import CHROMIUM, browser
from tests.browser.viewer_command import viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CASES, QUICK_CASES, FEW = 10_000, 200, 10
ROUNDS, QUICK_ROUNDS = 5, 1
FINDINGS = ("lung_nodule", "pleural_effusion", "liver_lesion", "renal_cyst", "cardiomegaly",
            "splenomegaly")  # fmt: skip
PAINT_S, FILTER_S = 2.0, 0.5
PATIENCE_MS = 120_000
_SHOWN = """(count) => document.querySelector('[data-testid=stDataFrame] canvas') !== null
  && [...document.querySelectorAll('.m-muted')].some((one) => one.textContent.includes(count))"""


def write_cases(folder: Path, *, cases: int) -> int:
    """Finished cases as `predict` leaves them; how many have a lung nodule."""
    dice = random.Random(1)  # noqa: S311 - a benchmark
    records = [_case(dice) for _ in range(cases)]
    write_results(folder, *records)
    return sum(record["findings"][0]["decision"] for record in records)


def _case(dice: random.Random) -> dict[str, Any]:
    findings = [
        finding(name, round(dice.betavariate(0.5, 1.5), 6), uncertainty={"std": dice.random() / 5})
        for name in FINDINGS
    ]
    flags = {"activation-outside-organ": "warning"} if dice.random() < 0.3 else {}
    segments = [{"volume": "ct", "label": n, "name": f"organ_{n}", "volume_ml": 100.0 * n,
                 "voxels": 1000, "mean_intensity": 40.0} for n in range(1, 11)]  # fmt: skip
    name = f"{dice.getrandbits(48):012x}"
    return case_record(name, *findings, flags=flags, segments=segments)


def first_paint(chromium: Browser, address: str, *, cases: int) -> tuple[float, Page]:
    """Seconds until the table is there, with an empty browser cache."""
    page = chromium.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(PATIENCE_MS)
    start = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(_SHOWN, arg=f"{cases:,} of {cases:,} cases", polling=10)
    return time.perf_counter() - start, page


def search(page: Page, text: str, *, expected: str) -> float:
    """Seconds from Enter until the count of the search is there."""
    box = page.get_by_placeholder("case, finding")
    box.fill(text)
    start = time.perf_counter()
    box.press("Enter")
    page.wait_for_function(_SHOWN, arg=expected, polling=10)
    return time.perf_counter() - start


def measure(folder: Path, *, cases: int, rounds: int) -> dict[str, float]:
    """Seconds of each step; medians where it is repeated."""
    many, few = folder / "many", folder / "few"
    nodules = write_cases(many, cases=cases)
    write_cases(few, cases=FEW)
    found: dict[str, list[float]] = {"few": [], "many": [], "filter": []}
    with browser() as chromium:
        with viewer(many) as address:
            first = _closed(*first_paint(chromium, address, cases=cases))
        with viewer(many) as address, viewer(few) as other:
            later = _closed(*first_paint(chromium, address, cases=cases))
            _closed(*first_paint(chromium, other, cases=FEW))
            for _ in range(rounds):  # in turn, so that both see the same machine
                found["few"].append(_closed(*first_paint(chromium, other, cases=FEW)))
                seconds, page = first_paint(chromium, address, cases=cases)
                found["many"].append(seconds)
                expected = f"{nodules:,} of {cases:,} cases"
                found["filter"].append(search(page, "lung nodule", expected=expected))
                page.context.close()
    medians = {name: statistics.median(values) for name, values in found.items()}
    return medians | {"first start": first, "later start": later}


def _closed(seconds: float, page: Page) -> float:
    """An open page would take time from the next one."""
    page.context.close()
    return seconds


def main() -> None:
    """Measure and write `worklist.json`."""
    arguments = options("Worklist of the viewer.")
    cases = QUICK_CASES if arguments.quick else CASES
    rounds = QUICK_ROUNDS if arguments.quick else ROUNDS
    if CHROMIUM is None:
        print("worklist: needs chromium; not measured")
        return
    with tempfile.TemporaryDirectory() as place:
        found = measure(Path(place), cases=cases, rounds=rounds)
    paint, narrow = found["many"], found["filter"]
    rows = [
        Row(f"{cases:,} cases, first paint, the very first start (every case.json is read)",
            f"{found['first start']:.2f} s"),
        Row(f"{cases:,} cases, first paint, a later start (index kept)",
            f"{found['later start']:.2f} s"),
        Row(f"{cases:,} cases, first paint in a running viewer, median of {rounds}",
            f"{paint:.2f} s", f"under {PAINT_S:g} s", paint < PAINT_S),
        Row(f"the same over {FEW} cases: what Streamlit itself takes to start in a browser",
            f"{found['few']:.2f} s"),
        Row(f"{cases:,} cases, filter, median of {rounds}", f"{narrow:.2f} s",
            f"under {FILTER_S:g} s", narrow < FILTER_S),
    ]  # fmt: skip
    finish("worklist", rows, arguments)


if __name__ == "__main__":
    main()
