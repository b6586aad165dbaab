"""Jupyter servers on this machine, and headless Chromium in front of them.

Nothing of the user's own configuration takes part, and nothing is downloaded: Chromium is Playwright's own where it is
installed, else the one of the system.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, Playwright, expect, sync_playwright
from playwright.sync_api import TimeoutError as PageTimeout

TOKEN = "browser-test"
START_SECONDS = 120.0
RUN_MILLISECONDS = 120_000
TRIES, STARTED_MILLISECONDS = 5, 20_000
# a folder, where pictures for the documentation are to be taken
SCREENSHOTS = os.environ.get("AMLLAB_SCREENSHOTS")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless Chromium; skips the tests where there is none."""
    with sync_playwright() as playwright:
        browser = _launched(playwright)
        try:
            yield browser
        finally:
            browser.close()


def _launched(playwright: Playwright) -> Browser:
    own = playwright.chromium.executable_path
    found = (
        own
        if os.path.exists(own)
        else next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    )
    if found is None:
        pytest.skip("no Chromium on this machine: 'playwright install chromium', or the system's package")
    return playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])


@contextmanager
def jupyter(folder: Path, home: Path) -> Iterator[str]:
    """JupyterLab in a folder; gives its address, without a slash at the end.

    Args:
        folder: that it serves.
        home: for its own files.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "IPYTHON"))}
    runtime = home / "runtime"
    for name in ("runtime", "config", "data", "ipython"):
        (home / name).mkdir(parents=True, exist_ok=True)
    environment |= {
        "PATH": "/usr/bin:/bin",  # nothing is activated
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "AMLLAB_DATA": "drawn",
    }
    quiet = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.port=0"]
    command += [
        "--ServerApp.ip=127.0.0.1",
        f"--IdentityProvider.token={TOKEN}",
    ]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            yield _address(process, runtime, home / "log")
        finally:
            _end(process)


def _address(process: subprocess.Popen[bytes], runtime: Path, log: Path) -> str:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            with file.open() as text:
                found = text.read()
            if found.endswith("}"):
                return str(json.loads(found)["url"]).rstrip("/")
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()[-4000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a server with its kernels."""
    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in below:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue


class Notebook:
    """A notebook that is open in JupyterLab, worked on with mouse and keyboard.

    Args:
        page: of the browser.
        address: of the server.
        path: of the notebook on it.
    """

    def __init__(self, page: Page, address: str, path: str) -> None:
        self.page = page
        # a workspace of its own: no notebook of an earlier page is opened beside it
        page.goto(f"{address}/lab/workspaces/{Path(path).stem}/tree/{path}?token={TOKEN}")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=RUN_MILLISECONDS)
        # what is run before a kernel is there is lost, or JupyterLab asks for one; the toolbar says "idle" without one, too
        idle = page.locator("#jp-main-statusbar").get_by_text(re.compile(r"^(?!No Kernel).+\| Idle$"))
        idle.wait_for(timeout=RUN_MILLISECONDS)

    def cell(self, text: str) -> Locator:
        """The cell whose source has this in it."""
        return self.page.locator(".jp-Notebook .jp-CodeCell", has=self.page.locator(".cm-content", has_text=text)).first

    def write(self, cell: Locator, source: str) -> None:
        """Types a source in place of what is there."""
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(source)

    def start(self, cell: Locator) -> None:
        """Runs a cell as a reader does, and does not wait for its end."""
        prompt = cell.locator(".jp-InputPrompt")
        before = prompt.inner_text()
        for _ in range(TRIES):  # while the page still moves, a click may hit something else
            try:
                prompt.click(timeout=STARTED_MILLISECONDS)
                self.page.keyboard.press("Control+Enter")
                expect(prompt).not_to_have_text(before, timeout=STARTED_MILLISECONDS)
                return
            except (AssertionError, PageTimeout):
                continue
        open_dialogs = self.page.locator("dialog.jp-Dialog").all_inner_texts()
        text = self.page.locator("body").inner_text()[-2000:]
        raise AssertionError(f"the cell is not run; dialogs: {open_dialogs}; the page says: {text}")

    def wait(self, cell: Locator) -> Locator:
        """The outputs of a cell, when it has been run."""
        done = cell.locator(".jp-InputPrompt", has_text=re.compile(r"\[\d+\]"))
        done.wait_for(timeout=RUN_MILLISECONDS)
        return cell.locator(".jp-OutputArea").first

    def run(self, cell: Locator) -> Locator:
        """Runs a cell; its outputs."""
        self.start(cell)
        return self.wait(cell)


def picture(of: Locator | Page, name: str) -> None:
    """Takes a picture for the documentation, where pictures are asked for."""
    if SCREENSHOTS is None:
        return
    folder = Path(SCREENSHOTS)
    folder.mkdir(parents=True, exist_ok=True)
    of.screenshot(path=folder / f"{name}.png")


def hard_to_read(of: Locator) -> dict[str, float]:
    """Texts of a cell's output with too little contrast to what lies behind them, and that contrast, from 1 to 21.

    Formula and minima are those of WCAG 2 (1.4.3 and 1.4.11): 4.5 for words, 3 for marks.
    """
    return faint(of.locator(".jp-OutputArea-output").first)


def faint(of: Locator) -> dict[str, float]:
    """The same for any part of a page."""
    found: dict[str, float] = of.evaluate(_CONTRASTS)
    assert found
    return {text: contrast for text, contrast in found.items() if contrast < (4.5 if re.search(r"\w", text) else 3)}


_CONTRASTS = """output => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.5) return colour;
    }
    // what the browser paints where a page paints nothing: dark in a dark scheme
    const sheet = document.body.appendChild(document.createElement('div'));
    sheet.style.background = 'Canvas';
    const canvas = numbers(getComputedStyle(sheet).backgroundColor);
    sheet.remove();
    return canvas;
  };
  const opacity = element => element ? Number(getComputedStyle(element).opacity) * opacity(element.parentElement) : 1;
  const found = {};
  for (const element of output.querySelectorAll('*')) {
    const text = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join(' ').trim();
    if (!text) continue;
    const back = behind(element), share = opacity(element);
    const front = numbers(getComputedStyle(element).color).slice(0, 3).map((v, i) => share * v + (1 - share) * back[i]);
    const [low, high] = [luminance(front), luminance(back)].sort((a, b) => a - b);
    found[text.slice(0, 60)] = (high + 0.05) / (low + 0.05);
  }
  return found;
}"""
