"""Jupyter servers on this machine, and headless Chromium as their client.

The user's own configuration has no effect, and nothing is downloaded: Chromium is Playwright's if that is installed,
otherwise the system's.
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
# folder for screenshots for the documentation; unset if none are wanted
SCREENSHOTS = os.environ.get("AMLLAB_SCREENSHOTS")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start headless Chromium; skip the tests if there is none."""
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
    """Start JupyterLab in a folder and yield its address, without a slash at the end.

    Args:
        folder: the folder that it serves.
        home: folder for its own files.
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
    """End a server with its kernels."""
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
    """A notebook that is open in JupyterLab, operated with mouse and keyboard.

    Args:
        page: page of the browser.
        address: address of the server.
        path: path of the notebook on the server.
    """

    def __init__(self, page: Page, address: str, path: str) -> None:
        self.page = page
        # a separate workspace, so that no notebook of an earlier page is opened next to it
        page.goto(f"{address}/lab/workspaces/{Path(path).stem}/tree/{path}?token={TOKEN}")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=RUN_MILLISECONDS)
        # input before the kernel is ready is lost, or makes JupyterLab ask for a kernel; without a kernel, the status
        # bar says "idle" too
        idle = page.locator("#jp-main-statusbar").get_by_text(re.compile(r"^(?!No Kernel).+\| Idle$"))
        idle.wait_for(timeout=RUN_MILLISECONDS)

    def cell(self, text: str) -> Locator:
        """Return the first cell whose source contains a text."""
        return self.page.locator(".jp-Notebook .jp-CodeCell", has=self.page.locator(".cm-content", has_text=text)).first

    def write(self, cell: Locator, source: str) -> None:
        """Replace the source of a cell by typing."""
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(source)

    def start(self, cell: Locator) -> None:
        """Run a cell as a user does, without waiting for its end."""
        prompt = cell.locator(".jp-InputPrompt")
        before = prompt.inner_text()
        for _ in range(TRIES):  # while the page is still moving, a click may hit something else
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
        """Wait until a cell has been run, and return its outputs."""
        done = cell.locator(".jp-InputPrompt", has_text=re.compile(r"\[\d+\]"))
        done.wait_for(timeout=RUN_MILLISECONDS)
        return cell.locator(".jp-OutputArea").first

    def run(self, cell: Locator) -> Locator:
        """Run a cell and return its outputs."""
        self.start(cell)
        return self.wait(cell)


def picture(of: Locator | Page, name: str) -> None:
    """Take a screenshot for the documentation, if screenshots are wanted."""
    if SCREENSHOTS is None:
        return
    folder = Path(SCREENSHOTS)
    folder.mkdir(parents=True, exist_ok=True)
    of.screenshot(path=folder / f"{name}.png")


def hard_to_read(of: Locator) -> dict[str, float]:
    """Return texts of a cell's output with too little contrast to their background, with their contrast, from 1 to 21.

    Formula and minima are those of WCAG 2 (1.4.3 and 1.4.11): 4.5 for words, 3 for symbols.
    """
    return faint(of.locator(".jp-OutputArea-output").first)


def faint(of: Locator) -> dict[str, float]:
    """Return the same as :func:`hard_to_read` for any part of a page."""
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
