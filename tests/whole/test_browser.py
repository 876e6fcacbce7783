"""The pages after `make ui`: the saved views in a real browser, which checks their format.

LAB_SCREENSHOTS=reports/ui pytest tests/whole/test_browser.py trains the full study and saves screenshots there.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.support.swept import by_name, request, swept

SCREENSHOTS = os.environ.get("LAB_SCREENSHOTS")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SMALL = [(f"optimizer.learning_rate={rate}", f"model.hidden_size={size}") for rate in ("0.1", "10") for size in (4, 32)]
WIDTH, HEIGHT = 1400, 1300
PATIENCE = 60_000
"""Milliseconds that a busy machine is given for any one thing to be seen."""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


@contextmanager
def opened_ui(project: Path) -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    """The command under way, and the links that it has printed."""
    command = [sys.executable, "-m", "pipeline.ui", "--port", "0"]
    quiet = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    process = subprocess.Popen(command, cwd=project, env=quiet, stdout=subprocess.PIPE, text=True)
    links: dict[str, str] = {}
    assert process.stdout is not None
    for line in process.stdout:
        name, _, link = line.strip().rpartition("  ")
        links |= {name.strip(): link} if name else {}
        if "all studies" in links:
            break
    try:
        yield psutil.Process(process.pid), links
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@contextmanager
def browser_page() -> Iterator[Page]:
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        try:
            yield page
        finally:
            browser.close()


def save(page: Page, name: str) -> None:
    """Save what is seen, for the README."""
    if SCREENSHOTS is not None:
        page.wait_for_timeout(3000)  # what glides has arrived
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


def rgb(colour: str) -> str:
    """`#rrggbb` as a browser says it."""
    return f"rgb({', '.join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))})"


def train(project: Path) -> None:
    """The study in full, by its command; or a small grid, in this process. Before it, a study with several seeds."""
    repeated = ("experiment=three_bits", "training.epochs=50", "study=repeated")
    swept(project, [request(f"optimizer.learning_rate={rate}", f"seed={seed}", common=repeated)
                    for rate in ("0.1", "10") for seed in (1, 2)])  # fmt: skip
    if SCREENSHOTS is None:
        swept(project, [request(*own, common=("experiment=three_bits", "training.epochs=100")) for own in SMALL])
        return
    typed = [sys.executable, "-m", "pipeline.train", "-m", "experiment=three_bits"]
    done = subprocess.run(typed, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("sketched")
def test_what_a_person_sees(lab: Path, empty_store: Path) -> None:
    (lab / "mlruns").mkdir()
    shutil.copy(empty_store, lab / "mlruns" / "mlflow.db")
    train(lab)
    points = [run for run in by_name(lab, "three_bits").values() if run.data.tags["lab.role"] == "point"]
    runs = {str(run.info.run_name): run for run in points}
    assert len(runs) == (14 if SCREENSHOTS else 4)
    with opened_ui(lab) as (command, links), browser_page() as page:
        server = [one for one in command.children(recursive=True) if one.name() != "sh"]  # which guards it
        assert len(server) == 2
        assert list(links) == ["three_bits", "repeated", "repeated, seeds", "all studies"]
        page.goto(links["three_bits"])
        page.get_by_role("button", name="Close").first.click()  # MLflow opens its assistant, once
        sees_the_grid(page, {name: run.data.tags["mlflow.runColor"] for name, run in runs.items()})
        sees_images_by_step(page)
        compares(page, len(runs))
        sees_the_plain_charts(page, links["three_bits"], sorted(runs))
        sees_seeds(page, links["repeated"], links["repeated, seeds"])
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in server)


def sees_the_grid(page: Page, colours: dict[str, str]) -> None:
    """All points by name; parallel coordinates, contour and curves with all of them in the colours of their rates."""
    expect(page.get_by_text("Grid, NumPy")).to_be_visible()
    expect(page.get_by_text(f"{len(colours)} matching runs")).to_be_visible()
    for name in colours:
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    labels = page.locator(".parcoords .dimension .label")
    expect(labels).to_have_text(["log10_learning_rate", "model.hidden_size", "final/log10_loss"])
    contour = page.locator(".js-plotly-plot", has=page.locator(".contourlayer .contour"))
    expect(contour.locator(".scatterlayer .point")).to_have_count(len(colours))
    loss = page.locator(".js-plotly-plot:not(:has(.contourlayer .contour))").first
    lines = loss.locator(".scatterlayer path.js-line")
    expect(lines.first).to_be_attached()
    drawn = lines.evaluate_all("paths => paths.map(path => getComputedStyle(path).stroke)")
    assert len(drawn) >= len(colours)
    assert set(drawn) == {rgb(colour) for colour in colours.values()}
    assert loss.evaluate("plot => plot.layout.yaxis.type") == "log"
    save(page, "grid")


def sees_seeds(page: Page, grid: str, seeds: str) -> None:
    """A run for each point, with what its seeds have in common; and a view with means and bands over the seeds."""
    page.goto(grid)
    expect(page.get_by_text("2 matching runs")).to_be_visible()
    expect(page.get_by_role("link", name="lr 0.1", exact=True)).to_be_visible()
    save(page, "repeated")
    page.goto(seeds)
    expect(page.get_by_text("4 matching runs")).to_be_visible()
    expect(page.get_by_text("Group:").first).to_be_visible()
    loss = page.locator(".js-plotly-plot").first
    expect(loss.locator(".scatterlayer .fills path").first).to_be_attached()  # the band
    save(page, "seeds")


def sees_images_by_step(page: Page) -> None:
    """The first layer after training; moved back, the slider shows an earlier one."""
    slider = page.get_by_role("slider").first
    slider.scroll_into_view_if_needed()
    image = page.locator("img[src*='get-artifact']").first
    expect(image).to_be_visible()
    assert image.evaluate("image => image.naturalWidth") > 100
    save(page, "images")
    trained = step_of(image)
    slider.press("ArrowLeft")
    expect(image).not_to_have_attribute("src", re.compile(rf"step%2B{trained}%2B"))
    expect(image).to_be_visible()
    assert 0 <= step_of(image) < trained


def step_of(image: Locator) -> int:
    found = re.search(r"step%2B(\d+)%2B", str(image.get_attribute("src")))
    assert found is not None
    return int(found[1])


def compares(page: Page, count: int) -> None:
    """The page that compares all runs that are ticked: parallel coordinates, scatter, box and contour."""
    page.get_by_role("checkbox", name="Select all runs").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_text(f"Comparing {count} Runs from 1 Experiment")).to_be_visible()
    expect(page.get_by_role("tab")).to_have_text(
        ["Parallel Coordinates Plot", "Scatter Plot", "Box Plot", "Contour Plot"]
    )
    expect(page.locator(".js-plotly-plot .parcoords").first).to_be_visible()
    save(page, "compare")


def sees_the_plain_charts(page: Page, link: str, names: list[str]) -> None:
    """What is printed for a study without a saved view."""
    sorting = "orderByKey=metrics.%60hp%2Flearning_rate%60&orderByAsc=true"
    page.goto(re.sub(r"viewStateShareKey=grid", sorting, link))
    for name in names[:10]:
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
