"""What a reader sees and does, in a real browser with software WebGL."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlparse

import numpy as np
import pytest

from tests.browser.conftest import LESION, LESION_LPS, ORGAN_LPS, SHAPE, SPACING_MM
from tests.browser.driver import ViewerPage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from playwright.sync_api import Browser, BrowserContext, Dialog

ORANGE, BLUE = (230, 159, 0), (86, 180, 233)


@pytest.fixture
def viewer(context: BrowserContext, address: str) -> Iterator[ViewerPage]:
    found = ViewerPage.open(context, address)
    yield found
    found.page.close()


def tinted(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Pixels that are a grey with a share of the colour: their hue is the colour's."""
    rgb = picture.astype(float)
    chroma = rgb - rgb.min(axis=2, keepdims=True)
    wanted = np.array(colour, dtype=float) - min(colour)
    strength = chroma.max(axis=2)
    close = np.abs(chroma / np.maximum(strength, 1)[..., None] - wanted / wanted.max()).max(axis=2)
    return np.asarray((strength > 25) & (close < 0.12))


def middle(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Centre of the true pixels as shares (x, y) of the picture."""
    rows, columns = np.nonzero(mask)
    assert rows.size > 20, "nothing is drawn in this colour"
    return float(columns.mean() / mask.shape[1]), float(rows.mean() / mask.shape[0])


def go_to(viewer: ViewerPage, point: tuple[float, float, float]) -> None:
    words = " ".join(map(str, point))
    if viewer.is_told(words):  # the page sends nothing when nothing changes
        return
    before = viewer.frames()
    box = viewer.page.get_by_label("Go to", exact=True)
    box.fill(words)
    box.press("Enter")
    viewer.told(words)
    viewer.drawn_since(before)


def share_of(viewer: ViewerPage, right_mm: float, down_mm: float) -> tuple[float, float]:
    """Where a distance from the middle of the image lies on an axial picture."""
    height, width = viewer.picture().shape[:2]
    mm = max(SHAPE[0] * SPACING_MM[0] / width, SHAPE[1] * SPACING_MM[1] / height) * 1.04
    return 0.5 + right_mm / mm / width, 0.5 + down_mm / mm / height


def test_mask_is_where_the_lesion_is_and_left_is_left(viewer: ViewerPage) -> None:
    go_to(viewer, LESION_LPS)
    x, y = middle(tinted(viewer.picture(), ORANGE))
    expected = share_of(viewer, LESION_LPS[0], LESION_LPS[1])
    assert (x, y) == pytest.approx(expected, abs=0.01)
    assert x < 0.5  # the patient's right is on the left
    assert y < 0.5  # in front is above
    assert "right is on the left" in viewer.page.locator(".medmtl-viewer .status").inner_text()


def test_coronal_and_sagittal_show_the_head_above(viewer: ViewerPage) -> None:
    go_to(viewer, LESION_LPS)
    for key, is_left in (("2", True), ("3", True)):  # right of the patient; front of the patient
        viewer.press(key)
        x, y = middle(tinted(viewer.picture(), ORANGE))
        assert (x < 0.5) is is_left
        assert y < 0.5


def test_peak_of_the_map_lies_in_the_lesion_and_follows_the_finding(viewer: ViewerPage) -> None:
    viewer.choose("Finding", "lesion")
    viewer.page.wait_for_selector('.medmtl-viewer[data-map="lesion"]')
    go_to(viewer, LESION_LPS)
    viewer.press("h")  # masks away
    plain_and_map = viewer.picture().astype(int)
    viewer.press("m")
    painted = np.abs(plain_and_map - viewer.picture().astype(int)).sum(axis=2) > 30
    assert middle(painted) == pytest.approx(share_of(viewer, *LESION_LPS[:2]), abs=0.02)
    viewer.press("m")
    viewer.choose("Finding", "mirror")
    viewer.page.wait_for_selector('.medmtl-viewer[data-map="mirror"]')
    mirrored = np.abs(viewer.picture().astype(int) - plain_and_map).sum(axis=2) > 30
    assert mirrored[:, mirrored.shape[1] // 2 :].sum() > 500  # the other side of the patient


def test_switching_the_finding_moves_under_50_kb(viewer: ViewerPage) -> None:
    viewer.choose("Finding", "lesion")
    viewer.page.wait_for_timeout(800)
    moved = viewer.bytes_moved()
    viewer.choose("Finding", "mirror")
    viewer.page.wait_for_timeout(1500)
    viewer.settle()
    assert moved
    assert sum(moved) < 50_000


def test_no_request_leaves_the_machine(chromium: Browser, address: str) -> None:
    page = chromium.new_page()
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(urlparse(request.url).hostname or "local"))
    page.goto(address)
    viewer = ViewerPage(page)
    viewer.settle()
    viewer.press("4")
    viewer.choose("Finding", "lesion")
    page.wait_for_timeout(800)
    page.close()
    assert hosts <= {"127.0.0.1", "local"}


def test_wheel_shows_the_next_slice(viewer: ViewerPage) -> None:
    viewer.page.mouse.move(*viewer.at(0.5, 0.5))
    before = viewer.status()
    viewer.page.mouse.wheel(0, 120)
    viewer.settle()
    viewer.page.mouse.move(*viewer.at(0.501, 0.5))
    assert viewer.status() != before
    assert "I 2 mm" in viewer.status()  # one slice of 3 mm below the middle of an even number


def test_value_and_structure_under_the_cursor(viewer: ViewerPage) -> None:
    go_to(viewer, LESION_LPS)
    viewer.page.mouse.move(*viewer.at(*share_of(viewer, *LESION_LPS[:2])))
    assert "100 HU" in viewer.status()
    assert "lesion" in viewer.status()


def test_window_by_preset_and_by_drag(viewer: ViewerPage) -> None:
    before = viewer.picture()
    viewer.page.locator('select[title="Window"]').select_option(label="Narrow")
    narrow = viewer.picture()
    x, y = before.shape[1] // 2, before.shape[0] // 2
    assert before[y, x, 0] == pytest.approx(128, abs=3)  # 0 HU in -200..200
    assert narrow[y, x, 0] == 0  # 0 HU in 0..100
    viewer.drag((0.5, 0.5), (0.5, 0.3), button="right")
    assert viewer.picture()[y, x, 0] > 0  # up brightens
    assert "CrosshairMoved" in viewer.event()


def test_invert_turns_black_and_white(viewer: ViewerPage) -> None:
    before = viewer.picture()
    row, column = before.shape[0] // 2, before.shape[1] // 2 + 7
    viewer.press("i")
    after = viewer.picture()
    assert (
        np.abs(after[row, column].astype(int) - (255 - before[row, column].astype(int))).max() <= 1
    )


def test_without_smoothing_voxels_have_edges(viewer: ViewerPage) -> None:
    viewer.press("h")
    go_to(viewer, LESION_LPS)
    smooth = len(np.unique(viewer.picture()))
    viewer.press("s")
    assert len(np.unique(viewer.picture())) < smooth


def test_segment_can_be_hidden_from_python_and_by_hand(viewer: ViewerPage) -> None:
    go_to(viewer, LESION_LPS)
    assert tinted(viewer.picture(), ORANGE).sum() > 100
    viewer.page.get_by_text("First segment").click()
    viewer.told("first=False")
    assert tinted(viewer.picture(), ORANGE).sum() == 0
    viewer.tool("Masks and map")
    viewer.page.locator('.row[data-label="1"] input[title="Show lesion"]').check()
    assert tinted(viewer.picture(), ORANGE).sum() > 100


def test_opacity_and_outline(viewer: ViewerPage) -> None:
    go_to(viewer, LESION_LPS)
    filled = tinted(viewer.picture(), ORANGE).sum()
    viewer.tool("Masks and map")
    viewer.page.locator('.row[data-label="1"] input[title^="Outline"]').check()
    outline = tinted(viewer.picture(), ORANGE)
    assert 0 < outline.sum() < filled / 3
    slider = viewer.page.locator('.row[data-label="1"] input[type="range"]')
    slider.fill("0")
    assert tinted(viewer.picture(), ORANGE).sum() == 0


def test_click_moves_the_crosshair_and_python_hears_it_once_it_is_up(viewer: ViewerPage) -> None:
    viewer.press("4")
    before = viewer.heard("layout='mpr'")
    place = viewer.at(0.2, 0.2)
    viewer.page.mouse.move(*place)
    viewer.page.mouse.down()
    viewer.page.mouse.move(place[0] + 30, place[1])
    viewer.page.wait_for_timeout(700)
    assert viewer.event() == before
    viewer.page.mouse.up()
    viewer.page.wait_for_function(
        "(before) => document.querySelector('#event').innerText !== before", arg=before
    )
    assert "CrosshairMoved" in viewer.event()


def test_distance_is_in_millimetres(viewer: ViewerPage) -> None:
    viewer.tool("Distance")
    start, end = share_of(viewer, -30.0, 0.0), share_of(viewer, 20.0, 0.0)
    viewer.drag(start, end)
    viewer.heard("Measured")
    value = float(viewer.event().partition("value=")[2].partition(",")[0])
    assert value == pytest.approx(50.0, abs=0.5)


def test_right_angle_measures_90_degrees(viewer: ViewerPage) -> None:
    viewer.tool("Angle")
    for place in ((-30.0, 0.0), (0.0, 0.0), (0.0, 30.0)):
        viewer.page.mouse.click(*viewer.at(*share_of(viewer, *place)))
    viewer.heard("angle")
    value = float(viewer.event().partition("value=")[2].partition(",")[0])
    assert value == pytest.approx(90.0, abs=1.0)


def test_painted_voxels_arrive_on_the_source_grid_and_undo_takes_them_back(
    viewer: ViewerPage, stage: Path
) -> None:
    go_to(viewer, LESION_LPS)
    viewer.tool("Brush")
    place = share_of(viewer, 0.0, 0.0)
    viewer.drag(place, (place[0] + 0.002, place[1]))
    assert viewer.picture()[..., 0].size
    viewer.page.keyboard.press("Control+z")
    viewer.settle()
    viewer.drag(place, (place[0] + 0.002, place[1]))
    viewer.page.locator(".medmtl-viewer").get_by_text("Save mask").click()
    viewer.heard("MaskSaved")
    saved = np.load(stage / "saved.npz")["mask"]
    import nibabel as nib

    before = np.asarray(nib.load(stage / "labels.nii.gz").dataobj)
    changed = np.argwhere(saved != before)
    assert saved.shape == SHAPE
    assert len(changed) > 5
    assert set(changed[:, 2]) == {LESION[2]}  # one slice
    assert np.abs(changed[:, :2].mean(axis=0) - (np.array(SHAPE[:2]) - 1) / 2).max() < 1.5
    assert f"voxels_changed={len(changed)}" in viewer.event()


def test_a_painted_mask_behind_is_saved_and_stays_until_then(
    viewer: ViewerPage, stage: Path
) -> None:
    """Another mask of it arrives, and the reader is asked before the next case."""
    viewer.press("6")
    viewer.page.wait_for_timeout(500)
    viewer.tool("Brush")
    viewer.drag((0.75, 0.5), (0.752, 0.5))
    viewer.page.get_by_text("Other masks").click()
    said = viewer.page.locator(".medmtl-viewer .status").get_by_text("stays until you save")
    said.wait_for()
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    viewer.page.once("dialog", stay)
    viewer.page.keyboard.press("n")
    assert "is not saved" in asked[0]
    viewer.page.locator(".medmtl-viewer").get_by_text("Save mask").click()
    viewer.heard("MaskSaved")
    saved = np.load(stage / "saved.npz")["mask"]
    assert "volume='second'" in viewer.event()
    assert f"voxels_changed={np.count_nonzero(saved)})" in viewer.event()
    viewer.page.locator(".medmtl-viewer").get_by_text("Save mask").click()
    viewer.page.get_by_text("Nothing has been painted that is not saved.").wait_for()


def test_what_was_painted_on_one_answer_does_not_go_to_another(viewer: ViewerPage) -> None:
    viewer.tool("Brush")
    viewer.drag((0.5, 0.5), (0.502, 0.5))
    viewer.page.get_by_text("Another answer").click()
    said = viewer.page.locator(".medmtl-viewer .status")
    said.get_by_text("What was painted on the masks before has not been saved.").wait_for()
    viewer.page.locator(".medmtl-viewer").get_by_text("Save mask").click()
    said.get_by_text("Nothing has been painted that is not saved.").wait_for()


def test_volumes_side_by_side_show_the_same_place(viewer: ViewerPage) -> None:
    go_to(viewer, ORGAN_LPS)
    viewer.press("h")
    viewer.press("6")
    viewer.page.wait_for_timeout(500)
    picture = viewer.picture()[..., 0].astype(int)
    half = (picture.shape[1] - 2) // 2
    left, right = picture[:, :half], picture[:, half + 2 :]
    brightest = [np.argwhere(part > part.max() - 3).mean(axis=0) for part in (left, right)]
    assert brightest[0] == pytest.approx(brightest[1], abs=3)


def test_cine_plays_and_stops(viewer: ViewerPage) -> None:
    viewer.tool("Play")
    viewer.page.wait_for_selector('.medmtl-viewer[data-front="second"]')
    seen = set()
    for _ in range(200):  # a busy machine plays slowly
        seen.add(viewer.page.locator(".medmtl-viewer").get_attribute("data-front"))
        if len(seen) == 2:
            break
        viewer.page.wait_for_timeout(37)
    frames = int(viewer.page.locator(".medmtl-viewer").get_attribute("data-frames") or 0)
    viewer.page.wait_for_timeout(500)
    later = int(viewer.page.locator(".medmtl-viewer").get_attribute("data-frames") or 0)
    assert later > frames
    assert seen == {"first", "second"}
    viewer.tool("Play")
    viewer.settle()


def test_three_d_shows_the_bodies(viewer: ViewerPage) -> None:
    viewer.press("5")
    picture = viewer.picture()
    assert tinted(picture, ORANGE).sum() > 50
    assert tinted(picture, BLUE).sum() > 50
    viewer.page.locator('select[title="3D"]').select_option("mip")
    grey = viewer.picture().astype(int)
    assert np.ptp(grey, axis=2).max() <= 2
    assert grey.max() > 150


def test_page_keys_reach_python(viewer: ViewerPage) -> None:
    viewer.press("n")
    viewer.heard("next_case")


def test_a_letter_with_control_is_the_browsers(viewer: ViewerPage) -> None:
    """Printing is no way to another case, copying no tool."""
    taken = [
        viewer.page.evaluate(
            """(key) => !document.body.dispatchEvent(new KeyboardEvent(
                'keydown', {key, ctrlKey: true, bubbles: true, cancelable: true}))""",
            key,
        )
        for key in ("p", "r", "c", "z")
    ]
    assert taken == [False, False, False, True]


def test_typing_in_a_field_of_the_page_is_no_shortcut(viewer: ViewerPage) -> None:
    before = viewer.picture()
    viewer.page.get_by_label("Go to", exact=True).press_sequentially("i")
    assert np.array_equal(viewer.picture(), before)


def test_theme_changes_without_loading_again(viewer: ViewerPage) -> None:
    viewer.has_all_findings()
    fetched: list[str] = []
    viewer.page.on("request", lambda request: fetched.append(request.url))
    viewer.choose("Theme", "light")
    viewer.page.wait_for_selector('.medmtl-viewer[data-theme="light"]')
    assert not [url for url in fetched if "medmtl/" in url]


@pytest.mark.slow
def test_ten_rounds_of_opening_and_closing_leak_no_context(viewer: ViewerPage) -> None:
    warnings: list[str] = []
    viewer.page.on("console", lambda message: warnings.append(message.text))
    contexts, heaps = [], []
    warm = 8  # compiled code and Streamlit's own caches are full by then
    for _ in range(warm + 10):
        viewer.toggle()
        contexts.append(viewer.alive("WebGL2RenderingContext"))
        heaps.append(viewer.heap_bytes())
        viewer.toggle()
        viewer.settle()
    assert viewer.picture().max() > 0
    assert not [text for text in warnings if "WebGL" in text]
    assert max(contexts) == 0
    assert heaps[-1] <= 1.05 * heaps[warm - 1]


def test_window_of_a_reader_survives_a_run_of_the_page(viewer: ViewerPage) -> None:
    viewer.page.locator('select[title="Window"]').select_option(label="Narrow")
    viewer.heard("window=(0.0, 100.0)")
    before = viewer.picture()
    viewer.choose("Theme", "light")
    viewer.page.wait_for_selector('.medmtl-viewer[data-theme="light"]')
    assert np.array_equal(viewer.picture(), before)
