"""Two tracked runs beside each other and a promotion, read by a real browser from a real store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from medmtl.tracking.gate import Evidence, judge
from medmtl.tracking.gate_settings import load_gate
from medmtl.tracking.mlflow_run import start_run
from medmtl.tracking.mlflow_store import connect
from medmtl.tracking.promotion import record_decision
from medmtl.tracking.registry import register
from tests.app.results import write_seen_case
from tests.browser.driver import CHROMIUM
from tests.browser.viewer_command import viewer
from tests.evidence import write_evident

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import BrowserContext, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]
ROW_PX = 31
PATIENCE_MS = 60_000  # a busy machine draws a page slowly


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A viewer on a store with two runs and a model that was promoted."""
    folder: Path = tmp_path_factory.mktemp("experiments")
    write_seen_case(folder)
    store = folder / "store"
    for name, rate in (("joint", 0.1), ("apart", 0.2)):
        run = start_run(None, experiment="e", run_name=name, store=store, system_metrics_every_s=0)
        run.log_config({"lr": rate, "steps": 3})
        run.log_metrics({"val/dice": 1 - rate}, step=1)
        run.close("FINISHED")
    connection = connect(None, store=store)
    bundle = write_evident(folder / "bundle")
    settings, evidence = load_gate(), Evidence(bundle, bundle.metrics)
    record_decision(
        connection, register(connection, folder / "bundle"), alias="champion", by="a.lee",
        why="better masks", evidence=evidence, criteria=judge(evidence, None, settings),
        settings=settings,
    )  # fmt: skip
    uri = f"sqlite:///{(store / 'mlflow.db').as_posix()}"
    with viewer(folder / "results", "--tracking-uri", uri) as running:
        yield running


@pytest.fixture
def page(context: BrowserContext, address: str) -> Iterator[Page]:
    """Experiments."""
    opened = context.new_page()
    opened.goto(f"{address}/experiments")
    yield opened
    opened.close()


def test_two_chosen_runs_are_compared(page: Page) -> None:
    page.get_by_text("Parameters (2)").wait_for()  # of the newest run, before any is chosen
    box = page.locator("[data-testid=stDataFrame]").first.bounding_box()
    assert box is not None
    for row in (1, 2):
        page.mouse.click(box["x"] + 15, box["y"] + (row + 0.5) * ROW_PX)
        page.wait_for_timeout(500)
    page.get_by_text("Parameters that differ (1)").wait_for()
    table = page.locator("[data-testid=stDataFrame] table").nth(1)  # what a screen reader reads
    expect(table.locator("th")).to_have_text(["Metric", "apart", "joint"], timeout=PATIENCE_MS)
    expect(table.locator("tbody td")).to_have_text(["val/dice", "0.8", "0.9"], timeout=PATIENCE_MS)


def test_a_promotion_is_told_with_who_and_why(page: Page) -> None:
    page.get_by_role("tab", name="Models").click()
    page.get_by_text("Who promoted what").wait_for()
    cells = page.locator("[data-testid=stDataFrame] table td")
    for said in ("tiny-torso version 1", "champion", "passed", "a.lee", "better masks"):
        expect(cells.get_by_text(said, exact=True)).to_be_attached(timeout=PATIENCE_MS)
