"""JupyterLab as a user has it: a server of its own on copies of the notebooks, and their pages in Chromium."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from brcd_core.config import repository

START_SECONDS = 180
RUN_SECONDS = 1800

# What the page shows of each code cell; what is in a control is `controlled`. A broken image has a natural width of 0.
CELLS = """
const all = (cell, part) => [...cell.querySelectorAll(".jp-OutputArea " + part)];
const controlled = part => part.closest(".jupyter-widgets") !== null;
const figure = (image, cell) => ({
    source: image.src,
    natural: [image.naturalWidth, image.naturalHeight],
    cut: image.getBoundingClientRect().right > cell.getBoundingClientRect().right,
});
const texts = (cell, mime) => all(cell, `[data-mime-type="${mime}"]`).map(output => output.textContent);
return [...document.querySelectorAll(".jp-Notebook .jp-CodeCell")].map(cell => {
    const images = all(cell, "img").filter(image => image.checkVisibility());
    return {
        prompt: cell.querySelector(".jp-InputPrompt").textContent,
        figures: images.filter(image => !controlled(image)).map(image => figure(image, cell)),
        controlled: images.filter(controlled).map(image => figure(image, cell)),
        tables: all(cell, "table").filter(table => !controlled(table)).length,
        widgets: all(cell, ".jp-OutputArea-output > .jupyter-widgets").length,
        bars: all(cell, ".progress-bar").map(bar => bar.className),
        text: all(cell, ".jp-OutputArea-output").map(output => output.textContent).join(" "),
        errors: texts(cell, "application/vnd.jupyter.error"),
        warnings: texts(cell, "application/vnd.jupyter.stderr"),
    };
});
"""
# The page says "idle" before it is connected to the kernel, and drops what is run then.
STATUS = """
const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;
return kernel?.connectionStatus === "connected" ? kernel.status : null;
"""
HEIGHT = """
const place = part => document.querySelector(part)?.getBoundingClientRect();
return (place(".jp-Notebook-footer")?.bottom ?? 700) - (place(".jp-Cell")?.top ?? 0);
"""
SAVE = "const done = arguments[0]; jupyterapp.commands.execute('docmanager:save').then(() => done());"
CLOSE = "const done = arguments[0]; jupyterapp.serviceManager.sessions.shutdownAll().then(() => done());"


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """JupyterLab on `folder`/notebooks: the address of one, with {} for its name; a port and a token that are free.

    What the notebooks compute goes to `folder` too, and so does the server's log. The user's own settings do not count.
    """
    home = folder / "jupyter"
    news = home / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')  # else a question about it covers a corner
    environment = os.environ | {
        "BRCD_OUTPUT": str(folder), "BRCD_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE", "IPYTHONDIR": str(home / "ipython"), "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"), "JUPYTER_RUNTIME_DIR": str(home),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }  # fmt: skip
    command = [
        Path(sys.executable).with_name("jupyter"), "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0",
        f"--notebook-dir={folder / 'notebooks'}", "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a killed test ends its server too
    log = folder / "server.log"
    with open(log, "w") as file:
        process = subprocess.Popen(
            command, cwd=repository(), env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        about = home / f"jpserver-{process.pid}.json"
        deadline = time.monotonic() + START_SECONDS
        while not about.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")
            time.sleep(0.2)
        said = json.loads(about.read_text())
        yield f"{said['url']}lab/tree/{{}}?reset&token={said['token']}"
    finally:
        process.terminate()  # it ends its kernels
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def browser() -> Iterator[Chrome]:
    """Chromium without a window."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in programs.items() if path is None]:
        raise FileNotFoundError(f"{' and '.join(missing)} not found; run tests/browser/setup.sh")
    options = ChromeOptions()
    options.binary_location = programs["chromium"]
    options.set_capability("goog:loggingPrefs", {"browser": "SEVERE"})
    options.add_argument("--headless=new")
    options.add_argument("--window-size=1500,1000")
    options.add_argument("--disable-gpu")
    options.add_argument("--disable-dev-shm-usage")  # it is small in containers
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    driver = Chrome(options, ChromeService(programs["chromedriver"]))
    driver.set_script_timeout(60)
    try:
        yield driver
    finally:
        driver.quit()


def run_all(driver: Chrome, address: str) -> None:
    """Open a notebook, choose Run > Run All Cells, wait until nothing is left to run, and save it."""
    driver.get(address)
    wait = WebDriverWait(driver, START_SECONDS)
    wait.until(lambda _: driver.execute_script(STATUS) == "idle" or dialogs(driver))
    if dialogs(driver):
        return
    _click(wait, ".lm-MenuBar-item", "Run")
    _click(wait, ".lm-Menu-item", "Run All Cells")
    WebDriverWait(driver, RUN_SECONDS, poll_frequency=1).until(lambda _: dialogs(driver) or _finished(driver))
    driver.execute_async_script(SAVE)


def cells(driver: Chrome) -> list[dict[str, Any]]:
    """What the page shows of each code cell."""
    return driver.execute_script(CELLS)


def dialogs(driver: Chrome) -> list[str]:
    """What JupyterLab asks in the middle of the page, as which kernel to take where the notebook's is missing."""
    return [dialog.text for dialog in driver.find_elements(By.CSS_SELECTOR, ".jp-Dialog-content")]


def upload(driver: Chrome, path: Path) -> None:
    """Press the notebook's upload button and choose a file."""
    # The button opens a dialog of the system, which no driver can answer; in place of it its input is put on the page.
    driver.execute_script("HTMLInputElement.prototype.click = function () { document.body.append(this); }")
    driver.find_element(By.CSS_SELECTOR, ".widget-upload").click()
    driver.find_element(By.CSS_SELECTOR, "body > input[type=file]").send_keys(str(path))


def photograph(driver: Chrome, path: Path) -> None:
    """The whole notebook as one picture, or what there is of the page."""
    size = driver.get_window_size()
    driver.set_window_size(size["width"], min(driver.execute_script(HEIGHT) + 250, 16_000))
    driver.execute_script("document.querySelector('.jp-WindowedPanel-outer')?.scrollTo(0, 0)")
    time.sleep(1)  # to draw what was out of sight
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {})  # Selenium's own waits for 10 seconds at most
    path.write_bytes(b64decode(shot["data"]))
    driver.set_window_size(**size)


def close(driver: Chrome) -> None:
    """End the notebook's kernel, which is large."""
    driver.execute_async_script(CLOSE)


def _finished(driver: Chrome) -> bool:
    """No cell waits. The first has run, so it is not that none has begun."""
    prompts = [cell["prompt"] for cell in cells(driver)]
    return driver.execute_script(STATUS) == "idle" and prompts[0] == "[1]:" and "[*]:" not in prompts


def _click(wait: WebDriverWait, selector: str, text: str) -> None:
    def found(driver: Chrome) -> Any:
        return next((one for one in driver.find_elements(By.CSS_SELECTOR, selector) if one.text == text), None)

    wait.until(found).click()
