"""A headless Chromium with software WebGL, and one page of it with a viewer."""

from __future__ import annotations

import base64
import io
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from playwright.sync_api import Browser, BrowserContext, Page, Playwright

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium")
BASE_FLAGS = (
    "--no-sandbox", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--disable-default-apps", "--no-default-browser-check",
)  # fmt: skip
SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NO_GL = ("--disable-3d-apis",)

_FIND = """
const viewer = (() => {
  const look = (root) => {
    for (const element of root.querySelectorAll('*')) {
      if (element.classList.contains('medmtl-viewer')) return element;
      const found = element.shadowRoot && look(element.shadowRoot);
      if (found) return found;
    }
    return null;
  };
  return look(document);
})();
"""
_SETTLED = (
    f"() => {{ {_FIND} return viewer !== null && viewer.dataset.busy === 'false' "
    "&& Number(viewer.dataset.frames) > 0; }"
)
# Copying the picture waits until the graphics device has drawn it.
_PICTURE = f"""() => {{ {_FIND}
  const layers = [...viewer.querySelectorAll('canvas.picture')];
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [layers[0].width, layers[0].height];
  layers.forEach((layer) => canvas.getContext('2d').drawImage(layer, 0, 0));
  return canvas.toDataURL('image/png');
}}"""
_PROBE = f"""() => {{ {_FIND}
  const probe = document.createElement('canvas').getContext('2d', {{ willReadFrequently: true }});
  probe.drawImage(viewer.querySelector('canvas.picture'), 0, 0, 1, 1);
  probe.getImageData(0, 0, 1, 1);
}}"""
# What a reader's hand does, timed in the page until the picture is there.
_TIMED = f"""async (action) => {{ {_FIND}
  const sleep = () => new Promise((done) => setTimeout(done, 2));
  const probe = document.createElement('canvas').getContext('2d', {{ willReadFrequently: true }});
  const before = Number(viewer.dataset.frames);
  const began = performance.now();
  const root = viewer.getRootNode();
  new Function('viewer', 'root', action)(viewer, root);
  while (Number(viewer.dataset.frames) === before || viewer.dataset.busy !== 'false') {{
    if (performance.now() - began > 30000) return -1;
    await sleep();
  }}
  probe.drawImage(viewer.querySelector('canvas.picture'), 0, 0, 1, 1);
  probe.getImageData(0, 0, 1, 1);
  return (performance.now() - began) / 1000;
}}"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def served(folder: Path, *, base: str = "") -> Iterator[str]:
    """The address of the page over a stage folder."""
    port = free_port()
    command = [sys.executable, "-m", "tests.browser.serve", str(folder), str(port), base]
    log = folder / "server.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream)
    address = f"http://127.0.0.1:{port}/{base}".rstrip("/")
    try:
        _wait(f"{address}/_stcore/health", process, log)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        try:
            with urlopen(address, timeout=1):  # noqa: S310 # our own server
                return
        except (URLError, OSError):
            if process.poll() is not None:
                raise RuntimeError(f"The server ended: {log.read_text()}") from None
            time.sleep(0.1)
    raise TimeoutError(f"The server does not answer: {log.read_text()}")


_RUNNING: list[Playwright] = []


@contextmanager
def _playwright() -> Iterator[Playwright]:
    """One of it in a process: a second one refuses to start."""
    from playwright.sync_api import sync_playwright

    if _RUNNING:
        yield _RUNNING[0]
        return
    with sync_playwright() as started:
        _RUNNING.append(started)
        try:
            yield started
        finally:
            _RUNNING.clear()


@contextmanager
def browser(*flags: str) -> Iterator[Browser]:
    """A Chromium of the system; nothing is downloaded."""
    with _playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=[*BASE_FLAGS, *(flags or SOFTWARE_GL)]
        )
        try:
            yield chromium
        finally:
            chromium.close()


@dataclass
class ViewerPage:
    """A page with a viewer in it; pixels are those of the picture's canvas."""

    page: Page

    @classmethod
    def open(cls, where: Browser | BrowserContext, address: str) -> Any:
        """Load the page and wait for the first picture; a context keeps what was loaded before."""
        page = where.new_page()
        page.set_viewport_size({"width": 1440, "height": 900})
        page.goto(address)
        viewer = cls(page)
        viewer.settle()
        return viewer

    def settle(self, timeout_s: float = 60) -> None:
        """Wait until everything is loaded and drawn."""
        self.page.wait_for_function(_SETTLED, timeout=timeout_s * 1000, polling=20)
        self.page.evaluate(_PICTURE)

    def has_all_findings(self) -> None:
        """Wait until what the other findings show has been fetched, too."""
        self.page.wait_for_selector('.medmtl-viewer[data-ahead="loaded"]')

    def frames(self) -> int:
        """How often it has been drawn."""
        return int(self.page.evaluate(f"() => {{ {_FIND} return Number(viewer.dataset.frames); }}"))

    def drawn_since(self, frames: int, timeout_s: float = 20) -> None:
        """Wait until it has been drawn more often than that, and nothing is under way."""
        drawn = f"(before) => {{ {_FIND} return Number(viewer.dataset.frames) > before; }}"
        self.page.wait_for_function(drawn, arg=frames, timeout=timeout_s * 1000, polling=20)
        self.settle()

    def picture(self) -> NDArray[np.uint8]:
        """What is drawn, without letters and lines, shape (rows, columns, 3)."""
        self.settle()
        data = self.page.evaluate(_PICTURE).partition(",")[2]
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            return np.asarray(image.convert("RGB"))

    def bytes_moved(self) -> list[float]:
        """A list to which the size of all that comes or goes is added from now on."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("Network.enable")
        moved: list[float] = []
        session.on("Network.loadingFinished", lambda e: moved.append(e["encodedDataLength"]))
        for name in ("Network.webSocketFrameReceived", "Network.webSocketFrameSent"):
            session.on(name, lambda e: moved.append(len(e["response"]["payloadData"])))
        return moved

    def timed(self, action: str) -> float:
        """Seconds from an action, JavaScript over `viewer` and `root`, until it is drawn."""
        return float(self.page.evaluate(_TIMED, action))

    def timed_until(self, action: Callable[[], object], *, map_of: str) -> float:
        """Seconds from something done in Python's part of the page until that map is drawn."""
        began = time.perf_counter()
        action()
        drawn = (
            f"(name) => {{ {_FIND} return viewer.dataset.busy === 'false' "
            "&& viewer.dataset.map === name; }"
        )
        self.page.wait_for_function(drawn, arg=map_of, polling=10)
        self.page.evaluate(_PROBE)
        return time.perf_counter() - began

    def press(self, key: str) -> None:
        """A key while the viewer has the focus."""
        self.page.locator(".medmtl-viewer").focus()
        self.page.keyboard.press(key)
        self.settle()

    def choose(self, label: str, option: str) -> None:
        """An entry of one of the page's select boxes."""
        box = self.page.get_by_label(label, exact=True).first
        box.click()
        box.fill(option)
        box.press("Enter")
        self.page.wait_for_timeout(50)

    def tool(self, title: str) -> None:
        """A button of the toolbar, by the beginning of its title."""
        self.page.locator(f'.medmtl-viewer .bar button[title^="{title}"]').click()
        self.settle()

    def status(self) -> str:
        """What the status line says."""
        return self.page.locator(".medmtl-viewer .status .words").inner_text()

    def at(self, share_x: float, share_y: float) -> tuple[float, float]:
        """A place of the stage in the coordinates of the page, from shares of its size."""
        box = self.page.locator(".medmtl-viewer .stage").bounding_box()
        assert box is not None
        return box["x"] + share_x * box["width"], box["y"] + share_y * box["height"]

    def toggle(self) -> None:
        """Closes the viewer, or opens it again."""
        viewer = self.page.locator(".medmtl-viewer")
        is_open = viewer.count() > 0
        self.page.get_by_text("Open", exact=True).click()
        viewer.wait_for(state="detached" if is_open else "attached")

    def alive(self, kind: str) -> int:
        """Objects of a class that the page still holds once rubbish is collected."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("HeapProfiler.enable")
        session.send("HeapProfiler.collectGarbage")
        made = session.send("Runtime.evaluate", {"expression": f"{kind}.prototype"})
        found = session.send(
            "Runtime.queryObjects", {"prototypeObjectId": made["result"]["objectId"]}
        )
        counted = session.send(
            "Runtime.callFunctionOn",
            {
                "objectId": found["objects"]["objectId"],
                "functionDeclaration": "function () { return this.length; }",
            },
        )
        for one in (found["objects"], made["result"]):  # or asking would keep them alive
            session.send("Runtime.releaseObject", {"objectId": one["objectId"]})
        session.detach()
        return int(counted["result"]["value"])

    def heap_bytes(self) -> int:
        """Size of the page's heap once rubbish is collected."""
        session = self.page.context.new_cdp_session(self.page)
        for _ in range(2):
            session.send("HeapProfiler.collectGarbage")
        used = session.send("Runtime.getHeapUsage")["usedSize"]
        session.detach()
        return int(used)

    def drag(
        self, start: tuple[float, float], end: tuple[float, float], *, button: Any = "left"
    ) -> None:
        """From one place of the stage to another, in shares of its size."""
        mouse = self.page.mouse
        mouse.move(*self.at(*start))
        mouse.down(button=button)
        mouse.move(*self.at((start[0] + end[0]) / 2, (start[1] + end[1]) / 2))
        mouse.move(*self.at(*end))
        mouse.up(button=button)
        self.settle()

    def is_told(self, words: str) -> bool:
        """Whether Python has told the viewer these words last."""
        return words in self.page.locator("#told").inner_text()

    def told(self, words: str) -> None:
        """Wait until Python has told the viewer what these words of the page say."""
        self.page.wait_for_function(
            "(words) => document.querySelector('#told').innerText.includes(words)", arg=words
        )
        self.page.wait_for_timeout(150)  # from the page into the component
        self.settle()

    def heard(self, words: str) -> str:
        """Wait until an event with these words has reached Python."""
        self.page.wait_for_function(
            "(words) => document.querySelector('#event').innerText.includes(words)", arg=words
        )
        return self.event()

    def event(self) -> str:
        """The last event that reached Python, as its repr."""
        return self.page.locator("#event").inner_text()
