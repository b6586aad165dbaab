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
from playwright.sync_api import Browser, Locator, Page, Playwright, sync_playwright

TOKEN = "browser-test"
START_SECONDS = 120.0
RUN_MILLISECONDS = 120_000
# a course may set its folder here: screenshots for the README are taken where this names one
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
def jupyter(folder: Path, home: Path, *options: str) -> Iterator[str]:
    """JupyterLab in a folder; gives its address, without a slash at the end.

    Args:
        folder: that it serves.
        home: for its own files.
        options: further ones of its command line.
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
        "AMLLAB_DATA": "drawn",
    }
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.port=0"]
    command += [
        "--ServerApp.ip=127.0.0.1",
        f"--IdentityProvider.token={TOKEN}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, *options], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
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
        page.goto(f"{address}/lab/tree/{path}?token={TOKEN}")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=RUN_MILLISECONDS)
        # a kernel is there: what is run before would be lost
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=RUN_MILLISECONDS)

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
        cell.locator(".jp-InputPrompt").click()
        self.page.keyboard.press("Control+Enter")

    def wait(self, cell: Locator) -> Locator:
        """The outputs of a cell, when it has been run."""
        done = cell.locator(".jp-InputPrompt", has_text=re.compile(r"\[\d+\]"))
        done.wait_for(timeout=RUN_MILLISECONDS)
        return cell.locator(".jp-OutputArea").first

    def run(self, cell: Locator) -> Locator:
        """Runs a cell; its outputs."""
        self.start(cell)
        return self.wait(cell)
