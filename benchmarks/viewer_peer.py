"""niivue-streamlit on the same files: opening a volume with masks and a map, and an opacity.

python -m venv build/peers/niivue && build/peers/niivue/bin/pip install niivue-streamlit
"""

from __future__ import annotations

import io
import subprocess
import time
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from benchmarks.record import ROOT, Row
from tests.browser.driver import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from playwright.sync_api import Browser, Page

__all__ = ["measure_peer"]

PYTHON = ROOT / "build" / "peers" / "niivue" / "bin" / "python"
PATIENCE_S = 400.0
"""It was seen to open after 152 s on an idle machine; nothing is waited for longer than this."""

_PAGE = """
from pathlib import Path
import streamlit as st
from niivue_component import niivue_viewer
st.set_page_config(layout="wide")
folder = Path(FOLDER)
opacity = 0.8 if st.checkbox("Strong") else 0.3
read = lambda name: (folder / name).read_bytes()
niivue_viewer(
    nifti_data=read("image.nii.gz"), filename="image.nii.gz",
    overlays=[
        {"data": read("labels.nii.gz"), "name": "labels.nii.gz", "opacity": opacity},
        {"data": read("first.nii.gz"), "name": "first.nii.gz", "colormap": "inferno"},
    ],
    height=700, key="peer", update_interval_ms=None,
)
"""


def _picture(page: Page) -> NDArray[np.int16]:
    data = page.locator("iframe").first.screenshot(timeout=PATIENCE_S * 1000)
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)


def _differs(now: NDArray[np.int16], before: NDArray[np.int16]) -> bool:
    """Whether over 2 % of the picture is another."""
    if now.shape != before.shape:
        return True
    return bool((np.abs(now - before) > 12).any(axis=2).mean() > 0.02)


def _wait(page: Page, began: float, *, unlike: NDArray[np.int16]) -> float | None:
    """Seconds until the picture is another; None once patience ends."""
    while time.perf_counter() - began < PATIENCE_S:
        if _differs(_picture(page), unlike):
            return time.perf_counter() - began
        page.wait_for_timeout(50)
    return None


def _opened(page: Page, address: str) -> float | None:
    began = time.perf_counter()
    page.goto(address)
    page.wait_for_selector("iframe", timeout=PATIENCE_S * 1000)
    return _wait(page, began, unlike=_picture(page))


def _changed(page: Page) -> float | None:
    page.wait_for_timeout(3000)
    before = _picture(page)
    began = time.perf_counter()
    page.get_by_text("Strong").click()
    return _wait(page, began, unlike=before)


def _said(seconds: float | None) -> str:
    return f"{seconds:.1f} s" if seconds is not None else f"not within {PATIENCE_S:.0f} s"


def _rows(page: Page, address: str) -> list[Row]:
    """A page that draws nothing for so long may also answer no question; that is the same."""
    from playwright.sync_api import TimeoutError as NoAnswerError

    try:
        opened = _opened(page, address)
    except NoAnswerError:
        opened = None
    rows = [Row("niivue-streamlit: opens", _said(opened))]
    if opened is None:
        return [*rows, Row("niivue-streamlit: opacity", "not measured: it did not open")]
    try:
        changed = _changed(page)
    except NoAnswerError:
        changed = None
    return [*rows, Row("niivue-streamlit: opacity", _said(changed))]


def measure_peer(chromium: Browser, folder: Path) -> list[Row]:
    """Rows without targets; one that says so where the peer is not installed."""
    if not PYTHON.is_file():
        return [Row("niivue-streamlit", "not installed in build/peers/niivue")]
    script = folder / "peer_page.py"
    script.write_text(_PAGE.replace("FOLDER", repr(str(folder))), encoding="utf-8")
    port = free_port()
    command = [
        str(PYTHON), "-m", "streamlit", "run", str(script), "--server.port", str(port),
        "--server.address", "127.0.0.1", "--server.headless", "true",
        "--browser.gatherUsageStats", "false",
    ]  # fmt: skip
    with (folder / "peer.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        time.sleep(5)
        page = chromium.new_page(viewport={"width": 1440, "height": 900})
        rows = _rows(page, f"http://127.0.0.1:{port}")
        page.close()
    finally:
        process.terminate()
        process.wait(20)
    return rows
