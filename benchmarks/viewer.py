"""`medmtl view` in a headless Chromium with software WebGL: a case opens, and changes.

A case opens once its image, its masks and the map of its first finding are drawn. Another finding
is a click on its button in the page; what follows from Python beside the picture is timed apart.
Rounds of opening and closing are those of the component alone, in a page of its own. Where
`build/peers/niivue` is a virtual environment with niivue-streamlit, the same volume is opened in it
as well, in the same run.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import numpy as np

from benchmarks.record import Row, finish, options
from benchmarks.viewer_peer import measure_peer
from medmtl.data.volume_file import read_grid
from tests.app.results import case_record, finding, write_results
from tests.browser.driver import CHROMIUM, ViewerPage, browser, served
from tests.browser.stage import Stage, StageVolume, write_nifti
from tests.browser.viewer_command import viewer as running_viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SMALL, LARGE, QUICK = (256, 256, 128), (512, 512, 300), (64, 64, 32)
SEGMENTS = ("one", "two", "three", "four", "five", "six")
OPEN_S = {SMALL: 4.0, LARGE: 10.0, QUICK: 60.0}
CHANGE_S = {SMALL: 0.5, LARGE: 0.7, QUICK: 30.0}
FINDING_BYTES = 50_000
PATIENCE_MS = 120_000
ROUNDS = 10
WARM = 8  # rounds until compiled code and Streamlit's own caches are full
LEAK_PERCENT = 5.0

_WHEEL = (
    "const c = root.querySelector('.overlay'); const b = c.getBoundingClientRect();"
    "c.dispatchEvent(new WheelEvent('wheel', {deltaY: 120, clientX: b.left + 200,"
    " clientY: b.top + 150, bubbles: true, cancelable: true}))"
)
_PRESS = "document.dispatchEvent(new KeyboardEvent('keydown', {key: '%s'}))"
_PRESET = (
    "const s = root.querySelector('select[title=Window]');"
    "s.value = s.value === 'preset:0' ? 'preset:1' : 'preset:0';"
    "s.dispatchEvent(new Event('change'))"
)
_SEGMENT = "root.querySelector('.row[data-label=\"2\"] input[type=checkbox]').click()"
_OPACITY = (
    "const r = root.querySelector('.row[data-label=\"2\"] input[type=range]');"
    "r.value = r.value === '0.8' ? '0.4' : '0.8'; r.dispatchEvent(new Event('input'))"
)
_FINDING = "document.querySelector('.st-key-finding-%d button').click()"
_EVIDENCE = "(name) => document.querySelector('.m-evidence b')?.textContent.startsWith(name)"
_OPEN = ".medmtl-viewer[data-busy=false]:not([data-map=''])"
CHANGES: dict[str, list[str]] = {
    "slice": [_WHEEL] * 6,
    "window": [_PRESET] * 4,
    "opacity": [_OPACITY] * 4,
    "segment": [_SEGMENT] * 4,
    "layout": [_PRESS % key for key in "123454"],
}


def make_stage(folder: Path, shape: tuple[int, int, int]) -> None:
    """A noisy ball of water with six segments, and two maps on the image's grid."""
    grid = np.ogrid[tuple(slice(0, size) for size in shape)]
    centre = [(size - 1) / 2 for size in shape]

    def away(
        middle: list[float], share: float
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        parts = [((grid[a] - middle[a]) / (shape[a] * share)) ** 2 for a in range(3)]
        return np.asarray(sum(parts[1:], parts[0]))

    rng = np.random.default_rng(0)
    image = rng.integers(-30, 30, shape, dtype=np.int16)
    image += np.where(away(centre, 0.4) < 1, 40, -1000).astype(np.int16)
    labels = np.zeros(shape, dtype=np.uint8)
    for n in range(len(SEGMENTS)):
        shift = (0.2 * np.cos(n), 0.2 * np.sin(n), 0.05 * (n - 3))
        place = [c + s * size for c, s, size in zip(centre, shift, shape, strict=True)]
        is_here = away(place, 0.08) < 1
        labels[is_here] = n + 1
        image[is_here] += 60 + 20 * n
    affine = np.diag([-360 / shape[0], -360 / shape[1], 320 / shape[2], 1.0])
    write_nifti(folder / "image.nii.gz", image, affine)
    write_nifti(folder / "labels.nii.gz", labels, affine)
    maps = {}
    for n, name in enumerate(("first", "second")):
        place = [centre[0] * (0.7 + 0.6 * n), centre[1], centre[2]]
        cam = np.exp(-away(place, 0.15)).astype(np.float32)
        maps[name] = {"ct": write_nifti(folder / f"{name}.nii.gz", cam, affine)}
    presets = (("Soft", -160.0, 240.0), ("Wide", -600.0, 600.0))
    volume = StageVolume(
        "ct", "image.nii.gz", "labels.nii.gz", "CT", (-160.0, 240.0), None, presets
    )
    Stage((volume,), SEGMENTS, maps).write(folder)


def make_case(folder: Path) -> None:
    """The files of a stage as an image and a finished case over it; nothing is copied."""
    (folder / "images").mkdir()
    case = folder / "results" / "case"
    volume = {"id": "ct", "series_uid": "", "path": "image.nii.gz", "modality": "CT",
              **read_grid(folder, "image.nii.gz").as_json()}  # fmt: skip
    findings = [finding(name, 0.9, cam={"ct": f"ct/cam_{name}.nii.gz"})
                for name in ("first", "second")]  # fmt: skip
    segments = [{"volume": "ct", "label": n, "name": name, "volume_ml": 1.0, "voxels": 1,
                 "mean_intensity": 0.0} for n, name in enumerate(SEGMENTS, 1)]  # fmt: skip
    source = {"kind": "nifti", "study_uid": "", "volumes": [volume]}
    write_results(
        folder / "results", case_record("case", *findings, source=source, segments=segments)
    )
    (case / "ct").mkdir()
    os.link(folder / "image.nii.gz", folder / "images" / "image.nii.gz")
    os.link(folder / "labels.nii.gz", case / "ct" / "segmentation.nii.gz")
    for name in ("first", "second"):
        os.link(folder / f"{name}.nii.gz", case / "ct" / f"cam_{name}.nii.gz")


def _opened(chromium: Browser, address: str) -> tuple[ViewerPage, float]:
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(_OPEN, state="attached")
    viewer = ViewerPage(page)
    viewer.settle()
    return viewer, time.perf_counter() - began


def _changes(viewer: ViewerPage) -> dict[str, list[float]]:
    viewer.tool("Masks and map")
    return {name: [viewer.timed(act) for act in acts] for name, acts in CHANGES.items()}


@dataclass
class Switches:
    """Seconds until another finding's map is drawn, until its evidence is there; bytes moved."""

    drawn_s: list[float] = field(default_factory=list)
    told_s: list[float] = field(default_factory=list)
    bytes_moved: list[float] = field(default_factory=list)


def _findings(viewer: ViewerPage) -> Switches:
    viewer.page.wait_for_timeout(8000)  # until the 3D picture is sharp: a reader looks, then clicks
    moved = viewer.bytes_moved()
    found = Switches()
    for number in (1, 0) * 4:
        moved.clear()
        began = time.perf_counter()
        found.drawn_s.append(viewer.timed(_FINDING % number))
        viewer.page.wait_for_function(_EVIDENCE, arg=("First", "Second")[number], polling=10)
        found.told_s.append(time.perf_counter() - began)
        viewer.page.wait_for_timeout(1500)  # with what the viewer tells of its new place
        found.bytes_moved.append(sum(moved))
    return found


def _leak(viewer: ViewerPage) -> float:
    """Percent by which the heap grew over the rounds, with the viewer closed."""
    sizes = []
    for _ in range(WARM + ROUNDS):
        viewer.toggle()
        sizes.append(viewer.heap_bytes())
        viewer.toggle()
        viewer.settle()
    return 100 * (sizes[-1] / sizes[WARM - 1] - 1)


def _leak_of(chromium: Browser, folder: Path) -> float:
    with served(folder) as address:
        viewer: ViewerPage = ViewerPage.open(chromium, address)
        leaked = _leak(viewer)
        viewer.page.close()
    return leaked


def _measure(shape: tuple[int, int, int], chromium: Browser, folder: Path) -> list[Row]:
    name = "x".join(str(size) for size in shape)
    make_stage(folder, shape)
    make_case(folder)
    hosts: set[str] = set()
    with running_viewer(folder) as address:
        case = f"{address}/case?case=results%2Fcase"
        viewer, first_s = _opened(chromium, case)
        viewer.page.close()
        viewer, again_s = _opened(chromium, case)
        viewer.page.on("request", lambda r: hosts.add(urlparse(r.url).hostname or "127.0.0.1"))
        found = _changes(viewer)
        switches = _findings(viewer)
        found["finding"], moved = switches.drawn_s, max(switches.bytes_moved)
        viewer.page.close()
    leaked = None if shape == LARGE else _leak_of(chromium, folder)
    limit, most = OPEN_S[shape], CHANGE_S[shape]
    rows = [
        Row(
            f"{name}: opens, nothing prepared",
            f"{first_s:.1f} s",
            f"<= {limit:g} s",
            first_s <= limit,
        ),
        Row(f"{name}: opens again", f"{again_s:.1f} s", f"<= {limit:g} s", again_s <= limit),
    ]
    for change, taken in found.items():
        text = f"{statistics.median(taken):.2f} s, at most {max(taken):.2f} s"
        rows.append(Row(f"{name}: {change}", text, f"<= {most:g} s", max(taken) <= most))
    text = f"{statistics.median(switches.told_s):.2f} s, at most {max(switches.told_s):.2f} s"
    rows.append(Row(f"{name}: the evidence of another finding, beside the picture", text))
    text = f"{moved / 1000:.0f} kB"
    rows.append(Row(f"{name}: another finding moves", text, "< 50 kB", moved < FINDING_BYTES))
    if leaked is not None:
        rows.append(
            Row(f"{name}: {ROUNDS} rounds leak", f"{leaked:.1f} %", "< 5 %", leaked < LEAK_PERCENT)
        )
    away = ", ".join(sorted(hosts - {"127.0.0.1"})) or "none"
    rows.append(Row(f"{name}: other hosts asked", away, "none", away == "none"))
    return rows


def main() -> None:
    """Both sizes, then the peer on the smaller one.

    Raises:
        SystemExit: If Chromium is missing or a target was missed.
    """
    arguments = options("The viewer in a browser.")
    if CHROMIUM is None:
        raise SystemExit("chromium is not installed: apt-get install chromium")
    rows: list[Row] = []
    shapes = (QUICK,) if arguments.quick else (SMALL, LARGE)
    for shape in shapes:
        with tempfile.TemporaryDirectory() as folder, browser() as chromium:
            rows += _measure(shape, chromium, Path(folder))
            if shape == shapes[0]:
                rows += measure_peer(chromium, Path(folder))
    finish("viewer", rows, arguments)


if __name__ == "__main__":
    main()
