"""Reports on a light and on a dark screen: each word, also in plots, stands out from its ground."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from medmtl.report.comparison_page import comparison_page
from tests.browser.driver import CHROMIUM, ROOT
from tests.integration.test_evaluate_report import evaluated  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]

READABLE = 4.5
"""Contrast that WCAG 2.2 asks of small letters."""

# Each text with its colour and the first opaque ground behind it.
_WORDS = """() => {
  const opaque = (colour) => !/^rgba\\(.*, 0\\)$/.test(colour) && colour !== 'transparent';
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (opaque(colour)) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.getClientRects().length || element.closest('style')) continue;
    const isDrawn = element.namespaceURI.endsWith('svg');
    const colour = getComputedStyle(element)[isDrawn ? 'fill' : 'color'];
    found.push({text, colour, ground: ground(element), isDrawn});
  }
  return found;
}"""


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of "rgb(r, g, b)"."""
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(colour: str, ground: str) -> float:
    low, high = sorted((luminance(colour), luminance(ground)))
    return (high + 0.05) / (low + 0.05)


def words(chromium: Browser, file: Path, theme: Any) -> list[dict[str, Any]]:
    page = chromium.new_page(color_scheme=theme)
    page.goto(file.as_uri())
    page.evaluate("() => document.querySelectorAll('details').forEach((one) => one.open = true)")
    found: list[dict[str, Any]] = page.evaluate(_WORDS)
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    page.close()
    assert (luminance(ground) < 0.1) == (theme == "dark")
    return found


@pytest.fixture(params=["comparison", "evaluation"])
def report(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The comparison on ACDC, from its numbers in the documentation, or an evaluation."""
    if request.param == "comparison":
        record = json.loads((ROOT / "docs" / "compare" / "acdc.json").read_text())
        (tmp_path / "compare.html").write_text(comparison_page(record), encoding="utf-8")
        return tmp_path / "compare.html"
    folder: Path = request.getfixturevalue("evaluated")[1]
    return folder / "report.html"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_word_stands_out(chromium: Browser, report: Path, theme: str) -> None:
    found = words(chromium, report, theme)
    assert sum(word["isDrawn"] for word in found) > 20, "words in the plots"
    faint = [word for word in found if contrast(word["colour"], word["ground"]) < READABLE]
    assert not faint
