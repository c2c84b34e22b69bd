"""The demonstration in a real browser: a generated DICOM study, analysed, reviewed, signed.

Where its lesions lie is known, so that a mask, a side or a map in the wrong place is seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medmtl.data.result_case import read_result_case
from tests.browser.driver import CHROMIUM, ViewerPage
from tests.browser.test_viewer import BLUE, ORANGE, tinted
from tests.browser.viewer_command import viewer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from playwright.sync_api import BrowserContext

    from medmtl.core.geometry import Geometry

SEED = "4"  # a lesion of the liver and a cyst of the left kidney at one height
COLOURS = {"liver_lesion": ORANGE, "renal_cyst": BLUE}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]


@dataclass(frozen=True)
class Demo:
    """A running viewer over one analysed study, and the truth of it."""

    address: str
    case_id: str
    grid: Geometry
    lesions: tuple[dict[str, Any], ...]
    present: frozenset[str]

    @property
    def case_address(self) -> str:
        return f"{self.address}/case?case=results%2F{self.case_id}"

    def lesion(self, finding: str) -> tuple[NDArray[np.float64], float]:
        """Middle (LPS mm) and radius in mm of a lesion that was drawn."""
        (found,) = (one for one in self.lesions if one["finding"] == finding)
        return np.array(found["centre_lps_mm"]), float(found["radius_mm"])

    def places(self, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        """x and y (LPS mm) of every pixel of an axial picture that fills the stage."""
        rows, columns = picture.shape[:2]
        size = np.array(self.grid.shape[:2]) * self.grid.spacing_mm[:2]
        mm = 1.04 * max(size[0] / columns, size[1] / rows)
        middle = self.grid.affine_lps @ [*((np.array(self.grid.shape) - 1) / 2), 1]
        y, x = np.indices((rows, columns))
        return np.stack(
            [(x - (columns - 1) / 2) * mm + middle[0], (y - (rows - 1) / 2) * mm + middle[1]], -1
        )

    def disc(
        self, picture: NDArray[np.uint8], centre: NDArray[np.float64], radius_mm: float
    ) -> NDArray[np.bool_]:
        """Pixels so near to a point."""
        away = np.linalg.norm(self.places(picture) - centre[:2], axis=-1)
        return np.asarray(away < radius_mm)


def _command(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "medmtl", *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder: Path = tmp_path_factory.mktemp("demo")
    _command("phantom", "--kind", "torso-ct", "--studies", 1, "--seed", SEED, "-o", folder / "ct")
    _command("predict", folder / "ct" / "studies", "--model", "torso-ct-phantom",
             "-o", folder / "results")  # fmt: skip
    (case,) = (folder / "results").glob("*/case.json")
    truth = json.loads((folder / "ct" / "truth" / case.parent.name / "truth.json").read_bytes())
    result = read_result_case(case.parent)
    present = frozenset(one["name"] for one in result.record["findings"] if one["decision"])
    with viewer(folder) as address:
        yield Demo(address, case.parent.name, result.volume("ct").geometry,
                   tuple(truth["lesions"]), present)  # fmt: skip


def _axial(context: BrowserContext, demo: Demo, finding: str) -> ViewerPage:
    """One axial slice through the middle of a lesion, its finding chosen."""
    at = ",".join(str(value) for value in demo.lesion(finding)[0])
    where = f"{demo.case_address}&layout=axial&finding={finding}&at={at}"
    opened: ViewerPage = ViewerPage.open(context, where)
    return opened


def test_masks_are_where_the_lesions_were_drawn_and_left_is_left(
    context: BrowserContext, demo: Demo
) -> None:
    shown = _axial(context, demo, "liver_lesion")
    shown.press("m")  # the map lies over the mask
    picture = shown.picture()
    for finding, colour in COLOURS.items():
        centre, radius = demo.lesion(finding)
        painted = tinted(picture, colour)
        assert painted[demo.disc(picture, centre, radius / 2)].mean() > 0.8
        mirrored = centre * [-1, 1, 1]
        assert painted[demo.disc(picture, mirrored, radius / 2)].mean() < 0.1
        columns = np.nonzero(demo.disc(picture, centre, radius / 2))[1]
        is_right = centre[0] < 0  # LPS: the patient's left is positive
        assert (columns.mean() < picture.shape[1] / 2) == is_right
    shown.page.close()


def test_the_peak_of_the_map_lies_inside_the_lesion(context: BrowserContext, demo: Demo) -> None:
    assert "liver_lesion" in demo.present
    shown = _axial(context, demo, "liver_lesion")
    shown.press("h")
    with_map = shown.picture().astype(float)
    shown.press("m")
    without = shown.picture().astype(float)
    colour = 2 * with_map - without  # half map, half image
    is_map = np.abs(with_map - without).max(axis=2) > 4
    assert is_map.sum() > 100
    light = np.where(is_map, colour.sum(axis=2), 0)  # the scale grows lighter with the value
    peak = demo.places(shown.picture())[light >= np.quantile(light[is_map], 0.95)].mean(axis=0)
    centre, radius = demo.lesion("liver_lesion")
    assert np.linalg.norm(peak - centre[:2]) < radius
    shown.page.close()


def test_a_finding_leads_into_its_lesion(context: BrowserContext, demo: Demo) -> None:
    shown: ViewerPage = ViewerPage.open(context, f"{demo.case_address}&finding=liver_lesion")
    shown.page.wait_for_url("**at=**")
    centre, radius = demo.lesion("liver_lesion")
    assert np.linalg.norm(_at(shown) - centre) < radius
    shown.page.close()


def test_another_finding_shows_while_the_server_says_nothing(
    context: BrowserContext, demo: Demo
) -> None:
    shown: ViewerPage = ViewerPage.open(context, demo.case_address)
    shown.has_all_findings()
    before = shown.picture()
    context.set_offline(True)
    try:
        shown.page.locator(".st-key-finding-3 button").click()
        shown.page.wait_for_selector('.medmtl-viewer[data-map="Renal cyst"]')
        assert not np.array_equal(shown.picture(), before)
    finally:
        context.set_offline(False)
    shown.page.close()


def _at(shown: ViewerPage) -> NDArray[np.float64]:
    at = shown.page.evaluate("new URLSearchParams(location.search).get('at') ?? ''")
    return np.array([float(part) for part in at.split(",")])


def test_a_reader_goes_all_the_way_and_finds_it_again(context: BrowserContext, demo: Demo) -> None:
    page = context.new_page()
    page.goto(demo.address)
    page.get_by_role("button", name="Open the first case").wait_for()
    page.wait_for_timeout(500)  # its key is listened for a moment after it is drawn
    page.keyboard.press("o")
    shown = ViewerPage(page)
    shown.settle()
    page.wait_for_url("**at=**")

    shown.press("1")
    _scroll(shown, slice_mm=demo.grid.spacing_mm[2])
    _switch(shown, "Renal cyst")
    _toggle(shown, "liver")
    _move(shown, demo)
    _review(shown)

    page.goto(f"{demo.case_address}")
    page.locator(".m-signed").wait_for()
    assert page.locator(".m-line em").all_inner_texts() == ["✓"] * 6
    page.get_by_role("tab", name="Review").click()
    page.get_by_role("cell", name="● signed").wait_for()
    page.close()


def _scroll(shown: ViewerPage, *, slice_mm: float) -> None:
    before, picture = _at(shown), shown.picture()
    shown.page.mouse.move(*shown.at(0.5, 0.5))
    shown.page.mouse.wheel(0, 120)
    shown.page.wait_for_function(f"!location.search.includes('{before[2]:.1f}')")
    assert abs(_at(shown)[2] - before[2]) == pytest.approx(slice_mm, abs=slice_mm / 2 + 0.1)
    assert not np.array_equal(shown.picture(), picture)


def _switch(shown: ViewerPage, title: str) -> None:
    shown.page.get_by_role("button", name=title, exact=True).click()
    shown.page.wait_for_selector(f'.medmtl-viewer[data-map="{title}"]')
    shown.page.locator(".m-evidence b", has_text=title).wait_for()
    shown.page.wait_for_url("**finding=renal_cyst**")


def _toggle(shown: ViewerPage, name: str) -> None:
    shown.tool("Masks and map")
    box = shown.page.locator(f'.row input[title="Show {name}"]')
    shown_before = tinted(shown.picture(), BLUE).sum()
    box.uncheck()
    assert tinted(shown.picture(), BLUE).sum() < shown_before
    box.check()
    assert tinted(shown.picture(), BLUE).sum() == shown_before
    shown.tool("Masks and map")


def _move(shown: ViewerPage, demo: Demo) -> None:
    """A click is where the crosshair goes, to the millimetre."""
    rows, columns = shown.picture().shape[:2]
    expected = demo.places(shown.picture())[int(0.4 * rows), int(0.45 * columns)]
    shown.page.mouse.click(*shown.at(0.45, 0.4))
    shown.page.wait_for_function(
        "x => Math.abs(Number(new URLSearchParams(location.search).get('at').split(',')[0]) - x)"
        " < 1.5", arg=float(expected[0]),
    )  # fmt: skip
    assert _at(shown)[:2] == pytest.approx(expected, abs=1.5)


def _review(shown: ViewerPage) -> None:
    for answered in range(1, 7):
        shown.page.keyboard.press("y")
        shown.page.get_by_text(f"{answered} of 6 answered").wait_for()
        shown.page.wait_for_timeout(300)
    shown.page.keyboard.press("Shift+S")
    shown.page.locator(".m-signed").wait_for()
